"""A Flower Grid inside this process: no sockets, no Ray; sites one after another, or in worker processes."""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from flwr.app import Context, Error, Message, RecordDict
from flwr.app.metadata import Metadata
from flwr.app.user_config import UserConfig
from flwr.clientapp import ClientApp
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from mmfed_client.app import make_client_app
from mmfed_client.site import SiteData
from mmfed_client.training import LocalSite
from mmfed_simulations.backends.worker_processes import WorkerProcesses
from mmfed_simulations.run_folder import RunFolder

RUN_ID = 1
FIRST_NODE = 100

Carry = Callable[[Sequence[tuple[Message, Context]], float | None], Mapping[int, Message]]
"""Takes messages with their contexts and a deadline; gives the replies that came, by position."""


class InProcessGrid(Grid):
    """Hands messages to a function and keeps the replies until they are pulled.

    Parameters
    ----------
    partitions
        How many nodes there are; node ``FIRST_NODE + n`` is partition ``n``.
    carry
        What does the work.
    """

    def __init__(self, partitions: int, carry: Carry) -> None:
        self._carry = carry
        self._contexts = {FIRST_NODE + n: _context(n, partitions) for n in range(partitions)}
        self._replies: dict[str, Message] = {}
        self._numbers = itertools.count(1)
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, RUN_ID, SUPERLINK_NODE_ID

    def set_run(self, run: Run) -> None:
        """There is one run only; nothing to set."""

    @property
    def run(self) -> Run:
        """An empty description of the run."""
        return Run.create_empty(run_id=RUN_ID)

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Make a message."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Give all nodes."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Do the work of all messages; the replies wait to be pulled."""
        return self._work(list(messages), None)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Take the replies that are there."""
        return [self._replies.pop(name) for name in list(message_ids) if name in self._replies]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Do the work; a node whose own work takes longer than ``timeout`` seconds gives no reply."""
        return self.pull_messages(self._work(list(messages), timeout))

    def _work(self, messages: list[Message], timeout: float | None) -> list[str]:
        names = []
        jobs = []
        for message in messages:
            message.metadata.__dict__["_message_id"] = f"message-{next(self._numbers)}"
            names.append(message.metadata.message_id)
            jobs.append((message, self._contexts.get(message.metadata.dst_node_id)))
        known = [(message, context) for message, context in jobs if context is not None]
        for position, reply in self._carry(known, timeout).items():
            self._replies[known[position][0].metadata.message_id] = reply
        for message, context in jobs:
            if context is None:
                error = Error(ErrorCode.NODE_UNAVAILABLE, "NodeUnavailable")
                self._replies[message.metadata.message_id] = Message(error, reply_to=message)
        return names


def carry_here(app: ClientApp) -> Carry:
    """Do the work in this process, one message after another."""

    def carry(jobs: Sequence[tuple[Message, Context]], timeout: float | None) -> dict[int, Message]:
        replies = {}
        for position, (message, context) in enumerate(jobs):
            began = time.monotonic()
            reply = app(_own_copy(message), context)
            if timeout is None or time.monotonic() - began <= timeout:
                replies[position] = reply
        return replies

    return carry


class InProcessBackend:
    """The default back end."""

    def run(self, server_app: ServerApp, folder: RunFolder, sites: Sequence[SiteData], workers: int) -> None:
        """Run to the end; see :class:`~mmfed_simulations.backends.base.Backend`."""
        context = Context(RUN_ID, SUPERLINK_NODE_ID, {}, RecordDict(), {"run-dir": str(folder.path)})
        if workers <= 1 or len(sites) <= 1:
            app = make_client_app(_HeldSites(folder, sites))
            server_app(InProcessGrid(len(sites), carry_here(app)), context)
            return
        ordered = sorted(sites, key=lambda data: data.name)
        sizes = [len(data.patients) for data in ordered]
        with WorkerProcesses(folder.path, sizes, workers) as processes:
            server_app(InProcessGrid(len(sites), processes.carry), context)


class _HeldSites:
    """Opens sites that are in this process already."""

    def __init__(self, folder: RunFolder, sites: Sequence[SiteData]) -> None:
        self.folder = folder
        self.study = folder.study()
        self.data = sorted(sites, key=lambda data: data.name)
        self.opened: dict[int, LocalSite] = {}

    def __call__(self, context: Context) -> LocalSite:
        number = int(context.node_config["partition-id"])
        if number not in self.opened:
            self.opened[number] = LocalSite(self.study, self.data[number], kept=self.folder.kept(number))
        return self.opened[number]


def _context(partition: int, partitions: int) -> Context:
    config: UserConfig = {"partition-id": partition, "num-partitions": partitions}
    return Context(RUN_ID, FIRST_NODE + partition, config, RecordDict(), {})


def _own_copy(message: Message) -> Message:
    """The node's own message: its records may be changed without the others noticing."""
    metadata: Metadata = copy.copy(message.metadata)
    content = RecordDict({name: record.copy() for name, record in message.content.items()})
    copied = copy.copy(message)
    copied.__dict__.update({"_metadata": metadata, "_content": content})
    return copied
