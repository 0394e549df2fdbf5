"""Sites leave: later rounds are without them, and a run is trained again from a state that holds nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import Message
from sqlalchemy import Engine, func, select
from tests.server.faulty_federation import federation, reference_contract, run_streamed
from tests.simulations.small_federation import CLINICAL_STAGE, small_sites, small_study

from mmfed_client.site import SiteData
from mmfed_common import messages as m
from mmfed_common.errors import MmfedError, StudyError
from mmfed_common.ledger import Entry
from mmfed_common.ledger.entry import EMPTY
from mmfed_common.study import Study
from mmfed_server.database import open_database
from mmfed_server.plan import RoundReport, RunPlan
from mmfed_server.record.catalogue import RunCatalogue
from mmfed_server.record.database_record import DatabaseRecord
from mmfed_server.record.state import RunState
from mmfed_server.record.tables import kept_states, runs, state_parts, states
from mmfed_server.rounds import run_rounds
from mmfed_server.withdrawal.contributions import contributions_of, missing_receipts
from mmfed_server.withdrawal.register import LEFT, Withdrawals
from mmfed_server.withdrawal.replay import prepare_replay

LATE = "site-2"
STAYS = ("site-0", "site-1")
ROUNDS = 6
COMES = 4
"""The first round of the site that comes late."""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    opened = open_database(f"sqlite:///{tmp_path / 'runs.sqlite'}")
    yield opened
    opened.dispose()


def study(**sections: dict[str, Any]) -> Study:
    training = {"stages": [{**CLINICAL_STAGE, "rounds": ROUNDS}]}
    return small_study(**{"contract": reference_contract(), "training": training, **sections})


class Run:
    """A run in a database whose sites come and go by the round."""

    def __init__(self, engine: Engine, folder: Path, rule: Study) -> None:
        self.engine, self.folder, self.study = engine, folder, rule
        self.sites: Sequence[SiteData] = small_sites(rule)
        self.done = 0

    def go_on(self, run: str, barred: Mapping[int, Mapping[str, str]], **plan: Any) -> RunState:
        """Run; ``barred`` gives who is kept out from a round on, counted by those that are done."""
        self.done = 0

        def out() -> Mapping[str, str]:
            return barred[max(number for number in barred if number <= self.done)]

        def note(report: RoundReport) -> None:
            self.done = report.round

        names = tuple(site.name for site in self.sites)
        plan = {"quarantined": out, "progress": note, "resume": True, **plan}
        record = DatabaseRecord(self.engine, run, self.folder)
        return run_rounds(
            federation(self.study, self.sites),
            RunPlan(self.study, names, self.sites[0].topology, self.folder, record=record, **plan),
        )


def undisturbed(rule: Study, sites: Sequence[SiteData], folder: Path) -> RunState:
    return run_streamed(rule, sites, folder)


def equal(one: RunState, other: RunState) -> bool:
    return one.weights.keys() == other.weights.keys() and all(
        torch.equal(one.weights[name], other.weights[name]) for name in one.weights
    )


OUT = {LATE: LEFT}
LATE_COMER = {0: OUT, COMES - 1: {}}


def test_a_site_that_was_there_from_the_start_is_left_out_from_the_start(
    engine: Engine, tmp_path: Path
) -> None:
    run = Run(engine, tmp_path / "rounds", study())
    catalogue = RunCatalogue(engine)
    old = catalogue.begin(run.study)
    with_all = run.go_on(old, {0: {}})
    made = prepare_replay(engine, old, [LATE], tmp_path / "replay")
    assert (made.replaces, made.without, made.from_round) == (old, (LATE,), 1)
    again = run.go_on(made.run, {0: OUT})
    reference = undisturbed(run.study, run.sites[:2], tmp_path / "reference")
    assert equal(again, reference)
    assert not equal(with_all, reference)
    assert catalogue.run(old).superseded_by == made.run
    assert catalogue.superseded(old)
    summary = catalogue.run(made.run)
    assert (summary.replaces, summary.without) == (old, (LATE,))


@pytest.mark.parametrize("strategy", [pytest.param("fedavg", marks=pytest.mark.e2e), "fedadam"])
def test_rounds_from_before_a_late_site_came_are_taken_over(
    engine: Engine, tmp_path: Path, strategy: str
) -> None:
    run = Run(engine, tmp_path / "rounds", study(aggregation={"strategy": strategy}))
    catalogue = RunCatalogue(engine)
    old = catalogue.begin(run.study)
    with_late = run.go_on(old, LATE_COMER)
    assert with_late.contributors[LATE] == COMES
    assert with_late.sites[LATE].rounds == ROUNDS - COMES + 1
    made = prepare_replay(engine, old, [LATE], tmp_path / "replay")
    assert made.from_round == COMES
    assert [entry["round"] for entry in catalogue.rounds(made.run)] == list(range(1, COMES))
    again = run.go_on(made.run, {0: OUT})
    assert equal(again, undisturbed(run.study, run.sites[:2], tmp_path / "reference"))
    assert LATE not in again.sites
    assert LATE not in again.contributors
    assert [entry["taken"] for entry in again.history] == [list(STAYS)] * ROUNDS


def test_only_what_a_replay_needs_is_kept(engine: Engine, tmp_path: Path) -> None:
    run = Run(engine, tmp_path / "rounds", study())
    old = RunCatalogue(engine).begin(run.study)
    run.go_on(old, LATE_COMER)
    with engine.begin() as connection:
        kept = connection.execute(select(kept_states)).all()
        numbers = connection.execute(select(states.c.number).order_by(states.c.number)).scalars().all()
        parts = connection.execute(select(func.count(func.distinct(state_parts.c.number)))).scalar()
    assert [(row.site, row.number) for row in kept] == [(LATE, COMES)]
    assert numbers == [COMES, ROUNDS, ROUNDS + 1]
    assert parts == 3


def test_a_site_whose_loss_decided_when_a_stage_ended_is_no_stranger(engine: Engine, tmp_path: Path) -> None:
    """It trained in no round, but early stopping looked at its patients."""
    training = {
        "stages": [{**CLINICAL_STAGE, "rounds": ROUNDS}],
        "validation_fraction": 0.3,
        "patience": 2,
    }
    run = Run(engine, tmp_path / "rounds", study(training=training, evaluation={"minimum_cell": 1}))
    old = RunCatalogue(engine).begin(run.study)

    def never_trains(site: str, request: Message, reply: Message) -> Message | None:
        return None if site == LATE and request.metadata.message_type == m.TRAIN else reply

    record = DatabaseRecord(engine, old, tmp_path / "rounds")
    names = tuple(site.name for site in run.sites)
    rounds = federation(run.study, run.sites, never_trains)
    plan = RunPlan(run.study, names, run.sites[0].topology, tmp_path / "rounds", record=record)
    state = run_rounds(rounds, plan)
    assert state.sites[LATE].rounds == 0
    assert state.contributors[LATE] == 1
    assert prepare_replay(engine, old, [LATE], tmp_path / "replay").from_round == 1


def test_sums_of_features_count_as_a_contribution(engine: Engine, tmp_path: Path) -> None:
    run = Run(
        engine, tmp_path / "rounds", study(contract={**reference_contract(), "normalisation": "federated"})
    )
    old = RunCatalogue(engine).begin(run.study)
    state = run.go_on(old, {0: {}, 1: OUT})
    assert set(state.contributors.values()) == {0}
    made = prepare_replay(engine, old, [LATE], tmp_path / "replay")
    assert made.from_round == 1
    again = run.go_on(made.run, {0: OUT})
    assert equal(again, undisturbed(run.study, run.sites[:2], tmp_path / "reference"))


def test_an_update_of_a_site_that_leaves_while_a_round_goes_on_is_dropped(
    engine: Engine, tmp_path: Path
) -> None:
    rule = study()
    register = Withdrawals(engine)
    run = Run(engine, tmp_path / "rounds", rule)
    old = RunCatalogue(engine).begin(rule)
    record = DatabaseRecord(engine, old, tmp_path / "rounds")

    def leaves(site: str, request: Message, reply: Message) -> Message:
        if site == LATE and request.metadata.message_type == m.TRAIN:
            register.withdraw(rule.hash, LATE, "site")
        return reply

    plan = RunPlan(
        rule,
        tuple(site.name for site in run.sites),
        run.sites[0].topology,
        tmp_path / "rounds",
        record=record,
        quarantined=lambda: dict.fromkeys(register.of(rule.hash), LEFT),
    )
    state = run_rounds(federation(rule, run.sites, leaves), plan)
    assert LATE not in state.contributors
    assert state.sites[LATE].rounds == 0
    assert state.sites[LATE].last_refusal.startswith(LEFT)
    assert equal(state, undisturbed(rule, run.sites[:2], tmp_path / "reference"))


def test_the_old_run_can_be_committed_to_no_more(engine: Engine, tmp_path: Path) -> None:
    rule = study()
    run = Run(engine, tmp_path / "rounds", rule)
    old = RunCatalogue(engine).begin(rule)

    def replay_at_three(report: RoundReport) -> None:
        if report.round == 3:
            prepare_replay(engine, old, [LATE], tmp_path / "replay")

    with pytest.raises(StudyError) as caught:
        run.go_on(old, {0: {}}, progress=replay_at_three)
    assert caught.value.code == "MMF-531"
    assert RunCatalogue(engine).run(old).next_round == 4


def test_what_cannot_be_replayed(engine: Engine, tmp_path: Path) -> None:
    rule = study()
    run = Run(engine, tmp_path / "rounds", rule)
    catalogue = RunCatalogue(engine)
    old = catalogue.begin(rule)

    def refused(name: str, without: list[str]) -> str:
        with pytest.raises(MmfedError) as caught:
            prepare_replay(engine, name, without, tmp_path / "replay")
        return caught.value.code

    assert refused(old, [LATE]) == "MMF-562"
    run.go_on(old, {0: OUT})
    assert refused(old, [LATE]) == "MMF-562"
    assert refused(old, []) == "MMF-562"
    assert refused("none", [LATE]) == "MMF-532"
    prepare_replay(engine, old, ["site-1"], tmp_path / "replay")
    assert refused(old, ["site-1"]) == "MMF-564"


def test_a_replay_that_a_crash_cut_short_is_not_there_and_is_made_again(
    engine: Engine, tmp_path: Path
) -> None:
    run = Run(engine, tmp_path / "rounds", study())
    catalogue = RunCatalogue(engine)
    old = catalogue.begin(run.study)
    run.go_on(old, LATE_COMER)
    half = catalogue.begin(run.study, old, [LATE], COMES)
    assert [summary.run for summary in catalogue.runs()] == [old]
    assert not catalogue.superseded(old)
    made = prepare_replay(engine, old, [LATE], tmp_path / "replay")
    with engine.begin() as connection:
        assert set(connection.execute(select(runs.c.run)).scalars()) == {old, made.run} != {half}


@pytest.mark.e2e
def test_a_run_that_replaces_one_can_itself_be_replaced(engine: Engine, tmp_path: Path) -> None:
    run = Run(engine, tmp_path / "rounds", study(aggregation={"minimum_sites": 1}))
    old = RunCatalogue(engine).begin(run.study)
    run.go_on(old, LATE_COMER)
    first = prepare_replay(engine, old, [LATE], tmp_path / "replay")
    run.go_on(first.run, {0: OUT})
    second = prepare_replay(engine, first.run, ["site-1"], tmp_path / "replay")
    assert (second.without, second.from_round) == (("site-1", LATE), 1)
    again = run.go_on(second.run, {0: {LATE: LEFT, "site-1": LEFT}})
    assert equal(again, undisturbed(run.study, run.sites[:1], tmp_path / "reference"))


def test_who_has_left_is_left_out_of_any_replay(engine: Engine, tmp_path: Path) -> None:
    run = Run(engine, tmp_path / "rounds", study(aggregation={"minimum_sites": 1}))
    old = RunCatalogue(engine).begin(run.study)
    run.go_on(old, LATE_COMER)
    assert Withdrawals(engine).withdraw(run.study.hash, "site-1", "site")
    made = prepare_replay(engine, old, [LATE], tmp_path / "replay")
    assert (made.without, made.from_round) == (("site-1", LATE), 1)


def test_the_register_keeps_who_came_and_went(engine: Engine) -> None:
    register = Withdrawals(engine)
    assert register.of("a" * 64) == {}
    assert register.withdraw("a" * 64, "north", "coordinator", "x" * 1000)
    assert not register.withdraw("a" * 64, "north", "site")
    assert register.withdraw("a" * 64, "east", "site")
    found = register.of("a" * 64)
    assert [(w.site, w.told_by, len(w.reason)) for w in found.values()] == [
        ("east", "site", 0),
        ("north", "coordinator", 500),
    ]
    assert register.of("b" * 64) == {}
    register.readmit("a" * 64, "north")
    with pytest.raises(StudyError) as caught:
        register.readmit("a" * 64, "north")
    assert caught.value.code == "MMF-567"
    assert list(register.of("a" * 64)) == ["east"]
    assert register.withdraw("a" * 64, "north", "site")


def test_contributions_are_listed_and_compared_with_receipts(engine: Engine, tmp_path: Path) -> None:
    run = Run(engine, tmp_path / "rounds", study())
    old = RunCatalogue(engine).begin(run.study)
    state = run.go_on(old, LATE_COMER)
    (found,) = contributions_of(engine, LATE, tmp_path / "export")
    rounds = tuple(range(COMES, ROUNDS + 1))
    assert (found.run, found.first_round, found.rounds, found.withdrawn) == (old, COMES, rounds, "")
    assert (found.patients, found.bytes_up) == (state.sites[LATE].patients, state.sites[LATE].bytes_up)
    Withdrawals(engine).withdraw(run.study.hash, LATE, "coordinator")
    (found,) = contributions_of(engine, LATE, tmp_path / "export")
    assert found.withdrawn
    assert contributions_of(engine, "nobody", tmp_path / "export") == []

    receipts = [receipt(run.study.hash, number) for number in rounds]
    assert missing_receipts([found], receipts) == {}
    failed = receipt(run.study.hash, COMES, error="MMF-604")
    other = receipt("f" * 64, COMES)
    assert missing_receipts([found], [failed, other, *receipts[1:]]) == {run.study.hash: [COMES]}

    made = prepare_replay(engine, old, [LATE], tmp_path / "replay")
    run.go_on(made.run, {0: OUT})
    assert [c.superseded_by for c in contributions_of(engine, LATE, tmp_path / "export")] == [made.run]
    assert [c.run for c in contributions_of(engine, "site-0", tmp_path / "export")] == [made.run, old]


def receipt(study_hash: str, number: int, **more: str) -> Entry:
    body = {"kind": m.TRAIN, "round": number, "study": study_hash, **more}
    return Entry.after(EMPTY, datetime(2026, 1, 1, tzinfo=UTC), "receipt", body)
