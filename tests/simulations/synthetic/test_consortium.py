"""The synthetic consortium: same settings, same tables; and what is planted is really there."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines.utils import concordance_index

from mmfed_common.errors import StudyError
from mmfed_simulations.synthetic import Consortium, SyntheticSettings, make_consortium, settings_from
from mmfed_simulations.synthetic.consortium import site_sizes
from mmfed_simulations.synthetic.writer import planted_c_index


@pytest.fixture(scope="module")
def consortium() -> Consortium:
    """The default: 10 sites, 1,000 patients."""
    return make_consortium(SyntheticSettings())


def pooled(consortium: Consortium, table: str) -> pd.DataFrame:
    """One table of all sites."""
    parts = [tables[table] for tables in consortium.tables.values() if table in tables]
    return pd.concat(parts).set_index("patient_id")


def test_same_settings_give_the_same_tables_and_another_seed_others() -> None:
    small = SyntheticSettings(sites=3, patients=60, genes=60)
    first, second = make_consortium(small), make_consortium(small)
    for site, tables in first.tables.items():
        for name, table in tables.items():
            pd.testing.assert_frame_equal(table, second.tables[site][name])
    other = make_consortium(small.model_copy(update={"seed": 2}))
    assert not first.patients["log_hazard"].equals(other.patients["log_hazard"])


def test_sizes_and_modalities_are_as_promised(consortium: Consortium) -> None:
    assert len(consortium.tables) == 10
    assert len(pooled(consortium, "clinical")) == 1000
    assert consortium.patients["patient_id"].is_unique
    assert pooled(consortium, "expression").shape[1] == 300
    assert pooled(consortium, "protein").shape[1] == 60
    assert pooled(consortium, "metabolite").shape[1] == 40
    imaging = pooled(consortium, "imaging")
    assert {"x", "y"} < set(imaging.columns)
    assert imaging.groupby(level=0).size().between(1, 4).all()
    assert not imaging.reset_index().duplicated(["patient_id", "x", "y"]).any()
    sizes = [len(tables["clinical"]) for tables in consortium.tables.values()]
    assert max(sizes) > 2 * min(sizes)


def test_gaps_are_realistic(consortium: Consortium) -> None:
    lacks = [set(consortium.tables["site-01"]) ^ set(tables) for tables in consortium.tables.values()]
    assert any(lacks), "no site lacks a modality"
    assert all("expression" in tables for tables in consortium.tables.values())
    assert 0 < 1000 - len(pooled(consortium, "expression")) < 100
    share = pooled(consortium, "expression").isna().to_numpy().mean()
    assert share == pytest.approx(SyntheticSettings().values_missing, rel=0.2)
    assert pooled(consortium, "clinical")["response"].isna().mean() == pytest.approx(0.25, abs=0.05)


def test_twenty_genes_in_four_pathways_carry_the_gene_part(consortium: Consortium) -> None:
    truth = consortium.truth
    assert len(truth.planted_genes) == 20
    in_pathways = {truth.genes[i] for name in truth.planted_pathways for i in truth.cores[name]}
    assert in_pathways == set(truth.planted_genes)
    expression = np.log1p(pooled(consortium, "expression"))
    part = consortium.patients.set_index("patient_id")["log_hazard_gene"].loc[expression.index]
    strength = expression.corrwith(part).abs()
    planted = strength[list(truth.planted_genes)]
    assert (strength.drop(planted.index) > planted.median()).sum() == 0


def test_planted_risk_ranks_survival_and_no_part_does_as_well(consortium: Consortium) -> None:
    frame = consortium.patients
    whole = planted_c_index(consortium)
    assert 0.78 < whole < 0.86
    for part in ("clinical", "gene", "protein", "metabolite", "imaging"):
        alone = concordance_index(frame["os_days"], -frame[f"log_hazard_{part}"], frame["os_event"])
        assert alone < whole - 0.03
    assert 0.5 < frame["os_event"].mean() < 0.8


def test_without_effects_the_planted_risk_is_worth_nothing() -> None:
    none = {"clinical": 0.0, "gene": 0.0, "protein": 0.0, "metabolite": 0.0, "imaging": 0.0}
    frame = make_consortium(settings_from(effects=none)).patients
    assert frame["log_hazard"].abs().max() == 0
    assert frame["death_days"].median() == pytest.approx(SyntheticSettings().median_days, rel=0.15)


def test_follow_up_never_exceeds_death_and_differs_by_site(consortium: Consortium) -> None:
    frame = consortium.patients
    assert (frame["os_days"] <= frame["death_days"]).all()
    assert ((frame["os_days"] == frame["death_days"]) == (frame["os_event"] == 1)).all()
    assert (frame["os_days"] >= 1).all()
    longest = frame[frame["os_event"] == 0].groupby("site")["os_days"].max()
    assert longest.max() > 1.3 * longest.min()


def test_response_and_toxicity_depend_on_their_planted_scores(consortium: Consortium) -> None:
    frame = consortium.patients.set_index("patient_id")
    rank = pooled(consortium, "clinical")["response"].map({"none": 0, "partial": 1, "complete": 2}).dropna()
    assert rank.corr(frame["response_score"].loc[rank.index], method="spearman") > 0.4
    toxicity = pooled(consortium, "toxicity")
    for label in toxicity.columns:
        known = toxicity[label].dropna()
        assert known.corr(frame[f"logit_{label}"].loc[known.index]) > 0.3


def test_batch_effects_separate_sites_only_when_asked_for() -> None:
    def spread(batch_effect: float) -> float:
        made = make_consortium(settings_from(batch_effect=batch_effect, missing=0.0))
        means = [tables["protein"].drop(columns="patient_id").mean() for tables in made.tables.values()]
        return float(pd.concat(means, axis=1).std(axis=1).mean())

    assert spread(1.0) > 3 * spread(0.0)


@given(
    sites=st.integers(1, 30), patients=st.integers(60, 3000), spread=st.floats(0, 2), seed=st.integers(0, 99)
)
@settings(max_examples=50)
def test_site_sizes_always_add_up(sites: int, patients: int, spread: float, seed: int) -> None:
    wanted = SyntheticSettings(sites=sites, patients=patients, size_spread=spread, seed=seed)
    sizes = site_sizes(wanted)
    assert sizes.sum() == patients
    assert sizes.min() >= min(wanted.smallest_site, patients // sites)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"patients": 5, "sites": 4}, "too few for 4 sites"),
        ({"planted_genes": 21}, "multiple"),
        ({"planted_pathways": 30, "planted_genes": 30}, "planted_pathways"),
        ({"genes": 22}, "genes"),
        ({"missing": 2.0}, "missing"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_contradictions_are_named(options: dict[str, object], named: str) -> None:
    with pytest.raises(StudyError) as caught:
        settings_from(**options)
    assert caught.value.code == "MMF-512"
    assert named in caught.value.what


def test_settings_are_part_of_the_truth(consortium: Consortium) -> None:
    assert {field.name for field in dataclasses.fields(consortium.truth)} >= {"gene_weights", "cores"}
    assert consortium.settings == SyntheticSettings()
