"""``mmfed-client``: one command a file, each thin over a function that tests can call."""

from mmfed_client.cli.program import main

__all__ = ["main"]
