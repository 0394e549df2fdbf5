"""What a run needs of whatever keeps its record: a folder in a simulation, a database at a coordinator."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Protocol

from mmfed_server.record.state import RunState

RunStatus = Literal["prepared", "waiting", "running", "stopped", "finished", "failed"]
"""``waiting``: for sites. ``stopped``: on purpose, to be gone on with. The other words say what they mean."""


class RunRecord(Protocol):
    """Keeps one run: its state after each round, its status, its diary."""

    def load(self) -> RunState | None:
        """Give the state after the last committed round; None when nothing was committed.

        Raises
        ------
        StudyError
            ``MMF-509`` when it is damaged.
        """

    def rewind(self, state: RunState | None) -> None:
        """Make ready to go on from this state, which :meth:`load` gave; from the start when it is None."""

    def commit(self, state: RunState) -> None:
        """Replace the state, in one step, with everything that belongs to it.

        Raises
        ------
        OSError
            When the disk is full.
        StudyError
            ``MMF-530`` when the database cannot be used, ``MMF-531`` when another process writes the run.
        """

    def finish(self, state: RunState) -> None:
        """Keep the final weights in the form in which they are taken from here."""

    def write_status(self, status: RunStatus, code: str = "", reason: str = "", **details: Any) -> None:
        """Say how the run stands; ``details`` is small and can be written as JSON."""

    def event(self, event: str, **details: Any) -> None:
        """Add a line to the diary."""

    def note_opened(self, round_number: int, sites: tuple[str, ...]) -> None:
        """Note, durably, of which sites a round's masked sum is about to be opened; 0: before round 1."""

    def opened(self, round_number: int) -> tuple[str, ...]:
        """Give what :meth:`note_opened` noted last for a round, whatever was rewound since; else empty."""

    def spool(self) -> Path:
        """Give an empty folder for a round's updates; nothing in it outlives the process's need of it."""

    def close(self) -> None:
        """Let go of files and connections."""
