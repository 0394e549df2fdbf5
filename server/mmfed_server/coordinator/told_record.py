"""A run's record that also tells: its status goes to the board, its diary to the log."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from mmfed_server.coordinator.board import Board
from mmfed_server.logs import tell
from mmfed_server.record.database_record import DatabaseRecord
from mmfed_server.record.record import RunStatus

LOUD = {"failed", "refused", "round-repeated"}
"""Diary entries that are warnings."""
STOPPED = "MMF-521"
"""Stopping on purpose is told by who asks for it."""


class ToldRecord(DatabaseRecord):
    """A :class:`~mmfed_server.record.DatabaseRecord` that tells board and log.

    Parameters
    ----------
    engine, run, folder
        As there.
    board
        Shows how the run stands.
    """

    def __init__(self, engine: Engine, run: str, folder: Path, board: Board) -> None:
        super().__init__(engine, run, folder)
        self.board = board

    def write_status(self, status: RunStatus, code: str = "", reason: str = "", **details: Any) -> None:
        """Say how the run stands."""
        super().write_status(status, code, reason, **details)
        self.board.set_state("waiting" if status == "prepared" else status, code, reason, **details)

    def event(self, event: str, **details: Any) -> None:
        """Add a line to the diary and to the log."""
        super().event(event, **details)
        if details.get("code") == STOPPED:
            return
        tell(event, logging.WARNING if event in LOUD else logging.INFO, **details)
