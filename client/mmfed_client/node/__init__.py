"""The node: the process that opens the cohort, speaks with the server and trains; it works on one study.

It is started by the supervisor (``python -m mmfed_client.node``) and ends with it.
"""
