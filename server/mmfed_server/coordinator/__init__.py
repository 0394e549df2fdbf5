"""The coordinator's process: one public port, the study's rounds, and what a person can see of both.

Import its modules one by one: those that only look need not load what those need that serve.
"""
