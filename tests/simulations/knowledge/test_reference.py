"""Reference values of a public cohort: what a study standardises with when it may ask no site."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tests.simulations.knowledge.public_cohort import cohort_toml

from mmfed_common.errors import ModelError
from mmfed_common.graph import build_topology
from mmfed_common.knowledge import KnowledgePack, Source, restrict
from mmfed_common.scaling import Scaling
from mmfed_common.study import Study
from mmfed_simulations.knowledge.reference import with_references
from mmfed_simulations.site_files import read_topology, serialise_topology

PACK = KnowledgePack.assemble(["TP53", "KRAS", "EGFR"], aliases={"P53": ["TP53"]})
SOURCE = Source("public", "1", "CC0", "cohort", "")
COHORT = cohort_toml('[gene.expression]\ntable = "g"', "g")
STUDY = Study.from_content(
    {
        "study": {"name": "referred", "seed": 5},
        "contract": {
            "normalisation": "reference",
            "clinical": {"age": {"kind": "number", "reference_mean": 60, "reference_deviation": 12}},
            "gene": {
                "panel": ["P53", "KRAS", "EGFR"],
                "layers": {"expression": {"transform": "log1p", "reference_mean": 4.0}},
            },
            "survival": {"bins": [365, 1000, 3000], "horizons": [365]},
        },
        "training": {"stages": [{"level": "additive", "rounds": 1}]},
    }
)


@pytest.fixture(scope="module")
def expression() -> pd.DataFrame:
    random = np.random.default_rng(1)
    table = pd.DataFrame(random.gamma(2.0, 50.0, (60, 2)), columns=["TP53", "KRAS"])
    table["EGFR"] = np.where(np.arange(60) < 20, 7.0, np.nan)  # too few to say anything
    return table


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory, expression: pd.DataFrame) -> KnowledgePack:
    folder = tmp_path_factory.mktemp("public")
    (folder / "cohort.toml").write_text(COHORT)
    ids = [f"p{n}" for n in range(60)]
    pd.DataFrame({"id": ids, "days": range(100, 3100, 50), "died": [0, 1] * 30}).to_csv(
        folder / "t.csv", index=False
    )
    expression.assign(id=ids).to_csv(folder / "g.csv", index=False)
    return with_references(PACK, STUDY, [(folder, None)], ["gene"], SOURCE)


def test_values_are_those_of_the_transformed_table(pack: KnowledgePack, expression: pd.DataFrame) -> None:
    among = pack.references["gene.expression"]
    assert sorted(among) == ["KRAS", "TP53"]
    for gene in among:
        logged = np.log1p(expression[gene])
        assert among[gene] == pytest.approx((logged.mean(), logged.std(ddof=0)), rel=1e-5)
    assert pack.sources == (Source("public", "1", "CC0", "cohort", "", 2),)


def test_a_study_standardises_with_them(pack: KnowledgePack) -> None:
    topology = build_topology(STUDY.contract, pack)
    scaling = Scaling.from_reference(STUDY.contract, topology)
    wanted = [pack.references["gene.expression"][name] for name in ("TP53", "KRAS")]
    for row, (mean, deviation) in enumerate(wanted):
        assert float(scaling.mean["gene"][row, 0]) == pytest.approx(mean)
        assert float(scaling.deviation["gene"][row, 0]) == pytest.approx(deviation)
    assert (float(scaling.mean["gene"][2, 0]), float(scaling.deviation["gene"][2, 0])) == (4.0, 1.0)
    assert float(scaling.mean["clinical_feature"][0, 0]) == 60


def test_they_travel_with_pack_and_topology(pack: KnowledgePack, tmp_path: Path) -> None:
    pack.save(tmp_path / "pack.mmfk")
    again = KnowledgePack.load(tmp_path / "pack.mmfk")
    assert again == pack
    assert pack.sha256 != PACK.sha256
    topology = build_topology(STUDY.contract, again)
    (tmp_path / "topology").write_bytes(serialise_topology(topology))
    read = read_topology(tmp_path / "topology")
    assert torch.equal(read.references["gene"].isnan(), topology.references["gene"].isnan())
    assert torch.equal(read.references["gene"].nan_to_num(), topology.references["gene"].nan_to_num())
    assert list(restrict(pack, genes=["KRAS"]).references["gene.expression"]) == ["KRAS"]


def test_a_pack_without_references_is_what_it_was() -> None:
    assert b"references" not in PACK._canonical()
    assert build_topology(STUDY.contract, PACK).references == {}


@pytest.mark.parametrize("pair", [(0.0, 0.0), (0.0, -1.0), (float("nan"), 1.0), (0.0, float("inf"))])
def test_what_is_no_mean_and_deviation_is_refused(pair: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="no mean and deviation"):
        KnowledgePack.assemble(["TP53"], references={"gene.expression": {"TP53": pair}})


def test_features_that_the_study_lacks_are_refused() -> None:
    with pytest.raises(ModelError) as caught:
        with_references(PACK, STUDY, [], ["protein"], SOURCE)
    assert caught.value.code == "MMF-608"
