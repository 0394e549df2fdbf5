"""What is hidden looks as if it had never been measured, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.client.cohort.conftest import PATIENTS, SmallCohort
from tests.simulations.evaluation.toy_cohort import STUDY, toy_cohort, toy_topology

from mmfed_client.cohort import Cohort
from mmfed_client.prediction import predict_site
from mmfed_client.site import SiteData
from mmfed_common.graph import build_topology
from mmfed_common.model import build_model
from mmfed_common.patients import PatientTensors
from mmfed_common.scaling import Moments, Scaling
from mmfed_common.study import Study
from mmfed_simulations.evaluation.folds import plan_folds
from mmfed_simulations.evaluation.gaps.hidden import (
    NOTHING,
    Hidden,
    joined,
    showing,
    subsets,
    without_in_training,
)
from mmfed_simulations.evaluation.site_data import sites_of

COHORT = toy_cohort()
TOPOLOGY = toy_topology()
FOLD = plan_folds(STUDY, COHORT, "cohort").folds[0]
TABLES = {
    "clinical_feature": (),
    "gene": ("expression",),
    "protein": ("protein",),
    "imaging_feature": ("imaging",),
}


def small_study(contract: dict[str, object]) -> Study:
    """Every level of the model over the small cohort's four modalities."""
    return Study.from_content(
        {
            "study": {"name": "small", "seed": 5},
            "contract": contract,
            "model": {"hidden": 8, "heads": 2, "layers": 1, "kernel": "plain"},
            "training": {"stages": [{"level": "full", "rounds": 1}]},
            "evaluation": {"rule": "fold", "folds": 5, "fold": 2},
        }
    )


def one_site(study: Study, cohort: Cohort) -> SiteData:
    """All patients at one site."""
    held_out = np.array(cohort.folds) == 2
    topology = build_topology(study.contract, None)
    return SiteData("one", cohort.patients, held_out, topology, cohort.folds)


@pytest.mark.parametrize("lost", [("gene",), ("protein", "imaging_feature"), ("imaging_feature", "gene")])
def test_a_patient_shown_without_a_modality_is_one_who_never_had_it(
    tmp_path: Path, lost: tuple[str, ...]
) -> None:
    """The tables are written again without the held-out patients' rows, and read; same bits everywhere."""
    whole = SmallCohort(tmp_path / "whole")
    never = SmallCohort(tmp_path / "never")
    gone = {f"P{i:03d}" for i in range(PATIENTS) if i % 5 == 2}
    for name in lost:
        for table in TABLES[name]:
            frame = never.frames[table]
            never.frames[table] = frame[~frame["patient_id"].isin(gone)].reset_index(drop=True)
    for small in (whole, never):
        small.folder.mkdir()
    study = small_study(whole.contract)
    had, lacked = one_site(study, whole.load()), one_site(study, never.load())
    shown = [name for name in study.contract.node_types if name not in lost]
    hidden = showing(had, shown)
    assert tensors_of(hidden.patients) != tensors_of(had.patients)
    assert tensors_of(hidden.patients) == tensors_of(lacked.patients)

    moments = Moments.of(had.training)
    scaling = Scaling.from_moments(moments, study.contract, had.topology)
    generator = torch.Generator().manual_seed(1)
    state = {
        name: tensor + 0.3 * torch.randn(tensor.shape, generator=generator)  # gates away from zero
        for name, tensor in build_model(study, had.topology).state_dict().items()
    }
    seen, masked, absent = (predict_site(study, site, state, scaling) for site in (had, hidden, lacked))
    for task in ("hazard_logits", "response_logits", "toxicity_logits"):
        assert torch.equal(getattr(masked, task), getattr(absent, task))
        assert not torch.equal(getattr(masked, task), getattr(seen, task))


def tensors_of(patients: PatientTensors) -> dict[str, list[object]]:
    """Every number of the patients' nodes."""
    parts = {}
    for name, node in patients.nodes.items():
        for part, tensor in vars(node).items():
            parts[f"{name}/{part}"] = None if tensor is None else tensor.tolist()
    return parts


def test_what_is_shown_at_test_leaves_training_as_it_was() -> None:
    for site in sites_of(FOLD.study, COHORT, TOPOLOGY):
        hidden = showing(site, ("clinical_feature",))
        assert tensors_of(hidden.training) == tensors_of(site.training)
        assert not hidden.test.nodes["gene"].has_modality().any()
        assert torch.equal(
            hidden.test.nodes["clinical_feature"].values, site.test.nodes["clinical_feature"].values
        )


@pytest.mark.parametrize("share", [0.2, 0.6])
def test_gaps_in_training_never_touch_a_held_out_patient(share: float) -> None:
    before = sites_of(FOLD.study, COHORT, TOPOLOGY)
    after = sites_of(FOLD.study, COHORT, TOPOLOGY, Hidden(share))
    lost = had = 0
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old.held_out, new.held_out)
        assert tensors_of(old.test) == tensors_of(new.test)
        assert torch.equal(
            old.training.nodes["clinical_feature"].present, new.training.nodes["clinical_feature"].present
        )
        has, left = (site.training.nodes["gene"].has_modality() for site in (old, new))
        assert not (left & ~has).any()
        had, lost = had + int(has.sum()), lost + int((has & ~left).sum())
    assert lost / had == pytest.approx(share, abs=0.2)
    assert 0 < lost < had


def test_gaps_are_nested_and_follow_from_the_patient_alone() -> None:
    everybody = large_cohort()
    study = FOLD.study.with_changes(evaluation={"rule": "hash"})
    small, again, large = (
        without_in_training(study, "any", everybody, Hidden(share)).nodes["gene"].has_modality()
        for share in (0.2, 0.2, 0.6)
    )
    assert torch.equal(small, again)
    assert not (large & ~small).any()  # who loses it at 20 % loses it at 60 %
    had = everybody.patients.nodes["gene"].has_modality()
    training = torch.from_numpy(~study.held_out_rule.held_out(everybody.patients.patient_ids, "any", None))
    for left, share in ((small, 0.2), (large, 0.6)):
        lost = (had & ~left & training).sum() / (had & training).sum()
        assert float(lost) == pytest.approx(share, abs=0.05)
    other = study.with_changes(study={"seed": 4}, evaluation={"rule": "none"})
    elsewhere = without_in_training(other, "any", everybody, Hidden(0.2)).nodes["gene"].has_modality()
    assert not torch.equal(elsewhere, small)
    drawn = without_in_training(study, "any", everybody, Hidden(0.2, draw=1)).nodes["gene"].has_modality()
    assert not torch.equal(drawn, small)
    order = torch.arange(len(had) - 1, -1, -1)
    turned = Cohort(everybody.patients.select(order), everybody.sites[::-1], None, ())
    mirrored = without_in_training(study, "another", turned, Hidden(0.6)).nodes["gene"].has_modality()
    assert torch.equal(mirrored[order], large)


def large_cohort() -> Cohort:
    """Two thousand patients of the toy cohort's kind, without folds."""
    patients = toy_cohort(n=2000).patients
    return Cohort(patients, ("any",) * 2000, None, ())


def test_every_subset_is_there_once() -> None:
    assert subsets(STUDY.contract.node_types) == (
        ("clinical_feature", "gene"),
        ("clinical_feature",),
        ("gene",),
    )


def test_what_is_hidden_names_the_files_of_a_training() -> None:
    every = subsets(STUDY.contract.node_types)
    parts = [
        hidden.file_part
        for hidden in (
            NOTHING,
            Hidden(0.2),
            Hidden(0.2, draw=1),
            Hidden(0.6),
            Hidden(shown=every),
            Hidden(0.2, every),
            Hidden(0.2, every[:1]),
        )
    ]
    assert parts[0] == ""
    assert len(set(parts)) == len(parts)
    assert joined(every[0]) == "clinical_feature+gene"
