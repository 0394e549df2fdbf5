"""Shared work: each part is done once, whatever fails or nests."""

from __future__ import annotations

import threading
import time

import pytest

from mmfed_common.threads import MOST_CORES, cores, share_out


def test_every_part_is_done_once() -> None:
    for threads in (1, 2, 3, 7):
        done = [0] * 5

        def work(first: int, last: int, done: list[int] = done) -> None:
            for part in range(first, last):
                done[part] += 1

        share_out(work, len(done), threads)
        assert done == [1] * 5
    assert 1 <= cores() <= MOST_CORES


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_an_error_comes_when_no_part_is_at_work_any_more(bad: int) -> None:
    at_work = []

    def work(first: int, last: int) -> None:
        if first == bad:
            raise ValueError("a part failed")
        time.sleep(0.05)
        at_work.append(first)

    with pytest.raises(ValueError, match="a part failed"):
        share_out(work, 3, 3)
    assert len(at_work) == 2


def test_work_that_shares_out_work_ends() -> None:
    done = []

    def inner(first: int, last: int) -> None:
        done.append((threading.get_ident(), last - first))

    share_out(lambda first, last: share_out(inner, 4, 4), 4, 4)
    assert sum(count for _, count in done) == 16
