"""What a release says about privacy, and that without it nothing changes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tests.client.joined_home import one_column_study

from mmfed_common.bundle import load_bundle, save_bundle
from mmfed_common.model_card import ModelFacts
from mmfed_common.privacy import PrivacyPlan, told_epsilon, told_privacy
from mmfed_common.study import Study

CONTRACT = {**one_column_study().model_dump(mode="json")["contract"], "normalisation": "reference"}
PRIVATE = one_column_study(
    "private", contract=CONTRACT, privacy={"mode": "dp", "epsilon": 3.0, "delta": 1e-3}
)
OPEN = one_column_study("open")


def test_epsilon_follows_from_the_study_and_the_number_of_patients() -> None:
    plan = PrivacyPlan.of(PRIVATE, 60)
    rounds = PRIVATE.training.rounds
    assert told_epsilon(PRIVATE, 60, rounds) == pytest.approx(plan.cost(), abs=1e-4)
    early = told_epsilon(PRIVATE, 60, 1)
    assert early is not None
    assert 0 < early < plan.cost() <= 3.0
    assert told_epsilon(OPEN, 60, rounds) is None


def test_where_the_number_is_not_known_the_promise_stands() -> None:
    assert told_epsilon(PRIVATE, 0, 5) == 3.0
    part = PRIVATE.with_changes(training={"validation_fraction": 0.2})
    assert told_epsilon(part, 60, 5) == 3.0
    assert told_epsilon(PRIVATE.with_changes(privacy={"delta": 0.2}), 60, 5) == 0.0  # it refuses to train


@pytest.mark.parametrize("study", [PRIVATE, OPEN])
def test_bundle_and_card_say_it(tmp_path: Path, study: Study) -> None:
    sites = [
        {"site": "north", "patients": 60, "train": 60, "test": 0, "epsilon": told_epsilon(study, 60, 5)},
        {"site": "south", "patients": 90, "train": 90, "test": 0, "epsilon": told_epsilon(study, 90, 5)},
    ]
    save_bundle(tmp_path / "m", study, {"w": torch.zeros(1)}, None, ModelFacts({}, sites, "Nobody."))
    index = load_bundle(tmp_path / "m").index
    card = (tmp_path / "m" / "model_card.md").read_text()
    if study is OPEN:
        assert index["epsilon"] is None
        assert "privacy" not in index
        assert "without differential privacy" in card
        return
    told = told_privacy(study, sites)
    assert told == json.loads(json.dumps(index["privacy"]))
    assert index["epsilon"] == max(float(site["epsilon"] or 0) for site in sites)  # type: ignore[arg-type]
    assert told["delta"] == 1e-3
    for text in ("δ = 0.001", "one patient", "DP-SGD", "PRV", f"| north | {sites[0]['epsilon']} |"):
        assert text in card
