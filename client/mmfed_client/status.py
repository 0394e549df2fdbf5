"""What a site is doing: one small file in its home, replaced in one step at every change.

It stays on the machine: a cause may name a file or a column of the site's tables. What is to leave the
machine, or to be collected by others, is in the log and in the metrics, which hold codes instead.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from mmfed_common.durable import write_status
from mmfed_common.error_codes import CODES
from mmfed_common.errors import MmfedError

logger = logging.getLogger(__name__)


class State(StrEnum):
    """What a site is doing."""

    starting = "starting"
    """The program begins."""
    waiting_for_study = "waiting for a study"
    """The coordinator offers none, and none was approved before."""
    waiting_for_approval = "waiting for approval"
    """A study is offered that nobody here has approved."""
    blocked = "blocked"
    """Something here, or in the study, forbids to take part; the code says what."""
    opening = "opening the cohort"
    """The study is approved; the site reads its tables."""
    connecting = "connecting"
    """The cohort is open; the server has not been reached yet."""
    ready = "ready"
    """Connected; the next message is awaited."""
    working = "working"
    """A message is being answered."""
    trying_again = "trying again"
    """Something failed; the next attempt follows by itself."""
    stopped = "stopped"
    """The program ended because someone asked it to."""
    died = "ended without saying so"
    """The status file says that the program works, but it does not run."""


@dataclass(frozen=True)
class Sent:
    """The last thing that left, and how much left since the program began."""

    kind: str = ""
    time: str = ""
    messages: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Status:
    """What a site is doing.

    Attributes
    ----------
    state, code, cause
        What, and if something is in the way: its code and its cause.
    since
        When the state began, ISO 8601 in UTC.
    study, study_hash
        The study that runs or would run.
    offered
        Hash of the study that the coordinator offers now.
    round, rounds
        The round last worked on, of how many; 0 before the first.
    attempts
        Starts of the node's process that failed in a row.
    restarts
        Starts of the node's process after the first.
    """

    site: str
    federation: str
    state: State = State.starting
    code: str = ""
    cause: str = ""
    since: str = ""
    study: str = ""
    study_hash: str = ""
    offered: str = ""
    doing: str = ""
    round: int = 0
    rounds: int = 0
    sent: Sent = field(default_factory=Sent)
    attempts: int = 0
    restarts: int = 0
    pid: int = 0
    node_pid: int = 0
    updated: str = ""

    @property
    def next_step(self) -> str:
        """What a person can do about the code; empty without one."""
        return CODES[self.code].next_step if self.code in CODES else ""

    def entered(self, state: State, code: str = "", cause: str = "", **changes: Any) -> Status:
        """Give the status after a change of state; ``since`` moves only when the state or its code does."""
        same = (state, code) == (self.state, self.code)
        since = self.since if same and self.since else now_text()
        return replace(self, state=state, code=code, cause=cause, since=since, **changes)

    def troubled(self, state: State, error: MmfedError, **changes: Any) -> Status:
        """Give the status after an error."""
        where = f" ({error.where})" if error.where else ""
        return self.entered(state, error.code, f"{error.what}{where}", **changes)

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with the next step."""
        return {**asdict(self), "next_step": self.next_step}


class StatusFile:
    """The file; one process writes it, any number read it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._last: Status | None = None

    def write(self, status: Status) -> None:
        """Replace the file if anything changed; a full disk is logged and stops nothing."""
        if self._last is not None and replace(status, updated="") == replace(self._last, updated=""):
            return
        text = json.dumps(replace(status, updated=now_text()).as_dict(), indent=2)
        try:
            write_status(self.path, text)
        except OSError as error:
            logger.warning("MMF-112 the status cannot be written: %s", error.strerror)
        else:
            self._last = status

    def read(self) -> Status | None:
        """Read the file; None where there is none, or one that cannot be understood."""
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            content.pop("next_step", None)
            sent = Sent(**content.pop("sent"))
            return Status(**{**content, "state": State(content["state"]), "sent": sent})
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            logger.warning("the status file cannot be read: %s", type(error).__name__)
            return None


def now_text() -> str:
    """The time now in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
