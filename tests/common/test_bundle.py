"""A bundle comes back as it was, and refuses to load once anything in it changed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mmfed_common.bundle import CONTENT, load_bundle, save_bundle
from mmfed_common.errors import ModelError
from mmfed_common.model_card import ModelFacts, format_estimate, metric_name
from mmfed_common.recalibration import LowerBound
from mmfed_common.scaling import Scaling
from mmfed_common.study import Study

STUDY = Study.from_content(
    {
        "study": {"name": "tiny", "seed": 4, "contact": "someone@example.org"},
        "contract": {
            "clinical": {"age": {"kind": "number"}},
            "survival": {"bins": [365.0, 730.0], "horizons": [365.0]},
        },
        "training": {"stages": [{"level": "clinical", "rounds": 2}]},
    }
)
FACTS = ModelFacts(
    metrics={
        "federated": {
            "survival": {"c_index": {"estimate": 0.7123, "low": 0.65, "high": 0.77, "n": 90, "events": 31}}
        }
    },
    sites=[{"site": "north", "patients": 60, "train": 48, "test": 12}],
    held_out="One fifth of the patients of every site was held out.",
    notes=["One site was too small to take part."],
)


def _state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {"head.weight": torch.randn(3, 2, generator=generator).T, "head.bias": torch.zeros(2)}


def _scaling() -> Scaling:
    return Scaling({"clinical_feature": torch.tensor([[61.5]])}, {"clinical_feature": torch.tensor([[9.25]])})


def test_round_trip(tmp_path: Path) -> None:
    saved = save_bundle(tmp_path / "model", STUDY, _state(), _scaling(), FACTS)
    loaded = load_bundle(tmp_path / "model")
    assert loaded.study == STUDY
    assert loaded.study.hash == STUDY.hash
    assert loaded.state.keys() == _state().keys()
    for name, tensor in _state().items():
        assert torch.equal(loaded.state[name], tensor)
    assert loaded.scaling is not None
    assert torch.equal(loaded.scaling.mean["clinical_feature"], torch.tensor([[61.5]]))
    assert torch.equal(loaded.scaling.deviation["clinical_feature"], torch.tensor([[9.25]]))
    assert loaded.metrics == FACTS.metrics
    assert loaded.hash == saved.hash
    assert not (tmp_path / "model.partial").exists()


def test_same_content_same_bytes(tmp_path: Path) -> None:
    first = save_bundle(tmp_path / "a", STUDY, _state(), _scaling(), FACTS)
    second = save_bundle(tmp_path / "b", STUDY, _state(), _scaling(), FACTS)
    assert first.hash == second.hash


def test_sites_may_have_their_own_scaling(tmp_path: Path) -> None:
    save_bundle(tmp_path / "model", STUDY, _state(), None, FACTS)
    assert load_bundle(tmp_path / "model").scaling is None


@pytest.mark.parametrize("name", [*CONTENT])
def test_an_altered_file_is_refused(tmp_path: Path, name: str) -> None:
    save_bundle(tmp_path / "model", STUDY, _state(), _scaling(), FACTS)
    path = tmp_path / "model" / name
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ModelError, match=name) as caught:
        load_bundle(tmp_path / "model")
    assert caught.value.code == "MMF-606"


@pytest.mark.parametrize("name", [*CONTENT, "bundle.json"])
def test_a_missing_file_is_refused(tmp_path: Path, name: str) -> None:
    save_bundle(tmp_path / "model", STUDY, _state(), _scaling(), FACTS)
    (tmp_path / "model" / name).unlink()
    with pytest.raises(ModelError) as caught:
        load_bundle(tmp_path / "model")
    assert caught.value.code == "MMF-606"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 99, "files": {}}'])
def test_a_broken_index_is_refused(tmp_path: Path, content: str) -> None:
    save_bundle(tmp_path / "model", STUDY, _state(), _scaling(), FACTS)
    (tmp_path / "model" / "bundle.json").write_text(content)
    with pytest.raises(ModelError) as caught:
        load_bundle(tmp_path / "model")
    assert caught.value.code == "MMF-606"


def test_a_bundle_outlives_new_keys_of_studies(tmp_path: Path) -> None:
    """As an earlier version wrote it, which did not know a key that has a default now."""
    folder = tmp_path / "model"
    save_bundle(folder, STUDY, _state(), _scaling(), FACTS)
    old = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    del old["training"]["pretraining"]
    document = json.dumps(old, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    (folder / "study.json").write_bytes(document)
    index = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    digest = hashlib.sha256(document).hexdigest()
    index["study"]["hash"] = index["files"]["study.json"] = digest
    (folder / "bundle.json").write_text(json.dumps(index), encoding="utf-8")
    assert load_bundle(folder).study == STUDY


def test_a_study_swapped_together_with_its_hash_is_refused(tmp_path: Path) -> None:
    save_bundle(tmp_path / "model", STUDY, _state(), _scaling(), FACTS)
    other = STUDY.with_changes(study={"seed": 5})
    save_bundle(tmp_path / "other", other, _state(), _scaling(), FACTS)
    index = json.loads((tmp_path / "model" / "bundle.json").read_text())
    index["files"]["study.json"] = json.loads((tmp_path / "other" / "bundle.json").read_text())["files"][
        "study.json"
    ]
    (tmp_path / "model" / "study.json").write_bytes((tmp_path / "other" / "study.json").read_bytes())
    (tmp_path / "model" / "bundle.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="study"):
        load_bundle(tmp_path / "model")


def test_a_folder_of_something_else_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "thesis.txt").write_text("ten years of work")
    with pytest.raises(ModelError):
        save_bundle(tmp_path / "model", STUDY, _state(), None, FACTS)
    assert (tmp_path / "model" / "thesis.txt").read_text() == "ten years of work"


def test_an_older_bundle_is_replaced(tmp_path: Path) -> None:
    save_bundle(tmp_path / "model", STUDY, _state(), _scaling(), FACTS)
    other = STUDY.with_changes(study={"seed": 5})
    save_bundle(tmp_path / "model", other, _state(), None, FACTS)
    assert load_bundle(tmp_path / "model").study.study.seed == 5


def test_model_card_states_the_facts(tmp_path: Path) -> None:
    save_bundle(tmp_path / "model", STUDY, _state(), None, FACTS)
    card = (tmp_path / "model" / "model_card.md").read_text()
    for fact in (
        "0.712 [0.650, 0.770]",
        "48 patients of 1 sites",
        STUDY.hash,
        "ε: none",
        "One site was too small to take part.",
        "someone@example.org",
    ):
        assert fact in card


def test_figures_are_written_plainly() -> None:
    assert format_estimate({"estimate": None}) == "–"
    assert format_estimate({"estimate": 0.5, "low": None, "high": None}) == "0.500"
    assert (
        format_estimate({"estimate": 0.01, "low": -0.02, "high": 0.04}, signed=True)
        == "+0.010 [-0.020, +0.040]"
    )
    assert metric_name("auc_365.25") == "AUC at 12 months"


CALIBRATION = {
    "bins_days": [365.0, 730.0],
    "lower_bound": {
        "level": 0.9,
        "death_probability": 0.112,
        "longest_days": 700.0,
        "n": 90,
        "events": 31,
    },
    "temperatures": {
        "centre": [-2.0, -1.5],
        "common": {"temperature": 1.4, "shift": 0.1, "n": 90, "events": 31},
        "scenarios": {"clinical_feature": {"temperature": 1.2, "shift": 0.0, "n": 60, "events": 25}},
    },
    "horizons": [
        {"horizon_days": 365.25, "expected": 0.21, "observed": 0.2, "low": 0.15, "high": 0.27},
        {"horizon_days": 730.5, "expected": 0.4, "observed": None, "low": None, "high": None},
    ],
    "slope": {"estimate": 0.93, "low": 0.7, "high": 1.2},
    "d_calibration": {"rejected": 1, "folds": 5},
    "coverage": {"estimate": 0.903, "low": 0.88, "high": 0.93},
}


def test_calibration_comes_back_beside_the_metrics(tmp_path: Path) -> None:
    saved = save_bundle(tmp_path / "model", STUDY, _state(), None, replace(FACTS, calibration=CALIBRATION))
    loaded = load_bundle(tmp_path / "model")
    assert loaded.metrics == saved.metrics == FACTS.metrics
    assert loaded.calibration == saved.calibration == CALIBRATION
    bound = LowerBound(**CALIBRATION["lower_bound"])  # type: ignore[arg-type]
    assert bound.days(np.array([[0.95, 0.5]]), [365.0, 730.0]).item() == pytest.approx(403.4, abs=1)


def test_the_card_says_how_calibrated_a_model_is(tmp_path: Path) -> None:
    save_bundle(tmp_path / "known", STUDY, _state(), None, replace(FACTS, calibration=CALIBRATION))
    card = (tmp_path / "known" / "model_card.md").read_text()
    for part in (
        "Deaths by 1 year: 21.0% expected, 20.0% [15.0%, 27.0%] observed.",
        "Deaths by 2 years: 40.0% expected; nobody was followed so long.",
        "Calibration slope 0.93 [0.70, 1.20]",
        "rejected in 1 of 5 folds",
        "reaches 0.112, at most day 700; from 90 patients with 31 deaths.",
        "90.3% of held-out patients lived at least so long [88.0%, 93.0%].",
        "clinical_feature 1.20, otherwise 1.40",
    ):
        assert part in card
    save_bundle(tmp_path / "unknown", STUDY, _state(), None, FACTS)
    assert "no predicted probability may be read" in (tmp_path / "unknown" / "model_card.md").read_text()
    assert load_bundle(tmp_path / "unknown").calibration is None
