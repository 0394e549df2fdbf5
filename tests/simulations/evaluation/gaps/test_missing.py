"""What missing modalities cost, against figures that are computed by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lifelines.utils import concordance_index
from tests.simulations.evaluation.toy_cohort import STUDY, toy_cohort, toy_topology

from mmfed_client.prediction import predict_site
from mmfed_client.site import SiteData
from mmfed_common.errors import StudyError
from mmfed_common.heldout import hash_fraction
from mmfed_common.patients import NodeTensors, PatientTensors
from mmfed_common.study import Study
from mmfed_common.tasks import survival
from mmfed_simulations.evaluation.gaps.missing import missing
from mmfed_simulations.evaluation.site_data import only_nodes, sites_of
from mmfed_simulations.run import RunResult, run_study

TOPOLOGY = toy_topology()
STAGES = [
    {"level": "clinical", "rounds": 4, "learning_rate": 0.3},
    {"level": "additive", "rounds": 6, "learning_rate": 0.05},
]
TOY = STUDY.with_changes(
    contract={"response": None, "toxicity": None}, training={"stages": STAGES, "optimiser": "sgd"}
)
COHORT = toy_cohort()
CLINICAL, GENE = ("clinical_feature",), ("gene",)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the figures of the toy cohort lie."""
    return tmp_path_factory.mktemp("missing")


@pytest.fixture(scope="module")
def results(folder: Path) -> dict[str, Any]:
    found = missing(TOY, COHORT, TOPOLOGY, folder, shares=(0.5,), draws=2, workers=1)
    assert json.loads((folder / "missing.json").read_text()) == found
    return found


def row_of(results: Mapping[str, Any], *shown: str) -> dict[str, Any]:
    """The row of one subset."""
    (row,) = [row for row in results["rows"] if row["shown"] == list(shown)]
    assert isinstance(row, dict)
    return row


def test_there_is_a_row_for_each_subset(results: dict[str, Any]) -> None:
    assert [row["shown"] for row in results["rows"]] == [[*CLINICAL, *GENE], [*CLINICAL], [*GENE]]
    assert results["without_omics"] == [*CLINICAL]
    whole = results["rows"][0]
    assert (whole["only"], whole["cost"]) == (None, None)
    has = int(COHORT.patients.nodes["gene"].has_modality().sum())
    assert results["modalities"][1] == {"name": "gene", "patients": has, "of": 100}


def by_hand(
    study: Study, fold: int, folder: Path, *, hide: str = "", gaps: float = 0.0, draw: int = 0
) -> float:
    """C-index of one fold, with the masks written out."""
    chosen = study.with_changes(evaluation={"rule": "fold", "folds": 2, "fold": fold})
    sites = [with_gaps(site, gaps, TOY.study.seed + draw) for site in sites_of(chosen, COHORT, TOPOLOGY)]
    result = run_study(chosen, sites, folder)
    if hide:
        hidden = [lose(site.patients, hide, site.held_out) for site in sites]
        sites = [
            SiteData(site.name, patients, site.held_out, TOPOLOGY, site.folds)
            for site, patients in zip(sites, hidden, strict=True)
        ]
    return c_index(chosen, sites, result)


def c_index(study: Study, sites: Sequence[SiteData], result: RunResult) -> float:
    """Harrell's C over the held-out patients of all sites, by lifelines."""
    times, scores, events = [], [], []
    for site in sites:
        logits = predict_site(study, site, result.state, result.scaling).hazard_logits
        assert logits is not None
        assert study.contract.survival is not None
        known = site.test.outcomes.survival_known
        scores.append(survival.risk_score(logits, study.contract.survival.bins)[known])
        times.append(site.test.outcomes.time_days[known])
        events.append(site.test.outcomes.event[known])
    time, score, event = (torch.cat(part).double().numpy() for part in (times, scores, events))
    return float(concordance_index(time, -score, event))


def with_gaps(site: SiteData, share: float, seed: int) -> SiteData:
    """Take the genes from a share of the training patients."""
    drawn = [hash_fraction(seed, i, "missing gene") for i in site.patients.patient_ids]
    loses = ~site.held_out & (np.array(drawn) < share)
    return SiteData(site.name, lose(site.patients, "gene", loses), site.held_out, site.topology, site.folds)


def lose(patients: PatientTensors, name: str, who: np.ndarray[Any, np.dtype[np.bool_]]) -> PatientTensors:
    """Set values to 0 and presence to false."""
    node = patients.nodes[name]
    values, present = node.values.clone(), node.present.clone()
    values[torch.from_numpy(who)] = 0.0
    present[torch.from_numpy(who)] = False
    return PatientTensors(
        patients.patient_ids, {**patients.nodes, name: NodeTensors(values, present)}, patients.outcomes
    )


def test_figures_are_those_computed_by_hand(results: dict[str, Any], tmp_path: Path) -> None:
    def mean(name: str, **how: Any) -> float:
        return float(np.mean([by_hand(TOY, k, tmp_path / f"{name}-{k}", **how) for k in (0, 1)]))

    whole, clinical = row_of(results, *CLINICAL, *GENE), row_of(results, *CLINICAL)
    expected = mean("whole")
    without = mean("without", hide="gene")
    first, second = (mean(f"gaps-{k}", gaps=0.5, draw=k) for k in (0, 1))
    gaps = (first + second) / 2
    assert whole["figure"]["estimate"] == pytest.approx(expected, abs=1e-6)
    assert clinical["figure"]["estimate"] == pytest.approx(without, abs=1e-6)
    assert row_of(results, *GENE)["figure"]["estimate"] == pytest.approx(
        mean("genes", hide="clinical_feature"), abs=1e-6
    )
    (entry,) = whole["training"]
    assert entry["figure"]["estimate"] == pytest.approx(gaps, abs=1e-6)
    assert entry["cost"]["estimate"] == pytest.approx(expected - gaps, abs=1e-6)
    assert expected - without > 0.01  # genes are planted in the hazard
    assert entry["spread"] == pytest.approx(abs(first - second) / np.sqrt(2), abs=1e-6)
    assert len({first, second, expected}) == 3


def test_hiding_the_rest_is_compared_with_training_on_what_is_shown(
    results: dict[str, Any], tmp_path: Path
) -> None:
    """The clinical stage comes first and is frozen, so hiding the genes gives the clinical model itself."""
    clinical, genes = row_of(results, *CLINICAL), row_of(results, *GENE)
    assert clinical["cost"]["estimate"] == 0.0
    assert clinical["only"]["estimate"] == clinical["figure"]["estimate"]
    only = TOY.with_changes(contract={"clinical": {}, "demographics": {}})
    topology = only_nodes(TOPOLOGY, GENE)
    figures = []
    for fold in (0, 1):
        rule = {"rule": "fold", "folds": 2, "fold": fold}
        sites = [
            SiteData(site.name, genes_of(site.patients), site.held_out, topology, site.folds)
            for site in sites_of(TOY.with_changes(evaluation=rule), COHORT, TOPOLOGY)
        ]
        chosen = only.with_changes(evaluation=rule)
        figures.append(c_index(chosen, sites, run_study(chosen, sites, tmp_path / str(fold))))
    assert genes["only"]["estimate"] == pytest.approx(np.mean(figures), abs=1e-6)
    assert genes["cost"]["estimate"] == pytest.approx(
        np.mean(figures) - genes["figure"]["estimate"], abs=1e-6
    )


def genes_of(patients: PatientTensors) -> PatientTensors:
    """The same patients with genes alone."""
    return PatientTensors(patients.patient_ids, {"gene": patients.nodes["gene"]}, patients.outcomes)


def test_goes_on_after_an_interruption_and_gives_the_same(results: dict[str, Any], folder: Path) -> None:
    kept = sorted((folder / "cache").glob("*.parquet"))
    assert len(kept) == 2 * 5  # two folds; everything, two subsets alone, and two draws of gaps
    lost = [path for path in kept if "hidden" in path.name][:2]
    for path in lost:
        path.unlink()
    begun: list[tuple[int, int]] = []
    again = missing(
        TOY, COHORT, TOPOLOGY, folder, shares=(0.5,), draws=2, workers=1,
        progress=lambda done, total, what: begun.append((done, total)),
    )  # fmt: skip
    assert begun == [(8, 10), (9, 10), (10, 10)]
    assert again == results


def test_only_the_subset_without_omics_or_none_may_be_trained_alone(tmp_path: Path, folder: Path) -> None:
    found = missing(TOY, COHORT, TOPOLOGY, folder, shares=(), against="omics", workers=1)
    assert [row["shown"] for row in found["rows"] if row["only"] is not None] == [[*CLINICAL]]
    found = missing(TOY, COHORT, TOPOLOGY, folder, shares=(), against="none", workers=1)
    assert [row for row in found["rows"] if row["only"] is not None] == []
    assert all(row["training"] == [] for row in found["rows"])


def test_a_study_with_one_modality_is_refused(tmp_path: Path) -> None:
    lonely = TOY.with_changes(contract={"gene": None})
    with pytest.raises(StudyError, match="clinical_feature only") as error:
        missing(lonely, COHORT, TOPOLOGY, tmp_path)
    assert error.value.code == "MMF-514"
    assert not list(tmp_path.iterdir())
