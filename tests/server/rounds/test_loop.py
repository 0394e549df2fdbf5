"""A whole run with faults on the way: bad sites are named and left out, the others go on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, Error, Message
from tests.server.faulty_federation import carry_with_faults, reference_contract, run
from tests.simulations.small_federation import small_sites, small_study

from mmfed_client.app import make_client_app
from mmfed_client.site import SiteData
from mmfed_client.training import LocalSite
from mmfed_common import messages as m
from mmfed_common.errors import MmfedError
from mmfed_server.plan import RoundReport, RunPlan
from mmfed_server.record.folder import StateFile
from mmfed_server.rounds import run_rounds
from mmfed_simulations.backends.inprocess import InProcessGrid


def with_first_array(reply: Message, values: np.ndarray[Any, Any]) -> Message:
    record = reply.content.array_records[m.ARRAYS]
    name = sorted(record)[0]
    reply.content[m.ARRAYS] = ArrayRecord({**record, name: Array(values)})
    return reply


def not_a_number(reply: Message) -> Message:
    shape = reply.content.array_records[m.ARRAYS][sorted(reply.content.array_records[m.ARRAYS])[0]].shape
    return with_first_array(reply, np.full(shape, np.nan, np.float32))


def wrong_shape(reply: Message) -> Message:
    return with_first_array(reply, np.zeros((9, 9), np.float32))


def too_heavy(reply: Message) -> Message:
    reply.content.metric_records[m.METRICS][m.NUM_EXAMPLES] = 10**6
    return reply


def stale(reply: Message) -> Message:
    reply.content.config_records[m.ABOUT][m.ROUND] = 99
    return reply


def lost(reply: Message) -> None:
    return None


@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        (not_a_number, "MMF-453", "not finite"),
        (wrong_shape, "MMF-452", "shape"),
        (too_heavy, "MMF-454", "announced"),
        (stale, "MMF-456", "not of round"),
        (lost, "MMF-401", "no answer"),
    ],
)
def test_one_bad_site_is_named_and_changes_nothing_for_the_others(
    fault: Callable[[Message], Message | None], code: str, said: str, tmp_path: Path
) -> None:
    study = small_study(evaluation={"every": 0, "rule": "none"}, contract=reference_contract())
    sites = small_sites(study)
    reports: list[RoundReport] = []

    def spoil(site: str, request: Message, reply: Message) -> Message | None:
        return fault(reply) if site == "site-1" and request.metadata.message_type == m.TRAIN else reply

    state = run(study, sites, tmp_path / "bad", spoil, progress=reports.append)
    assert [report.sites for report in reports] == [("site-0", "site-2")] * 3
    assert all(said in report.refused["site-1"] for report in reports)
    assert all(report.refused["site-1"].startswith(code) for report in reports)
    assert state.sites["site-1"].refusals == 3
    events = (tmp_path / "bad" / "events.jsonl").read_text().splitlines()
    refused = [event for event in map(json.loads, events) if event["event"] == "refused"]
    assert [(event["site"], event["code"]) for event in refused] == [("site-1", code)] * 3
    alone = run(study, [sites[0], sites[2]], tmp_path / "good")
    assert all(torch.equal(state.weights[name], alone.weights[name]) for name in alone.weights)


def test_a_fault_that_passes_is_repeated_and_leaves_no_trace_in_the_weights(tmp_path: Path) -> None:
    study = small_study(aggregation={"minimum_sites": 3})
    sites = small_sites(study)
    left = [2]

    def spoil(site: str, request: Message, reply: Message) -> Message | None:
        if site == "site-1" and request.metadata.message_type == m.TRAIN and left[0] > 0:
            left[0] -= 1
            return None
        return reply

    state = run(study, sites, tmp_path / "bad", spoil)
    undisturbed = run(study, sites, tmp_path / "good")
    assert all(torch.equal(state.weights[n], undisturbed.weights[n]) for n in state.weights)
    assert "round-repeated" in (tmp_path / "bad" / "events.jsonl").read_text()


def test_too_few_sites_end_the_run_with_the_reasons(tmp_path: Path) -> None:
    study = small_study(aggregation={"minimum_sites": 3})

    def spoil(site: str, request: Message, reply: Message) -> Message | None:
        if site == "site-1" and request.metadata.message_type == m.TRAIN:
            return not_a_number(reply)
        return reply

    with pytest.raises(MmfedError, match=r"site-1: MMF-453 .* not finite") as caught:
        run(study, small_sites(study), tmp_path, spoil)
    assert caught.value.code == "MMF-403"
    status = json.loads((tmp_path / "state" / "status.json").read_text())
    assert (status["status"], status["code"]) == ("failed", "MMF-403")


def test_an_error_of_a_site_carries_no_text_of_its_own(tmp_path: Path) -> None:
    study = small_study()

    def spoil(site: str, request: Message, reply: Message) -> Message | None:
        if site == "site-1" and request.metadata.message_type == m.TRAIN:
            return Message(Error(2, "KeyError: 'patient Jane Doe'"), reply_to=request)
        return reply

    state = run(study, small_sites(study), tmp_path, spoil)
    assert state.sites["site-1"].last_refusal.startswith("MMF-404")
    assert "Jane" not in (tmp_path / "events.jsonl").read_text()


def test_a_planted_held_out_patient_stops_its_site_only(tmp_path: Path) -> None:
    study = small_study(contract=reference_contract())
    sites = small_sites(study)
    nobody = np.zeros(len(sites[1].patients), dtype=np.bool_)
    assert sites[1].held_out.any()
    sites[1] = SiteData("site-1", sites[1].patients, nobody, sites[1].topology)
    state = run(study, sites, tmp_path)
    assert state.sites["site-1"].rounds == 0
    assert state.sites["site-1"].last_refusal.startswith("MMF-505")
    assert state.sites["site-0"].rounds == 3


def test_a_site_below_the_floor_takes_no_part_and_is_not_called_broken(tmp_path: Path) -> None:
    study = small_study(aggregation={"minimum_patients": 12})
    sites = small_sites(study, (20, 24, 6))
    state = run(study, sites, tmp_path)
    small = state.sites["site-2"]
    assert (small.below_floor, small.rounds, small.refusals, small.patients) == (True, 0, 0, 0)
    without = run(study, sites[:2], tmp_path / "two")
    assert all(torch.equal(state.weights[n], without.weights[n]) for n in state.weights)


def test_a_site_that_is_not_enrolled_is_refused(tmp_path: Path) -> None:
    study = small_study()
    sites = small_sites(study)
    opened = [LocalSite(study, data) for data in sites]
    app = make_client_app(lambda context: opened[int(context.node_config["partition-id"])])
    grid = InProcessGrid(3, carry_with_faults(app, ["a", "b", "c"], lambda site, request, reply: reply))
    plan = RunPlan(study, ("site-0", "site-2"), sites[0].topology, tmp_path)
    state = run_rounds(grid, plan)
    assert set(state.sites) == {"site-0", "site-2"}
    assert "not enrolled" in (tmp_path / "events.jsonl").read_text()


def test_federated_scaling_is_the_pooled_one(tmp_path: Path) -> None:
    study = small_study()
    sites = small_sites(study)
    state = run(study, sites, tmp_path)
    training = [data.training.nodes["clinical_feature"].values for data in sites]
    pooled = torch.cat(training).double()
    torch.testing.assert_close(
        state.scaling["mean.clinical_feature"], pooled.mean(0).float(), rtol=1e-5, atol=1e-6
    )
    deviation = pooled.std(0, unbiased=False).float()
    torch.testing.assert_close(state.scaling["deviation.clinical_feature"], deviation, rtol=1e-5, atol=1e-6)


def test_only_the_trained_parameters_travel_up(tmp_path: Path) -> None:
    study = small_study()
    seen: list[set[str]] = []

    def spoil(site: str, request: Message, reply: Message) -> Message | None:
        if request.metadata.message_type == m.TRAIN:
            seen.append(set(reply.content.array_records[m.ARRAYS]))
            assert set(reply.content) == {m.ARRAYS, m.METRICS, m.ABOUT}
        return reply

    run(study, small_sites(study), tmp_path, spoil)
    assert seen
    assert all(name.startswith("clinical.") for names in seen for name in names)


def test_no_metric_leaves_below_the_least_cell(tmp_path: Path) -> None:
    study = small_study(evaluation={"minimum_cell": 5, "every": 1})
    sites = small_sites(study)
    held_out = {data.name: int(data.held_out.sum()) for data in sites}
    assert {count < 5 for count in held_out.values()} == {True, False}
    told: dict[str, int | float | list[int] | list[float]] = {}

    def spoil(site: str, request: Message, reply: Message) -> Message | None:
        if request.metadata.message_type == m.EVALUATE_HELD_OUT:
            metrics = reply.content.metric_records[m.METRICS]
            told[site] = metrics[m.NUM_EXAMPLES]
            assert metrics[m.NUM_EXAMPLES] or metrics[m.LOSS] == 0.0
        return reply

    run(study, sites, tmp_path, spoil)
    assert told == {site: count if count >= 5 else 0 for site, count in held_out.items()}


def test_a_stage_that_trains_nothing_is_refused_before_the_first_round(tmp_path: Path) -> None:
    stages = [{"level": "clinical", "rounds": 1}, {"level": "additive", "rounds": 1}]
    study = small_study(training={"stages": stages})
    with pytest.raises(MmfedError, match="stage 2 trains additive") as caught:
        run(study, small_sites(study), tmp_path)
    assert caught.value.code == "MMF-501"
    assert StateFile(tmp_path).status() == "failed"


def test_early_stopping_ends_a_stage_with_its_best_weights(tmp_path: Path) -> None:
    stages = [
        {"level": "clinical", "rounds": 40, "learning_rate": 0.8},
        {"level": "full", "rounds": 1, "learning_rate": 1e-9},
    ]
    training = {"stages": stages, "batch": 0, "validation_fraction": 0.3, "patience": 2}
    study = small_study(training=training, evaluation={"minimum_cell": 3, "every": 0})
    reports: list[RoundReport] = []
    run(study, small_sites(study, (60, 70)), tmp_path, progress=reports.append)
    clinical = [report for report in reports if report.stage == "clinical"]
    losses = [report.metrics["validation_loss"] for report in clinical]
    best = int(np.argmin(losses))
    assert len(clinical) == best + 3 < 40
    assert reports[-1].round == 41
    assert reports[-1].metrics["validation_loss"] == pytest.approx(losses[best], rel=1e-3)


def test_a_run_that_becomes_non_finite_ends_with_its_code_and_keeps_the_last_good_round(
    tmp_path: Path,
) -> None:
    study = small_study(aggregation={"strategy": "fedadam"})

    def spoil(site: str, request: Message, reply: Message) -> Message | None:
        config = request.content.config_records[m.CONFIG]
        if request.metadata.message_type != m.TRAIN or config[m.ROUND] != 3:
            return reply
        shape = next(iter(dict(sorted(reply.content.array_records[m.ARRAYS].items())).values())).shape
        return with_first_array(reply, np.full(shape, 3e38, np.float32))

    with pytest.raises(MmfedError) as caught:
        run(study, small_sites(study), tmp_path, spoil)
    assert caught.value.code == "MMF-604"
    state = StateFile(tmp_path).load()
    assert state is not None
    assert state.next_round == 3
    assert all(bool(torch.isfinite(tensor).all()) for tensor in state.weights.values())
