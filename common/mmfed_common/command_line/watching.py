"""Showing something anew until a person has seen enough."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator


def until_interrupted(seconds: float) -> Generator[None, None, None]:
    """Come back at once, and then every so many seconds, until a person presses Ctrl-C.

    The first press only sets a flag: raised as an exception it can come where nobody passes it on, in a
    destructor for instance, and be lost. A second press raises KeyboardInterrupt, in case one turn does not
    end.
    """
    enough = threading.Event()

    def pressed(*_: object) -> None:
        if enough.is_set():
            raise KeyboardInterrupt
        enough.set()

    before = signal.signal(signal.SIGINT, pressed)
    try:
        yield
        while not enough.wait(seconds):
            yield
    finally:
        signal.signal(signal.SIGINT, before)
