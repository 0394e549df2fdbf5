"""Arms: what each changes in the study, and how patients are put together."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from tests.client.privacy.shared_sites import shared_study
from tests.simulations.evaluation.toy_cohort import GENES, STUDY, toy_cohort, toy_topology

from mmfed_common.model import build_model
from mmfed_simulations.evaluation.arms import alone, attention_only, reduced_to, trainable
from mmfed_simulations.evaluation.folds import plan_folds
from mmfed_simulations.evaluation.late_fusion import late_fusion
from mmfed_simulations.evaluation.site_data import (
    join_patients,
    only_modalities,
    only_nodes,
    pooled_site,
    sites_of,
)

COHORT = toy_cohort()
TOPOLOGY = toy_topology()
FOLD = plan_folds(STUDY, COHORT, "cohort").folds[0]
SITES = sites_of(FOLD.study, COHORT, TOPOLOGY)


def test_sites_are_the_cohort_split() -> None:
    assert [site.name for site in SITES] == ["clinic", *(f"hospital-{k}" for k in range(4))]
    assert COHORT.folds is not None
    for site in SITES:
        index = [i for i, name in enumerate(COHORT.sites) if name == site.name]
        assert site.patients.patient_ids == tuple(COHORT.patients.patient_ids[i] for i in index)
        np.testing.assert_array_equal(site.held_out, [COHORT.folds[i] == 0 for i in index])


def test_pooled_is_everybody_with_the_same_held_out() -> None:
    everybody = pooled_site(FOLD.study, SITES, TOPOLOGY)
    assert sorted(everybody.patients.patient_ids) == sorted(COHORT.patients.patient_ids)
    assert COHORT.folds is not None
    fold_of = dict(zip(COHORT.patients.patient_ids, COHORT.folds, strict=True))
    np.testing.assert_array_equal(
        everybody.held_out, [fold_of[p] == 0 for p in everybody.patients.patient_ids]
    )
    assert everybody.folds == tuple(fold_of[p] for p in everybody.patients.patient_ids)


def test_joined_patients_are_the_parts_in_order() -> None:
    first, second = COHORT.patients.select(torch.tensor([4, 2])), COHORT.patients.select(torch.tensor([7]))
    joined = join_patients([first, second])
    again = COHORT.patients.select(torch.tensor([4, 2, 7]))
    assert joined.patient_ids == again.patient_ids
    for name, node in joined.nodes.items():
        assert torch.equal(node.values, again.nodes[name].values)
        assert torch.equal(node.present, again.nodes[name].present)
    for name in joined.outcomes.__dataclass_fields__:
        assert torch.equal(getattr(joined.outcomes, name), getattr(again.outcomes, name))


@pytest.mark.parametrize("node_type", ["clinical_feature", "gene"])
def test_single_modality_keeps_one_and_the_outcomes(node_type: str) -> None:
    study = reduced_to(STUDY, [node_type])
    assert study.contract.node_types == (node_type,)
    assert study.contract.tasks == STUDY.contract.tasks
    assert study.contract.survival == STUDY.contract.survival
    site = only_modalities(SITES[1], study.contract)
    assert set(site.patients.nodes) == {node_type}
    assert site.patients.outcomes is SITES[1].patients.outcomes
    build_model(study, site.topology)


def test_single_clinical_modality_trains_no_additive_block() -> None:
    stages = reduced_to(STUDY, ["clinical_feature"]).training.stages
    assert [stage.level for stage in stages] == ["clinical", "full"]
    assert reduced_to(STUDY, ["gene"]).training == STUDY.training


def test_attention_fusion_trains_as_many_rounds_without_the_paths() -> None:
    study = attention_only(STUDY)
    assert study.training.rounds == STUDY.training.rounds
    assert not study.model.clinical_path
    assert not study.model.additive_path
    assert not study.model.intra_attention
    assert [(s.level, s.trained_blocks) for s in study.training.stages] == [
        ("clinical", ("clinical",)),
        ("full", ("full",)),
        ("full", ("full",)),
    ]
    only_clinical = STUDY.with_changes(training={"stages": [{"level": "clinical", "rounds": 3}]})
    assert attention_only(only_clinical).training.stages[-1].level == "full"


def test_reduced_topology_has_no_loose_ends() -> None:
    reduced = only_nodes(TOPOLOGY, ("clinical_feature",))
    assert reduced.nodes == {"clinical_feature": ("age", "sex")}
    assert all(r[0] == r[2] == "clinical_feature" for r in reduced.edges)
    assert reduced.pathways == ()
    assert only_nodes(TOPOLOGY, ("gene",)).nodes["gene"] == GENES


def test_which_sites_can_train_alone() -> None:
    assert not trainable(FOLD.study, SITES[0])
    assert all(trainable(FOLD.study, site) for site in SITES[1:])
    demanding = FOLD.study.with_changes(aggregation={"minimum_patients": 30})
    assert not any(trainable(demanding, site) for site in SITES)


def test_a_site_alone_has_no_sum_to_mask_and_no_noise_to_share() -> None:
    shared = shared_study()
    lonely = alone(shared)
    assert (lonely.aggregation.secure, lonely.aggregation.minimum_sites) == (False, 1)
    assert lonely.privacy.noise == "site"
    assert (lonely.privacy.epsilon, lonely.training) == (shared.privacy.epsilon, shared.training)


def test_late_fusion_by_hand() -> None:
    """Patient p000 may lack expression; who has both gets the mean of standardised scores."""
    has = COHORT.patients.nodes["gene"].has_modality()
    with_gene, without = (int(torch.nonzero(has == value)[0]) for value in (True, False))
    ids = [COHORT.patients.patient_ids[k] for k in (with_gene, without)]
    clinical = pd.DataFrame(
        {
            "arm": "c",
            "patient_id": ids,
            "risk_score": [12.0, 8.0],
            "survival_365.25": [0.4, 0.8],
            "response_none": 0.5,
        }
    )
    gene = pd.DataFrame(
        {"arm": "g", "patient_id": ids[::-1], "risk_score": [1.0, 3.0], "survival_365.25": [0.1, 0.6]}
    )
    scale = {"clinical_feature": {"mean": 10.0, "deviation": 2.0}, "gene": {"mean": 2.0, "deviation": 0.5}}
    fused = late_fusion({"clinical_feature": clinical, "gene": gene}, scale, COHORT.patients).set_index(
        "patient_id"
    )
    assert fused.loc[ids[0], "risk_score"] == pytest.approx((1.0 + 2.0) / 2)
    assert fused.loc[ids[0], "survival_365.25"] == pytest.approx((0.4 + 0.6) / 2)
    assert fused.loc[ids[1], "risk_score"] == pytest.approx(-1.0)
    assert fused.loc[ids[1], "survival_365.25"] == pytest.approx(0.8)
    assert "response_none" not in fused
    assert set(fused["arm"]) == {"late_fusion"}
