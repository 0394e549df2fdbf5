"""How long the machine stood still: what is promised within seconds cannot hold while nothing runs."""

from __future__ import annotations

import threading
import time
from types import TracebackType

TICK_SECONDS = 0.1
USUAL_SECONDS = 0.5
"""A tick that comes later than that is a pause."""


class Pauses:
    """Use as a context manager around what is timed; :attr:`seconds` is what the machine took for itself."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="pauses", daemon=True)

    def __enter__(self) -> Pauses:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        last, ended = time.monotonic(), False
        while not ended:
            ended = self._end.wait(TICK_SECONDS)
            now = time.monotonic()
            if now - last > USUAL_SECONDS:
                self.seconds += now - last
            last = now
