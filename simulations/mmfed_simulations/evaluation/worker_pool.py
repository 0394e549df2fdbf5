"""Worker processes that stay: starting one, and importing what trains, takes longer than many a training."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import torch

_POOLS: dict[int, ProcessPoolExecutor] = {}
"""Number of processes → those that were started; they end with the program."""


def kept_pool(workers: int) -> ProcessPoolExecutor:
    """Give processes of one thread each. Submit to them within :class:`one_thread_each`: that starts them."""
    if workers not in _POOLS:
        context = multiprocessing.get_context("spawn")
        _POOLS[workers] = ProcessPoolExecutor(workers, context, torch.set_num_threads, (1,))
    return _POOLS[workers]


def drop_pool(workers: int) -> None:
    """End processes after an error, without waiting for what they do; the next call has new ones."""
    pool = _POOLS.pop(workers, None)
    if pool is not None:
        pool.shutdown(wait=False, cancel_futures=True)


class one_thread_each:  # noqa: N801 - a context manager
    """Let processes that start meanwhile use one thread, so that they do not fight for the cores."""

    NAMES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")

    def __enter__(self) -> None:
        self.before = {name: os.environ.get(name) for name in self.NAMES}
        os.environ.update(dict.fromkeys(self.NAMES, "1"))

    def __exit__(self, *_: object) -> None:
        for name, value in self.before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
