"""Hostile studies and coordinators against real sites' processes: nothing leaves, and the ledger says why."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message
from tests.client.approval.hostile_offers import OFFERS
from tests.client.joined_home import one_column_study, write_cohort
from tests.client.small_home import SmallHome, question
from tests.e2e.hostile_coordinator import SECONDS, HostedSite, HostileCoordinator
from tests.e2e.hostile_messages import MESSAGES, Right

from mmfed_client.ledger import Ledger
from mmfed_client.opening import open_site
from mmfed_client.training import LocalSite
from mmfed_common import messages as m
from mmfed_common.names import utc_now
from mmfed_common.signing import SiteKey
from mmfed_common.study import Study
from mmfed_simulations.processes.programs import wait_until

NO_STUDIES = ["", "[]", "null", "[" * 100_000, '{"format": 2}', "\x80\x04\x95", '{"document": 1}', "9" * 9000]


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[HostileCoordinator]:
    with HostileCoordinator(tmp_path) as found:
        yield found


def honest_study() -> Study:
    """A study that asks for sums of features, too."""
    contract = one_column_study().contract.model_dump(mode="json")
    return one_column_study(
        contract={**contract, "normalisation": "federated"},
        evaluation={"minimum_cell": 1, "every": 1},
    )


def test_there_are_enough() -> None:
    assert len(OFFERS) + len(MESSAGES) >= 40


def test_hostile_offers_are_refused_and_the_ledger_says_why(coordinator: HostileCoordinator) -> None:
    site = coordinator.site()
    site.start()
    pen = SmallHome(
        site.home,
        coordinator.federation.coordinator_key,
        SiteKey.generate(),
        Ledger(site.home.ledger_file),
        utc_now(),
    )
    found = {}
    for name, (make, code) in OFFERS.items():
        offer = make(pen)
        coordinator.asked, coordinator.offer = 0, offer.to_json().encode()
        wait_until(
            lambda code=code: coordinator.asked > 1 and site.status().get("code") == code,
            SECONDS,
            f"the refusal of {name}",
        )
        reasons = [
            entry.body["code"] for entry in site.entries("refusal") if entry.body["study"] == offer.hash
        ]
        found[name] = code if code in reasons else str(reasons)
    assert found == {name: code for name, (_, code) in OFFERS.items()}
    for text in NO_STUDIES:
        coordinator.asked, coordinator.offer = 0, text.encode("latin-1")
        wait_until(lambda: coordinator.asked > 2, SECONDS, "the site's question")
    wait_until(lambda: any(e.get("code") == "MMF-418" for e in site.log()), SECONDS, "MMF-418 in the log")
    assert {entry.kind for entry in site.entries()} == {"refusal"}
    assert coordinator.link.online() == {}
    assert not list(site.home.path.rglob("passwd"))


@pytest.fixture
def approved(coordinator: HostileCoordinator, tmp_path: Path) -> tuple[HostedSite, Right]:
    """A site that runs a node for an honest study, and what an honest coordinator would say to it."""
    cohort = write_cohort(tmp_path / "tables", patients=120)
    study = honest_study()
    site = coordinator.site(cohort)
    signed = coordinator.sign(study)
    site.approve(signed)
    coordinator.offer = signed.to_json().encode()
    site.start()
    return site, Right.of(LocalSite(study, open_site(study, "north", cohort, None)))


def test_hostile_messages_draw_out_a_code_only(
    coordinator: HostileCoordinator, approved: tuple[HostedSite, Right]
) -> None:
    site, right = approved
    wrong = {}
    for name, (make, reason) in MESSAGES.items():
        answer = coordinator.ask(make(right))
        assert answer is not None, name
        said = (answer.error.reason or "") if answer.has_error() else "content"
        written = site.entries("receipt")[-1].body.get("error", "content")
        if said != written or not said.startswith(reason):
            wrong[name] = (said[:60], written[:60])
    assert wrong == {}
    assert site.updates() == []
    assert site.status()["restarts"] == 0
    control = coordinator.ask(right.round())
    assert control is not None
    assert control.has_content()
    assert [entry.body["kind"] for entry in site.updates()] == [m.TRAIN]


def test_messages_without_measure_end_the_connection_only(
    coordinator: HostileCoordinator, approved: tuple[HostedSite, Right]
) -> None:
    site, right = approved
    ballast = ArrayRecord({"zeros": next(iter(right.records[m.ARRAYS].values()))})
    ballast["zeros"].data = os.urandom(8 * 2**20)
    bombs: dict[str, Message] = {
        "more bytes than the study has": right.round(ballast=ballast),
        "a table of records without end": right.round(
            **{f"record-{n}": ConfigRecord({"n": n}) for n in range(60_000)}
        ),
    }
    for number, (name, bomb) in enumerate(bombs.items(), start=1):
        coordinator.ask(bomb, seconds=20.0)
        wait_until(
            lambda number=number: sum(e.get("code") == "MMF-479" for e in site.log()) >= number,
            SECONDS,
            f"the refusal of {name}",
        )
    assert site.updates() == []
    wait_until(lambda: site.status()["state"] == "ready", SECONDS, "the site's return")
    hello = coordinator.ask(question(m.HELLO, right.study.hash, 0))
    assert hello is not None
    assert hello.has_content()


def test_the_same_round_with_other_weights_again_and_again(
    coordinator: HostileCoordinator, approved: tuple[HostedSite, Right]
) -> None:
    """Each answer would tell a little more about single patients, so there is an end."""
    site, right = approved
    policy = site.home.policy_file
    policy.write_text(f"{policy.read_text()}most_answers_per_round = 3\nminimum_cell = 1\n")
    reasons = []
    for number in range(6):
        shift = 0.01 * number
        asked = right.changed(
            lambda w, shift=shift: [a.add_(shift) for a in w.values()], kind=m.EVALUATE_HELD_OUT
        )
        answer = coordinator.ask(asked)
        assert answer is not None
        reasons.append((answer.error.reason or "")[:7] if answer.has_error() else "")
    assert reasons == ["", "", "", "MMF-343", "MMF-343", "MMF-343"]
    assert [e.body["error"][:7] for e in site.entries("receipt")[-3:]] == ["MMF-343"] * 3
