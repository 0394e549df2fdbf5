"""Split work over threads without changing its result: each part is done wholly by one thread."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch


def split(work: Callable[[int, int], None], parts: int) -> None:
    """Run ``work(first, last)`` over ranges of ``parts``, on as many threads as torch uses.

    The work must release the interpreter lock and write only what belongs to its own range.
    """
    threads = min(torch.get_num_threads(), parts)
    if threads <= 1:
        work(0, parts)
        return
    bounds = [parts * i // threads for i in range(threads + 1)]
    pool = _pool(os.getpid(), threads - 1)
    waiting = [pool.submit(work, bounds[i], bounds[i + 1]) for i in range(1, threads)]
    work(bounds[0], bounds[1])
    for part in waiting:
        part.result()


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """One pool for each process: threads do not survive a fork."""
    return ThreadPoolExecutor(threads, thread_name_prefix=f"mmfed-{process}")
