"""One of five sites sends bad updates of every kind: each is refused, named, and of no weight.

Server and sites are processes that speak over TLS. Each bad update is compared with its code, and the weights
at the end with those of a simulation in which the site gives no answer in just these rounds: bit for bit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import Message
from tests.bad_updates import KINDS
from tests.e2e.consortium import OnDisk, write_plain_consortium
from tests.e2e.hostile_deeds import DEEDS
from tests.e2e.hostile_site import Plan, Sent, start_hostile
from tests.server.faulty_federation import run_streamed

from mmfed_common import messages as m
from mmfed_common.bundle import load_bundle
from mmfed_common.study import Study
from mmfed_simulations.consortium import load_consortium
from mmfed_simulations.processes.federation import Federation
from mmfed_simulations.processes.programs import wait_until

SITES = tuple(f"site-{number}" for number in range(1, 6))
BAD = "site-3"
SPARE = 3
"""Rounds after the last of the plan."""
RUN_SECONDS = 300.0
SHORT = (
    "NaN",
    "another shape",
    "count 1e12",
    "times 1000",
    "stale round",
    "unsigned",
    "an earlier update, byte for byte",
    "cut short",
)
QUARANTINED = ["infinity", "other study", "signed by another key"]


def in_turn(deeds: tuple[str, ...]) -> Iterator[str]:
    """Two bad updates, then a good one, so that three in a row never come together; a good one first."""
    for number, deed in enumerate(deeds):
        if number % 2 == 0:
            yield ""
        yield deed
    yield ""


def simulated(there: OnDisk, missing: set[int], out: Path) -> dict[str, torch.Tensor]:
    """Weights of a run in which the site is asked in vain in some rounds."""

    def carry(site: str, request: Message, reply: Message) -> Message | None:
        number = request.content.config_records[m.CONFIG][m.ROUND]
        asked_in_vain = request.metadata.message_type == m.TRAIN and number in missing
        return None if site == BAD and asked_in_vain else reply

    study, folder = Study.load(there.study), there.study.parent
    sites = load_consortium(folder, study, folder).sites()
    return run_streamed(study, sites, out, carry).weights


def assemble(federation: Federation, plan: Plan) -> None:
    """Everything from nothing to a running study, in which one site follows a plan."""
    federation.found()
    federation.start_server()
    federation.wait_for_server()
    for site in SITES:
        federation.join(site)
        federation.approve(site)
    start_hostile(federation, BAD, plan)
    for site in SITES:
        if site != BAD:
            federation.start_site(site)


def shown(federation: Federation, *words: str) -> dict[str, Any]:
    """What a command of the coordinator prints for machines."""
    done = federation.type("coordinator", "mmfed-server", *words, "--dir", str(federation.home), "--json")
    return dict(json.loads(done.stdout))


def of_bad(status: dict[str, Any]) -> dict[str, Any]:
    """The site that sends bad updates, as the server's status shows it."""
    return next(dict(site) for site in status["sites"] if site["site"] == BAD)


def check_rounds(history: list[dict[str, Any]], sent: list[Sent]) -> set[int]:
    """Compare the run's record with what was sent; gives the rounds in which nothing of the site counted."""
    wrong, deeds = [], {one.round: one.deed for one in sent}
    assert len(deeds) == len(sent), "two updates of one round"
    for entry in history:
        number = entry["round"]
        name = deeds.get(number, "")
        code, taken = (DEEDS[name].code, DEEDS[name].taken) if name else ("", number in deeds)
        found = entry["refused"].get(BAD, "")[:7], BAD in entry["taken"]
        if found != (code, taken) or not set(SITES) - {BAD} <= set(entry["taken"]):
            wrong.append((number, name, (code, taken), entry["refused"], entry["taken"]))
    assert wrong == []
    for before, after in pairwise(sent):
        notice = DEEDS[before.deed].notice if before.deed else ""
        assert after.round > before.round + 1 or after.heard == notice, before
    return {entry["round"] for entry in history if BAD not in entry["taken"]}


def assert_same_weights(federation: Federation, there: OnDisk, missing: set[int], folder: Path) -> None:
    """The released weights are those of the simulation, every bit of them."""
    released = load_bundle(federation.release(folder / "bundle").parent).state
    expected = simulated(there, missing, folder / "simulated")
    assert released.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(released[name], expected[name])] == []


def test_bad_updates_are_refused_named_and_of_no_weight(tmp_path: Path) -> None:
    deeds = list(in_turn(SHORT))
    there = write_plain_consortium(tmp_path / "consortium", len(deeds) + SPARE)
    plan = Plan(tmp_path / "plan")
    plan.write(deeds)
    with Federation(tmp_path, there.cohorts, there.study) as federation:
        assemble(federation, plan)
        status = federation.wait_for("finished", RUN_SECONDS)
        history = shown(federation, "runs", "show", status["run"])["history"]
        missing = check_rounds(history, plan.sent())
        assert [one.deed for one in plan.sent()][: len(deeds)] == deeds
        assert len(missing) == len(SHORT)
        site = of_bad(shown(federation, "status"))
        assert (site["refusals"], site["quarantined"]) == (len(SHORT), "")
        assert site["last_refusal"].startswith(DEEDS[SHORT[-1]].code)
        assert_same_weights(federation, there, missing, tmp_path)


@pytest.mark.e2e
def test_every_kind_of_bad_update(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At the end three in a row: the site is kept out until a person lets it back, and counts again."""
    deeds = [*in_turn(tuple(DEEDS)), *QUARANTINED, ""]
    assert set(KINDS) < set(DEEDS)
    there = write_plain_consortium(tmp_path / "consortium", len(deeds) + 100)
    plan = Plan(tmp_path / "plan")
    plan.write(deeds)
    with Federation(tmp_path, there.cohorts, there.study) as federation:
        assemble(federation, plan)
        wait_until(lambda: bool(of_bad(federation.status())["quarantined"]), RUN_SECONDS, "the quarantine")
        site = of_bad(shown(federation, "status"))
        assert site["quarantined"] == DEEDS[QUARANTINED[-1]].code
        let_back = federation.status()["round"]
        federation.type("coordinator", "mmfed-server", "enrol", "--lift", BAD, "--dir", str(federation.home))
        status = federation.wait_for("finished", RUN_SECONDS)
        history = shown(federation, "runs", "show", status["run"])["history"]
        missing = check_rounds(history, plan.sent())
        assert [one.deed for one in plan.sent()][: len(deeds)] == deeds
        assert history[-1]["taken"] == list(SITES)
        assert_same_weights(federation, there, missing, tmp_path)
    reasons = [history[one.round - 1]["refused"].get(BAD, "refused at the door") for one in plan.sent()]
    lines = [f"{one.deed}: {why}" for one, why in zip(plan.sent(), reasons, strict=True) if one.deed]
    with capsys.disabled():
        print("", *lines, f"kept out, and let back after round {let_back}", sep="\n  ")
