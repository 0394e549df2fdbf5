"""Split work over threads without changing its result: each part is done wholly by one thread.

Training has one thread, so that sums are taken in one order (``mmfed_client.training.reproducible``). What is
exact in any order, such as masks and signatures, need not keep to that: it may use all :func:`cores`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from threading import local

import torch

MOST_CORES = 8
"""More gain little on pieces of work as small as these."""

_inside = local()
"""``shares``: this thread does a part of shared work; if it waited for the pool, that could last for ever."""


def cores() -> int:
    """How many processor cores this process may use, at most eight."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, MOST_CORES)


def share_out(work: Callable[[int, int], None], parts: int, threads: int = 0) -> None:
    """Run ``work(first, last)`` over ranges of ``parts``.

    The work must release the interpreter lock and write only what belongs to its own range. If it shares out
    work itself, one thread does that. What it raises is raised when no part is at work any more.

    Parameters
    ----------
    threads
        At most so many; 0: as many as torch uses.
    """
    threads = min(threads or torch.get_num_threads(), parts)
    if threads <= 1 or getattr(_inside, "shares", False):
        work(0, parts)
        return
    bounds = [parts * i // threads for i in range(threads + 1)]
    pool = _pool(os.getpid(), threads - 1)
    waiting = [pool.submit(_share, work, bounds[i], bounds[i + 1]) for i in range(1, threads)]
    try:
        _share(work, bounds[0], bounds[1])
    finally:
        wait(waiting)
    for part in waiting:
        part.result()


def _share(work: Callable[[int, int], None], first: int, last: int) -> None:
    _inside.shares = True
    try:
        work(first, last)
    finally:
        _inside.shares = False


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """One pool for each process: threads do not survive a fork."""
    return ThreadPoolExecutor(threads, thread_name_prefix=f"mmfed-{process}")
