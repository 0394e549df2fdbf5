"""What privacy costs: little noise costs nothing, and much costs everything."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.simulations.evaluation.toy_cohort import STUDY, toy_cohort, toy_topology

from mmfed_client.cohort import Cohort
from mmfed_simulations.evaluation.tradeoff import Cost, tradeoff, tradeoff_table

FIXED = {"normalisation": "reference"}
AGE = {
    "age": {"kind": "number", "minimum": 0, "maximum": 120, "reference_mean": 60, "reference_deviation": 10}
}
STAGES = [{"level": "clinical", "rounds": 20, "learning_rate": 0.5}]
TOY = STUDY.with_changes(
    contract={
        **FIXED,
        "clinical": AGE | {"sex": {"kind": "binary"}},
        "gene": None,
        "response": None,
        "toxicity": None,
    },
    training={"stages": STAGES, "optimiser": "sgd"},
)


def aged_cohort() -> Cohort:
    """The toy cohort, but the older die sooner, without exception."""
    cohort = toy_cohort()
    age = cohort.patients.nodes["clinical_feature"].values[:, 0, 0]
    outcomes = replace(cohort.patients.outcomes, event=torch.ones(len(age)), time_days=3000 - 30 * age)
    return replace(cohort, patients=replace(cohort.patients, outcomes=outcomes))


@pytest.fixture(scope="module")
def costs(tmp_path_factory: pytest.TempPathFactory) -> list[Cost]:
    folder = tmp_path_factory.mktemp("tradeoff")
    found = tradeoff(
        TOY,
        aged_cohort(),
        toy_topology(),
        folder,
        epsilons=(500.0, 0.25),
        delta=1e-3,
        trainables=("linear",),
        draws=4,
        workers=1,
    )
    written = json.loads((folder / "tradeoff.json").read_text())["costs"]
    assert [cost["figure"]["estimate"] for cost in written] == [cost.figure.estimate for cost in found]
    return found


def test_each_epsilon_stands_beside_training_without_privacy(costs: list[Cost]) -> None:
    assert [(cost.epsilon, cost.trainable, cost.draws) for cost in costs] == [
        (None, "all", 1),
        (None, "linear", 1),
        (500.0, "linear", 4),
        (0.25, "linear", 4),
    ]


def test_little_noise_costs_little_and_much_noise_much(costs: list[Cost]) -> None:
    without, linear, little, much = (cost.figure.estimate or 0.0 for cost in costs)
    assert without == pytest.approx(linear)  # of the clinical level, everything is linear
    assert without > 0.7
    assert abs(without - little) < 0.06  # clipping costs something too
    assert much < without
    assert costs[2].spread < 0.02
    assert costs[3].spread > 0.05  # the noise decides which way the model points


def test_the_loss_is_the_difference(costs: list[Cost]) -> None:
    without = costs[0].figure.estimate or 0.0
    for cost in costs:
        assert cost.loss.estimate == pytest.approx(without - (cost.figure.estimate or 0.0))


def test_the_table_names_what_moved_and_its_epsilon(costs: list[Cost]) -> None:
    columns = tradeoff_table(costs).columns
    assert list(columns[0].cells) == ["all", "linear", "linear", "linear"]
    assert list(columns[1].cells) == ["∞", "∞", "500", "0.25"]


def test_noise_that_sites_share_stands_beside_noise_of_each(tmp_path: Path) -> None:
    found = tradeoff(
        TOY,
        aged_cohort(),
        toy_topology(),
        tmp_path,
        epsilons=(2.0,),
        delta=1e-3,
        trainables=("linear",),
        noises=("site", "shared"),
        draws=1,
        workers=1,
    )
    assert [(cost.epsilon, cost.noise) for cost in found] == [
        (None, "site"),
        (None, "site"),
        (2.0, "site"),
        (2.0, "shared"),
    ]
    figures = [cost.figure.estimate or 0.0 for cost in found]
    assert figures[2] != figures[3]
    assert figures[3] > 0.6
    assert list(tradeoff_table(found).columns[2].cells) == ["", "", "each site", "all sites"]
