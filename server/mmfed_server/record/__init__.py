"""The record of runs: state, status and diary of each, in a folder or in a database.

Nothing is imported here: who only lists runs need not wait for what a state is made of.
"""
