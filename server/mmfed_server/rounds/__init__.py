"""The rounds of a run: who is there, what is asked, what becomes of the answers."""

from mmfed_server.rounds.run import DISK_FULL, run_rounds

__all__ = ["DISK_FULL", "run_rounds"]
