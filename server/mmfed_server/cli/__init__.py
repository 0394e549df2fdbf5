"""``mmfed-server``: one command a file, each thin over a function that tests can call."""

from mmfed_server.cli.program import main

__all__ = ["main"]
