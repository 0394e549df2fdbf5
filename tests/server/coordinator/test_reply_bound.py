"""Every honest answer fits into the bound; a longer one is refused before it is kept, and counts."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from flwr.app import Error, Message, MetricRecord, RecordDict
from tests.server.faulty_federation import run_streamed
from tests.server.link.small_link import SmallLink, model, request, wait_until
from tests.simulations.small_federation import gene_study, small_sites, small_study, small_topology

from mmfed_client.fleet.connection import connect
from mmfed_common import messages as m
from mmfed_common.arrays import to_record
from mmfed_common.errors import NetworkError
from mmfed_common.model import build_model
from mmfed_common.scaling import Moments, Scaling
from mmfed_common.study import Study
from mmfed_common.wire import content_objects
from mmfed_server.coordinator.reply_bound import ROOM, most_reply_bytes
from mmfed_server.coordinator.service import counts_towards_quarantine


@pytest.mark.parametrize("study", [small_study(), gene_study()], ids=["small", "genes"])
def test_updates_and_moments_fit_into_the_bound(study: Study) -> None:
    topology = small_topology(study)
    weights = build_model(study, topology).state_dict()
    mean = {
        name: values.double()
        for name, values in Scaling.from_reference(study.contract, topology).mean.items()
    }
    most = most_reply_bytes(study, topology)
    for tensors in (weights, Moments(mean, mean, mean).to_arrays()):
        answer = RecordDict({m.ARRAYS: to_record(tensors)})
        assert sum(len(content) for _, content in content_objects(answer)) < most - ROOM // 2
    assert most < 3 * sum(tensor.nbytes for tensor in weights.values()) + 2 * ROOM


def test_a_reply_that_grows_past_the_bound_ends_the_wait_and_is_not_kept(tmp_path: Path) -> None:
    small = SmallLink(tmp_path, ("north",))
    refused: list[NetworkError] = []
    with small.open() as link:
        with connect(small.address, small.ca, small.keys["north"]) as connection:
            wait_until(lambda: "north" in link.online())
            grid = link.grid()
            grid.bound_replies(3 * ROOM)
            replies = grid.stream([request(link.online()["north"], model(400))], 60.0)

            def flood() -> None:
                incoming = connection.receive()
                assert incoming is not None
                arrays = model(12 * ROOM)
                content = RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 1})})
                try:
                    connection.send(incoming, Message(content, reply_to=incoming.message))
                except NetworkError as error:
                    refused.append(error)

            thread = threading.Thread(target=flood)
            thread.start()
            began = time.monotonic()
            found = list(replies)
            thread.join(20)
        kept = sum(path.stat().st_size for path in (tmp_path / "spool").rglob("*") if path.is_file())
    assert time.monotonic() - began < 30
    assert [reply.error.reason[:7] for reply in found] == ["MMF-466"]  # type: ignore[index]
    assert link.state.site_of(found[0].metadata.src_node_id) == "north"
    assert refused
    assert kept < ROOM


def test_it_counts_as_a_refusal_of_that_site(tmp_path: Path) -> None:
    told: list[tuple[str, str]] = []

    def spoil(site: str, asked: Message, reply: Message) -> Message:
        if site != "site-1" or asked.metadata.message_type != m.TRAIN:
            return reply
        return Message(Error(1, "MMF-466 An answer is too long."), reply_to=asked)

    study = small_study()
    state = run_streamed(
        study,
        small_sites(study),
        tmp_path,
        spoil,
        on_refusal=lambda site, code, reason: told.append((site, code)),
    )
    assert told == [("site-1", "MMF-466")] * 3
    assert state.sites["site-1"].last_refusal.startswith("MMF-466")
    assert counts_towards_quarantine("MMF-466")
