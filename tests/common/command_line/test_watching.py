"""A person can always stop looking, wherever the program is when the key is pressed."""

from __future__ import annotations

import signal

import pytest

from mmfed_common.command_line.watching import until_interrupted


class Swallower:
    """Its destructor is where an exception is not passed on."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def test_a_press_in_a_destructor_is_not_lost() -> None:
    before = signal.getsignal(signal.SIGINT)
    turns = 0
    for _ in until_interrupted(0.01):
        turns += 1
        assert turns < 4
        if turns == 3:
            Swallower()
    assert turns == 3
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_press_ends_a_turn_that_does_not_end() -> None:
    before = signal.getsignal(signal.SIGINT)
    turns = until_interrupted(0.01)
    next(turns)
    signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    turns.close()
    assert signal.getsignal(signal.SIGINT) is before
