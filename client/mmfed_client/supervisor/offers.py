"""Asks the coordinator again and again which study it offers, beside everything else.

A request may wait long for a network that is gone, so it runs in a thread of its own; the supervisor never
waits for it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from mmfed_client.logs import about
from mmfed_common.errors import MachineError, MmfedError
from mmfed_common.signed_study import SignedStudy

logger = logging.getLogger(__name__)

INTERVAL_SECONDS = 3.0
SLOW_SECONDS = 20.0
"""While a node is connected: a new study is then not urgent."""


@dataclass(frozen=True)
class Answer:
    """What came of one question.

    Attributes
    ----------
    offer
        The signed study; None where none is offered, or nobody answered.
    error
        Why there was no answer.
    """

    offer: SignedStudy | None = None
    error: MmfedError | None = None


class OfferWatch:
    """The thread that asks.

    Parameters
    ----------
    ask
        Asks once; raises a :class:`MmfedError` when there is no answer.
    deliver
        Takes each answer; called from this thread.
    """

    def __init__(
        self,
        ask: Callable[[], SignedStudy | None],
        deliver: Callable[[Answer], None],
        interval: float = INTERVAL_SECONDS,
    ) -> None:
        self._ask = ask
        self._deliver = deliver
        self.interval = interval
        self._wake = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="offers", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def ask_now(self) -> None:
        """Ask without waiting for the interval to pass."""
        self._wake.set()

    def end(self) -> None:
        """Ask no more; a question that is under way is left to itself."""
        self._ended = True
        self._wake.set()

    def _run(self) -> None:
        while not self._ended:
            self._wake.clear()
            answer = self._once()
            if not self._ended:
                self._deliver(answer)
                self._wake.wait(self.interval)

    def _once(self) -> Answer:
        try:
            return Answer(self._ask())
        except MmfedError as error:
            return Answer(error=error)
        except Exception as error:  # the thread must outlive a defect; the log names it
            logger.error("asking for a study failed: %s", error, exc_info=True, extra=about(code="MMF-118"))
            return Answer(error=MachineError("MMF-118", type(error).__name__))
