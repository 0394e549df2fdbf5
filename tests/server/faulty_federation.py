"""A federation in this process in which what arrives from a site may be something else than it sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from tests.simulations.small_federation import small_study

from mmfed_client.app import make_client_app
from mmfed_client.site import SiteData
from mmfed_client.training import LocalSite
from mmfed_common.study import Study
from mmfed_server.plan import RunPlan
from mmfed_server.record.state import RunState
from mmfed_server.rounds import run_rounds
from mmfed_simulations.backends.inprocess import FIRST_NODE, Carry, InProcessGrid

Spoil = Callable[[str, Message, Message], Message | None]
"""Site, request and its true reply → what arrives instead; None: nothing."""


def carry_with_faults(app: ClientApp, names: Sequence[str], spoil: Spoil) -> Carry:
    def carry(jobs: Sequence[tuple[Message, Context]], timeout: float | None) -> Mapping[int, Message]:
        replies = {}
        for position, (message, context) in enumerate(jobs):
            site = names[int(context.node_config["partition-id"])]
            reply = spoil(site, message, app(message, context))
            if reply is not None:
                replies[position] = reply
        return replies

    return carry


def run(
    study: Study,
    sites: Sequence[SiteData],
    folder: Path,
    spoil: Spoil = lambda site, request, reply: reply,
    **plan: Any,
) -> RunState:
    opened = [LocalSite(study, data) for data in sites]
    app = make_client_app(lambda context: opened[int(context.node_config["partition-id"])])
    names = [data.name for data in sites]
    folder.mkdir(parents=True, exist_ok=True)
    grid = InProcessGrid(len(sites), carry_with_faults(app, names, spoil))
    return run_rounds(grid, RunPlan(study, tuple(names), sites[0].topology, folder, **plan))


class StreamedGrid(InProcessGrid):
    """Gives the replies one at a time, the last site's first, and knows which site a node is."""

    def __init__(self, names: Sequence[str], carry: Carry) -> None:
        super().__init__(len(names), carry)
        self.names = names
        self.too_late: list[tuple[str, str]] = []

    def stream(self, messages: Iterable[Message], timeout: float) -> Iterator[Message]:
        """Do the work, and give the replies in the reverse order."""
        return reversed(list(self.send_and_receive(messages, timeout=timeout)))

    def site_of(self, node: int) -> str:
        """Name by the node's key."""
        return self.names[node - FIRST_NODE]

    def late(self) -> list[tuple[str, str]]:
        """What came too late."""
        found, self.too_late = self.too_late, []
        return found


def federation(
    study: Study, sites: Sequence[SiteData], spoil: Spoil = lambda site, request, reply: reply
) -> StreamedGrid:
    """A grid over these sites."""
    opened = [LocalSite(study, data) for data in sites]
    app = make_client_app(lambda context: opened[int(context.node_config["partition-id"])])
    names = [data.name for data in sites]
    return StreamedGrid(names, carry_with_faults(app, names, spoil))


def run_streamed(
    study: Study,
    sites: Sequence[SiteData],
    folder: Path,
    spoil: Spoil = lambda site, request, reply: reply,
    **plan: Any,
) -> RunState:
    """Run over a grid that streams."""
    folder.mkdir(parents=True, exist_ok=True)
    names = tuple(data.name for data in sites)
    return run_rounds(
        federation(study, sites, spoil), RunPlan(study, names, sites[0].topology, folder, **plan)
    )


def reference_contract() -> dict[str, Any]:
    """Without federated scaling, so that a run without a site is the same run."""
    return {**small_study().contract.model_dump(mode="json"), "normalisation": "reference"}
