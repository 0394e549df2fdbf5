"""Worker processes that stay: starting one, and importing what trains, takes longer than many a training."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import re
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, TypeVar

import psutil
import torch

Shared = TypeVar("Shared")
Argument = TypeVar("Argument")
Result = TypeVar("Result")

PREFIX = ".inputs-"
"""Of a file with what all calls share; then comes the number of the process that wrote it."""

_POOLS: dict[int, ProcessPoolExecutor] = {}
"""Number of processes → the pool that is kept: one at most. It ends with the program."""
_WRITTEN: set[Path] = set()
"""Files of this process that a call under way needs."""


def in_workers(
    function: Callable[[Shared, Argument], Result],
    shared: Shared,
    arguments: Sequence[Argument],
    workers: int,
    folder: Path,
    finished: Callable[[Argument, Result], None],
) -> None:
    """Call a function with each argument in processes of one thread each, which stay for the next time.

    Parameters
    ----------
    function
        Of a module: processes import it by its name.
    shared
        First argument of every call. Each process reads it once, from a file that lies in ``folder`` until
        all is done.
    workers
        How many processes.
    folder
        Must be there. Files in it that a program left when it was killed are removed.
    finished
        Told each argument with its result, in the order in which they end.

    Raises
    ------
    BrokenProcessPool
        When a process is killed during the call.
    Exception
        Whatever a call or ``finished`` raises first; calls that run are ended, the others do not begin.
    """
    with _in_a_file(shared, folder) as content:
        try:
            try:
                futures = _submit(function, content, arguments, workers)
            except BrokenProcessPool:  # a process was killed since the last call
                drop_pool()
                futures = _submit(function, content, arguments, workers)
            for future in as_completed(futures):
                finished(futures[future], future.result())
        except BaseException:
            drop_pool()
            raise


def drop_pool() -> None:
    """End the processes that are kept, at once, whatever they do; the next call has new ones."""
    while _POOLS:
        _, pool = _POOLS.popitem()
        for process in list(pool._processes.values()):
            process.kill()
        pool.shutdown(cancel_futures=True)


def _kept_pool(workers: int) -> ProcessPoolExecutor:
    kept = _POOLS.get(workers)
    if kept is None or wait([process.sentinel for process in kept._processes.values()], 0):
        drop_pool()
        context = multiprocessing.get_context("spawn")
        _POOLS[workers] = ProcessPoolExecutor(workers, context, _begin)
    return _POOLS[workers]


def _begin() -> None:
    """In a worker process: one thread, and no longer life than the program that started it."""
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()


def _end_with_parent() -> None:
    """A program that is killed ends no worker, and one that waits for work would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _submit(
    function: Callable[[Shared, Argument], Result], content: Path, arguments: Sequence[Argument], workers: int
) -> dict[Future[Result], Argument]:
    pool = _kept_pool(workers)
    with _one_thread_each():
        return {pool.submit(_call, function, content, argument): argument for argument in arguments}


_READ: dict[Path, Any] = {}
"""In a worker process: what all calls share, as it was read last."""


def _call(function: Callable[[Shared, Argument], Result], content: Path, argument: Argument) -> Result:
    """In a worker process: call the function."""
    if content not in _READ:
        _READ.clear()
        _READ[content] = pickle.loads(content.read_bytes())
    return function(_READ[content], argument)


@contextmanager
def _in_a_file(shared: object, folder: Path) -> Iterator[Path]:
    """Write what all calls share: tensors would travel through shared memory, which containers keep small."""
    _remove_left(folder)
    handle, name = tempfile.mkstemp(prefix=f"{PREFIX}{os.getpid()}-", dir=folder)
    path = Path(name)
    _WRITTEN.add(path)
    try:
        with os.fdopen(handle, "wb") as file:
            pickle.dump(shared, file, protocol=pickle.HIGHEST_PROTOCOL)
        yield path
    finally:
        path.unlink(missing_ok=True)
        _WRITTEN.remove(path)


def _remove_left(folder: Path) -> None:
    """Remove files whose process is gone: they hold patients."""
    for path in folder.glob(f"{PREFIX}*"):
        writer = re.match(rf"{re.escape(PREFIX)}(\d+)-", path.name)
        number = None if writer is None else int(writer[1])
        if number == os.getpid():
            needed = path in _WRITTEN  # another process of the same number may have been killed
        else:
            needed = number is not None and psutil.pid_exists(number)
        if not needed:
            path.unlink(missing_ok=True)


class _one_thread_each:  # noqa: N801 - a context manager
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
