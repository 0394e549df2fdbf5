"""Worker processes that train sites side by side.

Each worker keeps the sites that are assigned to it, so that a site's tensors are in one process only. A
worker that dies is replaced, and the site it was working on is reported by name; the others go on.
"""

from __future__ import annotations

import logging
import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import TracebackType

import torch
from flwr.app import Context, Error, Message
from flwr.common.constant import ErrorCode

from mmfed_client.app import make_client_app
from mmfed_simulations.backends.saved_sites import SavedSites

WORKER_DIED = "WorkerProcessDied"
logger = logging.getLogger(__name__)


def _serve(folder: Path, pipe: Connection) -> None:
    """The worker's loop: a message comes, its reply goes, until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle; it ends its workers
    torch.set_num_threads(1)
    app = make_client_app(SavedSites(folder))
    while True:
        try:
            message, context = pipe.recv()
        except EOFError:
            return
        pipe.send(app(message, context))


class WorkerProcesses:
    """A fixed number of workers; use as a context manager.

    Parameters
    ----------
    folder
        The run's folder, which the workers open.
    sizes
        Patients of each partition, to share the work evenly.
    workers
        How many processes.
    """

    def __init__(self, folder: Path, sizes: Sequence[int], workers: int) -> None:
        self.folder = folder
        self.worker_of = _assign(sizes, min(workers, len(sizes)))
        self._spawn = multiprocessing.get_context("spawn")
        self._processes: dict[int, SpawnProcess] = {}
        self._pipes: dict[int, Connection] = {}

    def __enter__(self) -> WorkerProcesses:
        for worker in set(self.worker_of):
            self._start(worker)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in list(self._processes):
            self._stop(worker)

    def carry(self, jobs: Sequence[tuple[Message, Context]], timeout: float | None) -> dict[int, Message]:
        """Do the work of some messages; a job that takes longer than ``timeout`` seconds has no reply."""
        waiting: dict[int, deque[int]] = {worker: deque() for worker in self._pipes}
        for position, (_, context) in enumerate(jobs):
            waiting[self.worker_of[int(context.node_config["partition-id"])]].append(position)
        replies: dict[int, Message] = {}
        running: dict[int, tuple[int, float]] = {}
        for worker in waiting:
            self._next(worker, waiting, running, jobs)
        while running:
            ready = wait([self._pipes[w] for w in running], _patience(running, timeout))
            now = time.monotonic()
            for worker in list(running):
                position, began = running[worker]
                if self._pipes[worker] in ready:
                    replies[position] = self._receive(worker, jobs[position][0])
                elif timeout is None or now - began < timeout:
                    continue
                else:
                    self._restart(worker)
                del running[worker]
                self._next(worker, waiting, running, jobs)
        return replies

    def _next(
        self,
        worker: int,
        waiting: dict[int, deque[int]],
        running: dict[int, tuple[int, float]],
        jobs: Sequence[tuple[Message, Context]],
    ) -> None:
        if not waiting[worker]:
            return
        position = waiting[worker].popleft()
        running[worker] = (position, time.monotonic())
        try:
            self._pipes[worker].send(jobs[position])
        except (BrokenPipeError, ConnectionResetError):
            # It died while it was idle: nothing was lost, a new one takes the job.
            self._restart(worker)
            self._pipes[worker].send(jobs[position])

    def _receive(self, worker: int, request: Message) -> Message:
        try:
            reply: Message = self._pipes[worker].recv()
            return reply
        except (EOFError, OSError):  # before its reply, or in the middle of it
            logger.error("worker process %d died while it worked on a site; it is started again", worker)
            self._restart(worker)
            return Message(Error(ErrorCode.CLIENT_APP_CRASHED, WORKER_DIED), reply_to=request)

    def _start(self, worker: int) -> None:
        ours, theirs = self._spawn.Pipe()
        process = self._spawn.Process(target=_serve, args=(self.folder, theirs), daemon=True)
        process.start()
        theirs.close()
        self._processes[worker], self._pipes[worker] = process, ours

    def _stop(self, worker: int) -> None:
        self._pipes[worker].close()
        process = self._processes[worker]
        process.kill()
        process.join()
        process.close()

    def _restart(self, worker: int) -> None:
        self._stop(worker)
        self._start(worker)


def _assign(sizes: Sequence[int], workers: int) -> list[int]:
    """Give the largest sites first to the worker that has least."""
    load = [0] * workers
    worker_of = [0] * len(sizes)
    for partition in sorted(range(len(sizes)), key=lambda n: (-sizes[n], n)):
        worker = load.index(min(load))
        worker_of[partition] = worker
        load[worker] += sizes[partition]
    return worker_of


def _patience(running: dict[int, tuple[int, float]], timeout: float | None) -> float | None:
    if timeout is None:
        return None
    first = min(began for _, began in running.values())
    return max(0.0, first + timeout - time.monotonic())
