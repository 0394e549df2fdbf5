"""Whole runs with masks: the plain run's weights, whoever drops out; who cheats is named and left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, Message
from tests.server.faulty_federation import reference_contract, run, run_streamed
from tests.simulations.small_federation import gene_study, small_sites, small_study

from mmfed_client.privacy import means_of, train_private_round
from mmfed_client.site import SiteData
from mmfed_client.training import LocalSite
from mmfed_client.training.reproducible import same_bits
from mmfed_common import messages as m
from mmfed_common.errors import NetworkError
from mmfed_common.masking import fields as f
from mmfed_common.randomness import derive_seed
from mmfed_common.schedule import Place, used_parameters
from mmfed_common.study import Study
from mmfed_server.plan import RoundReport
from mmfed_server.record.state import RunState

SIZES = (20, 24, 30, 26, 22)
QUIET = {"every": 0, "rule": "none"}
PHASES = (m.MASK_KEYS, m.MASK_SHARES, m.TRAIN, m.MASK_AGREE, m.MASK_OPEN)


def secure_study(secure: bool = True, **aggregation: Any) -> Study:
    rule = {"minimum_sites": 3, "secure": secure, "secure_threshold": 0.6, **aggregation}
    return small_study(evaluation=QUIET, contract=reference_contract(), aggregation=rule)


def difference(one: RunState, two: RunState) -> float:
    return max(float((one.weights[name] - two.weights[name]).abs().max()) for name in one.weights)


@pytest.mark.parametrize(
    "rule", [{}, {"strategy": "fedprox", "proximal_mu": 0.1}, {"strategy": "fedadam"}, {"fraction": 0.6}]
)
def test_masked_rounds_end_with_the_weights_of_plain_ones(rule: dict[str, Any], tmp_path: Path) -> None:
    """To the fixed-point bound: 2⁻³¹ for these sites, below the spacing of the weights' own type."""
    plain, masked = secure_study(False, **rule), secure_study(**rule)
    one = run(plain, small_sites(plain, SIZES), tmp_path / "plain")
    two = run(masked, small_sites(masked, SIZES), tmp_path / "masked")
    assert difference(one, two) < 2e-6
    assert [e["train_loss"] for e in two.history] == pytest.approx([e["train_loss"] for e in one.history])
    assert [e["sites"] for e in two.history] == [e["sites"] for e in one.history]


def test_all_levels_of_a_larger_model_and_a_grid_that_streams(tmp_path: Path) -> None:
    """By plain gradient steps: Adam's make much of a change of the last bit where gradients are about 0."""
    rule = {"minimum_sites": 3, "secure_threshold": 0.6}
    contract = {**gene_study().contract.model_dump(mode="json"), "normalisation": "reference"}
    plain = gene_study(contract=contract, aggregation=rule, evaluation=QUIET)
    plain = plain.with_changes(training={"optimiser": "sgd"})
    masked = plain.with_changes(aggregation={"secure": True})
    one = run(plain, small_sites(plain), tmp_path / "plain")
    two = run_streamed(masked, small_sites(masked), tmp_path / "masked")
    assert difference(one, two) < 1e-6


def test_sums_of_features_are_told_under_masks_too(tmp_path: Path) -> None:
    rule = {"minimum_sites": 3, "secure_threshold": 0.6}
    plain = small_study(evaluation=QUIET, aggregation=rule)
    masked = plain.with_changes(aggregation={"secure": True})
    assert masked.contract.normalisation == "federated"
    told: list[tuple[set[str], int]] = []

    def spoil(site: str, request: Message, reply: Message) -> Message | None:
        if request.metadata.message_type == m.MOMENTS:
            count = reply.content.metric_records[m.METRICS][m.NUM_EXAMPLES]
            told.append((set(reply.content.array_records[m.ARRAYS]), int(count)))  # type: ignore[arg-type]
            return None if site == "site-4" else reply
        return reply

    one = run(plain, small_sites(plain, SIZES), tmp_path / "plain", spoil)
    two = run(masked, small_sites(masked, SIZES), tmp_path / "masked", spoil)
    assert all(torch.allclose(one.scaling[n], two.scaling[n], rtol=1e-6) for n in one.scaling)
    assert difference(one, two) < 1e-4
    assert all(count > 0 for _, count in told[: len(SIZES)])
    assert told[len(SIZES) :] == [({f.MASKED}, 0)] * len(SIZES)


def test_sums_of_features_that_no_numbers_have_are_not_used(tmp_path: Path) -> None:
    study = small_study(evaluation=QUIET, aggregation={"minimum_sites": 3, "secure": True})
    spoilt = iter([True])

    def spoil(site: str, request: Message, reply: Message) -> Message:
        if site == "site-1" and request.metadata.message_type == m.MOMENTS and next(spoilt, False):
            size = reply.content.array_records[m.ARRAYS][f.MASKED].shape[0]
            return masked_vector(reply, np.random.default_rng(1).integers(-(2**62), 2**62, size))
        return reply

    bad = run(study, small_sites(study), tmp_path / "bad", spoil)
    good = run(study, small_sites(study), tmp_path / "good")
    assert all(torch.equal(bad.scaling[name], good.scaling[name]) for name in good.scaling)


def test_the_masks_are_new_each_time_and_the_weights_are_not(tmp_path: Path) -> None:
    study = secure_study()
    sites = small_sites(study, SIZES)
    seen: list[list[np.ndarray[Any, Any]]] = [[], []]
    states = []
    for which in (0, 1):

        def listen(site: str, request: Message, reply: Message, which: int = which) -> Message:
            if request.metadata.message_type == m.TRAIN:
                seen[which].append(reply.content.array_records[m.ARRAYS][f.MASKED].numpy())
            return reply

        states.append(run(study, sites, tmp_path / str(which), listen))
    assert len(seen[0]) == len(seen[1]) == 3 * len(SIZES)
    assert not any(np.array_equal(a, b) for a, b in zip(*seen, strict=True))
    one, two = states
    assert all(torch.equal(one.weights[name], two.weights[name]) for name in one.weights)


def test_nothing_of_a_single_site_is_told_beside_the_masked_numbers(tmp_path: Path) -> None:
    study = secure_study()
    answers: list[Message] = []

    def listen(site: str, request: Message, reply: Message) -> Message:
        if request.metadata.message_type in PHASES:
            answers.append(reply)
        return reply

    run(study, small_sites(study, SIZES), tmp_path / "run", listen)
    assert {answer.metadata.message_type for answer in answers} == set(PHASES)
    for answer in answers:
        metrics = dict(answer.content.metric_records[m.METRICS])
        assert metrics[m.NUM_EXAMPLES] == 0
        assert metrics.get(m.LOSS, 0.0) == 0.0


def dropping(phase: str, site: str = "site-3", only_round: int = 2) -> Callable[..., Message | None]:
    def spoil(name: str, request: Message, reply: Message) -> Message | None:
        number = request.content.config_records[m.CONFIG][m.ROUND]
        gone = name == site and number == only_round and request.metadata.message_type == phase
        return None if gone else reply

    return spoil


@pytest.mark.parametrize("phase", PHASES)
def test_a_site_that_drops_out_in_any_phase_is_made_up_for(phase: str, tmp_path: Path) -> None:
    """Until its masked update is there it is not in the sum; after that it is."""
    plain, masked = secure_study(False), secure_study()
    early = phase in (m.MASK_KEYS, m.MASK_SHARES, m.TRAIN)
    reports: list[RoundReport] = []
    one = run(plain, small_sites(plain, SIZES), tmp_path / "plain", dropping(m.TRAIN if early else "never"))
    two = run(
        masked, small_sites(masked, SIZES), tmp_path / "masked", dropping(phase), progress=reports.append
    )
    assert difference(one, two) < 2e-6
    assert [len(report.sites) for report in reports] == ([5, 4, 5] if early else [5, 5, 5])
    assert reports[1].refused["site-3"].startswith("MMF-401")


def test_a_round_that_too_few_sites_finish_is_tried_again_with_new_keys(tmp_path: Path) -> None:
    study = secure_study(minimum_sites=5)
    sites = small_sites(study, SIZES)
    keys: list[bytes] = []
    lost = iter([True])

    def spoil(site: str, request: Message, reply: Message) -> Message | None:
        kind = request.metadata.message_type
        if kind == m.MASK_KEYS and site == "site-0":
            keys.append(reply.content.config_records[m.MASKING][f.MASKING_KEYS][0])  # type: ignore[index]
        return None if kind == m.TRAIN and site == "site-3" and next(lost, False) else reply

    state = run(study, sites, tmp_path / "run", spoil)
    undisturbed = run(study, sites, tmp_path / "other")
    assert len(keys) == len(set(keys)) == 4
    assert all(torch.equal(state.weights[n], undisturbed.weights[n]) for n in state.weights)
    events = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines()]
    assert [e["round"] for e in events if e["event"] == "round-repeated"] == [1]


def test_below_three_sites_no_round_begins(tmp_path: Path) -> None:
    study = secure_study(minimum_sites=1)
    with pytest.raises(NetworkError) as caught:
        run(study, small_sites(study, (20, 24)), tmp_path / "run")
    assert caught.value.code == "MMF-403"


def masked_vector(reply: Message, values: np.ndarray[Any, Any]) -> Message:
    reply.content[m.ARRAYS] = ArrayRecord({f.MASKED: Array(values)})
    return reply


def short(reply: Message) -> Message:
    return masked_vector(reply, np.zeros(3, np.int64))


def floats(reply: Message) -> Message:
    size = reply.content.array_records[m.ARRAYS][f.MASKED].shape[0]
    return masked_vector(reply, np.zeros(size, np.float64))


def with_count(reply: Message) -> Message:
    reply.content.metric_records[m.METRICS][m.NUM_EXAMPLES] = 20
    return reply


def two_arrays(reply: Message) -> Message:
    record = reply.content.array_records[m.ARRAYS]
    reply.content[m.ARRAYS] = ArrayRecord({**record, "more": Array(np.zeros(1))})
    return reply


@pytest.mark.parametrize(
    ("fault", "code"),
    [(short, "MMF-452"), (floats, "MMF-452"), (with_count, "MMF-454"), (two_arrays, "MMF-451")],
)
def test_masked_numbers_of_another_form_are_refused_and_the_site_is_named(
    fault: Callable[[Message], Message], code: str, tmp_path: Path
) -> None:
    study = secure_study()
    sites = small_sites(study, SIZES)
    reports: list[RoundReport] = []

    def spoil(site: str, request: Message, reply: Message) -> Message:
        return fault(reply) if site == "site-1" and request.metadata.message_type == m.TRAIN else reply

    state = run(study, sites, tmp_path / "bad", spoil, progress=reports.append)
    assert all(report.refused["site-1"].startswith(code) for report in reports)
    others: list[SiteData] = [site for site in sites if site.name != "site-1"]
    good = run(secure_study(), others, tmp_path / "good")
    assert all(torch.equal(state.weights[name], good.weights[name]) for name in good.weights)


def record_of(reply: Message, **changes: Any) -> Message:
    reply.content[m.MASKING] = f.config({**dict(reply.content.config_records[m.MASKING]), **changes})
    return reply


@pytest.mark.parametrize(
    ("phase", "changes", "code"),
    [
        (m.MASK_KEYS, {f.SITES: ["site-2"]}, "MMF-385"),
        (m.MASK_KEYS, {f.MASKING_KEYS: [b"x" * 32]}, "MMF-385"),
        (m.MASK_KEYS, {f.SITE_KEYS: ["no key"]}, "MMF-385"),
        (m.MASK_KEYS, {f.SITES: []}, "MMF-450"),
        (m.MASK_KEYS, {"more": "x"}, "MMF-450"),
        (m.MASK_SHARES, {f.SEALED: [b""]}, "MMF-392"),
        (m.MASK_SHARES, {f.SEALED: "no list"}, "MMF-450"),
        (m.MASK_SHARES, {f.SESSION: "0" * 32}, "MMF-456"),
    ],
)
def test_answers_that_break_the_protocol_name_their_site_and_the_others_go_on(
    phase: str, changes: dict[str, Any], code: str, tmp_path: Path
) -> None:
    study = secure_study()
    reports: list[RoundReport] = []

    def spoil(site: str, request: Message, reply: Message) -> Message:
        broken = site == "site-1" and request.metadata.message_type == phase
        return record_of(reply, **changes) if broken else reply

    run(study, small_sites(study, SIZES), tmp_path / "run", spoil, progress=reports.append)
    assert all(report.refused["site-1"].startswith(code) for report in reports)
    assert [report.sites for report in reports] == [("site-0", "site-2", "site-3", "site-4")] * 3


def test_wrong_shares_are_found_and_the_sum_is_right_all_the_same(tmp_path: Path) -> None:
    study = secure_study()
    sites = small_sites(study, SIZES)
    reports: list[RoundReport] = []

    def spoil(site: str, request: Message, reply: Message) -> Message:
        if site == "site-0" and request.metadata.message_type == m.MASK_OPEN:
            return record_of(reply, **{f.SHARES: [bytes(33)] * len(SIZES)})
        return reply

    state = run(study, sites, tmp_path / "bad", spoil, progress=reports.append)
    good = run(study, sites, tmp_path / "good")
    assert all(report.refused["site-0"].startswith("MMF-392") for report in reports)
    assert all(torch.equal(state.weights[name], good.weights[name]) for name in good.weights)


def test_numbers_without_the_right_masks_are_found_in_the_sum_and_it_is_not_used(tmp_path: Path) -> None:
    study = secure_study()
    sites = small_sites(study, SIZES)
    spoilt = iter([True])
    told: list[str] = []

    def spoil(site: str, request: Message, reply: Message) -> Message:
        if site == "site-1" and request.metadata.message_type == m.TRAIN and next(spoilt, False):
            size = reply.content.array_records[m.ARRAYS][f.MASKED].shape[0]
            return masked_vector(reply, np.random.default_rng(1).integers(-(2**62), 2**62, size))
        return reply

    state = run(study, sites, tmp_path / "bad", spoil, on_refusal=lambda *what: told.append(what[1]))
    good = run(study, sites, tmp_path / "good")
    assert all(torch.equal(state.weights[name], good.weights[name]) for name in good.weights)
    events = [json.loads(line) for line in (tmp_path / "bad" / "events.jsonl").read_text().splitlines()]
    (repeated,) = [event for event in events if event["event"] == "round-repeated"]
    assert all(reason.startswith("MMF-391") for reason in repeated["refused"].values())
    assert told == []  # nobody can say whose they were


def test_a_site_that_leaves_during_the_round_is_not_in_what_is_opened(tmp_path: Path) -> None:
    study = secure_study()
    sites = small_sites(study, SIZES)
    there = {site.name for site in sites}
    opened: list[str] = []

    def spoil(site: str, request: Message, reply: Message) -> Message:
        if request.metadata.message_type == m.TRAIN and site == "site-4":
            there.discard("site-2")
        if request.metadata.message_type == m.MASK_OPEN:
            opened.append(site)
        return reply

    state = run(study, sites, tmp_path / "left", spoil, sites_now=lambda: sorted(there))
    others = [site for site in sites if site.name != "site-2"]
    good = run(study, others, tmp_path / "good")
    assert all(torch.equal(state.weights[name], good.weights[name]) for name in good.weights)
    assert "site-2" not in opened


def test_masks_and_differential_privacy_go_together(tmp_path: Path) -> None:
    """The weights after a round are the mean of what each site trains privately, noise and all."""
    stage = {"level": "clinical", "rounds": 1, "learning_rate": 0.05}
    study = secure_study().with_changes(
        privacy={"mode": "dp", "epsilon": 8.0, "delta": 1e-3},
        training={"stages": [stage], "gradient_clip": None, "local_epochs": 1},
    )
    sites = small_sites(study, SIZES)
    state = run(study, sites, tmp_path / "masked")
    place, updates = Place.of(study.training, 1), []
    for site in (LocalSite(study, data) for data in sites):
        names = used_parameters(site.shapes, site.model.block_of, place.stage)
        weights = {name: site.model.state_dict()[name].clone() for name in names}
        means = means_of(site, None)
        with same_bits(derive_seed(study.study.seed, "message", site.name)):
            update = train_private_round(
                site, weights, site.scaling(None), place, 0.0, means.spender, means.secret
            )
        updates.append(update)
    patients = sum(update.patients for update in updates)
    for name in updates[0].trained:
        mean = sum(update.trained[name].double() * (update.patients / patients) for update in updates)
        half_a_step = 2.0**-23  # of float32 numbers from 2 to 4
        assert torch.allclose(state.weights[name].double(), mean, rtol=0, atol=half_a_step)
