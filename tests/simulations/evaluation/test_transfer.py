"""Fine-tuning against training from scratch: the same few patients train both, the same are held out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.simulations.evaluation.toy_cohort import STUDY, toy_cohort, toy_topology

from mmfed_client.cohort import Cohort
from mmfed_common.bundle import load_bundle
from mmfed_common.errors import StudyError
from mmfed_common.study import Study
from mmfed_simulations.evaluation.folds import plan_folds
from mmfed_simulations.evaluation.run_results import finish_run
from mmfed_simulations.evaluation.site_data import sites_of
from mmfed_simulations.evaluation.transfer import (
    TransferResult,
    _part_of,
    fine_tuned,
    transfer,
    transfer_table,
    transfer_text,
)
from mmfed_simulations.run import run_study

CONTRACT = {"response": None, "toxicity": None}
LONG = [
    {"level": "clinical", "rounds": 12, "learning_rate": 0.5},
    {"level": "additive", "rounds": 12, "learning_rate": 0.5},
]
SHORT = [{"level": "additive", "rounds": 1, "trains": ["clinical"], "learning_rate": 0.1}]


def study_with(stages: list[dict[str, object]]) -> Study:
    training = {"stages": stages, "batch": 0, "optimiser": "sgd"}
    return STUDY.with_changes(contract=CONTRACT, training=training, aggregation={"minimum_patients": 1})


def others() -> Cohort:
    """Patients of another hospital, by the same rule of nature."""
    cohort = toy_cohort(400, seed=1)
    ids = tuple(f"other-{name}" for name in cohort.patients.patient_ids)
    return replace(cohort, patients=replace(cohort.patients, patient_ids=ids))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    study = study_with(LONG).with_changes(evaluation={"rule": "none"})
    sites = sites_of(study, others(), toy_topology())
    result = run_study(study, sites, folder / "released")
    finish_run(study, sites, result, folder / "released")
    return folder / "released"


def fine_tuning(files: Path, stages: list[dict[str, object]]) -> Study:
    start = {"file": "model", "sha256": load_bundle(files / "model").hash}
    return study_with(stages).with_changes(model={"start_from": start, "frozen": ["additive"]})


@pytest.fixture(scope="module")
def found(files: Path, tmp_path_factory: pytest.TempPathFactory) -> TransferResult:
    out = tmp_path_factory.mktemp("transfer")
    result = transfer(
        study_with(LONG),
        {"fine-tuned": fine_tuning(files, SHORT)},
        toy_cohort(),
        toy_topology(),
        out,
        files=files,
        fractions=(1.0, 0.25),
        workers=1,
    )
    assert json.loads((out / "transfer.json").read_text()) == json.loads(json.dumps(result.as_dict()))
    return result


def test_a_model_of_many_patients_helps_a_study_of_few(found: TransferResult) -> None:
    gains = {(gain.fraction, gain.way): gain for gain in found.gains}
    assert list(gains) == [(f, w) for f in (0.25, 1.0) for w in ("scratch", "fine-tuned")]
    few = gains[0.25, "fine-tuned"]
    assert few.patients < 20
    assert few.gain.estimate is not None
    assert few.gain.estimate > 0.03
    scratch = gains[0.25, "scratch"]
    assert few.figure.estimate == pytest.approx((scratch.figure.estimate or 0) + few.gain.estimate)
    assert scratch.gain.estimate == 0.0
    assert few.figure.n == gains[1.0, "scratch"].figure.n


def test_the_table_says_on_how_many_patients(found: TransferResult) -> None:
    columns = transfer_table(found).columns
    assert list(columns[0].cells) == ["25%", "25%", "100%", "100%"]
    assert list(columns[2].cells) == ["scratch", "fine-tuned"] * 2
    assert "hash of the patient id" in " ".join(transfer_text(found).split())


def test_parts_hold_all_held_out_patients_and_grow_by_hash() -> None:
    plan = plan_folds(STUDY, toy_cohort(), "cohort")
    fold = plan.folds[0]
    marks = plan.held_out(fold)
    ids = np.array(plan.cohort.patients.patient_ids)
    kept = {}
    for fraction in (0.25, 0.5, 1.0):
        part, trained = _part_of(plan, marks, fraction, 3)
        kept[fraction] = set(part.patients.patient_ids)
        assert set(ids[marks]) <= kept[fraction]
        assert trained == len(kept[fraction]) - int(marks.sum())
        own = replace(plan, cohort=part).held_out(fold)
        assert set(np.array(part.patients.patient_ids)[own]) == set(ids[marks])
    assert kept[0.25] < kept[0.5] < kept[1.0] == set(ids)


def test_a_fine_tuning_study_has_a_share_of_the_rounds_and_what_is_left_to_train(files: Path) -> None:
    bundle = load_bundle(files / "model")
    short = fine_tuned(study_with(LONG), bundle, "model", share=0.3)
    assert [(s.level, s.rounds) for s in short.training.stages] == [("clinical", 4), ("additive", 4)]
    frozen = fine_tuned(study_with(LONG), bundle, "model", frozen=("additive",))
    (stage,) = frozen.training.stages
    assert (stage.level, stage.trained_blocks, stage.rounds) == ("additive", ("clinical",), 2)
    with pytest.raises(StudyError) as caught:
        fine_tuned(study_with(LONG), bundle, "model", frozen=("everything",))
    assert caught.value.code == "MMF-501"


@pytest.mark.parametrize("fault", ["no bundle", "another contract"])
def test_what_cannot_be_compared_is_refused(fault: str, files: Path, tmp_path: Path) -> None:
    way = fine_tuning(files, SHORT)
    if fault == "no bundle":
        way = study_with(SHORT)
    else:
        way = way.with_changes(contract={"clinical": {"age": {"kind": "number"}}})
    with pytest.raises(StudyError) as caught:
        transfer(
            study_with(LONG), {"way": way}, toy_cohort(), toy_topology(), tmp_path, files=files, workers=1
        )
    assert caught.value.code == "MMF-511"
