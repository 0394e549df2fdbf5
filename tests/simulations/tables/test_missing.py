"""The table of missing modalities: the same costs as the command's, signs, and what the page says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from tests.simulations.evaluation.toy_cohort import STUDY, toy_cohort, toy_topology

from mmfed_common.metrics import Estimate
from mmfed_simulations.consortium import LoadedConsortium
from mmfed_simulations.evaluation.gaps.hidden import Modalities, subsets
from mmfed_simulations.evaluation.gaps.missing import missing, trained_name
from mmfed_simulations.tables.across import Difference
from mmfed_simulations.tables.cohorts import COHORTS, Places
from mmfed_simulations.tables.missing import DRAWS, ONLY, Missing, costs, modalities_of
from mmfed_simulations.tables.rows import RowResult
from mmfed_simulations.tables.table import Workshop

TOY = STUDY.with_changes(
    contract={"response": None, "toxicity": None},
    training={"stages": [{"level": "clinical", "rounds": 2}, {"level": "additive", "rounds": 2}]},
)
WHOLE: Modalities = ("clinical_feature", "gene")


@dataclass(frozen=True)
class ToyPlaces(Places):
    """The toy cohort stands where a TCGA cohort of clinical data and genes would."""

    def tcga(self, name: str) -> LoadedConsortium:
        return LoadedConsortium(TOY, toy_cohort(), toy_topology())


def test_a_row_costs_what_the_command_says(tmp_path: Path) -> None:
    workshop = Workshop(ToyPlaces(tmp_path, tmp_path, tmp_path / "work"), 1, lambda what: None)
    made = {row: Missing().make(workshop, f"KIRC/{row}") for row in ("clinical+genes", "clinical")}
    folder = tmp_path / "work" / "missing" / "KIRC"  # the same trainings
    said = missing(
        TOY, toy_cohort(), toy_topology(), folder, shares=(0.6,), draws=3, against="omics", workers=1
    )["rows"]
    for row, told in zip(made.values(), said, strict=False):
        assert row.figures["survival"]["c_index"].as_dict() == told["figure"]
        lost = costs(row)
        (entry,) = told["training"]
        kept = lost["60% missing in training"].estimate
        assert kept.estimate == pytest.approx(entry["cost"]["estimate"])
        assert (kept.n, kept.events) == (entry["cost"]["n"], entry["cost"]["events"])
        alone = [row.differences[trained_name(0.6, k)]["survival"] for k in range(3)]
        assert kept.estimate == pytest.approx(np.mean([one.estimate.estimate for one in alone]))
        low, high = np.percentile(np.mean([one.draws for one in alone], axis=0), [2.5, 97.5])
        assert (kept.low, kept.high) == pytest.approx((low, high))
        once = row.differences[trained_name(0.2)]["survival"]
        assert lost["20% missing in training"].draws == once.draws
        assert (ONLY in lost) == (told["cost"] is not None)
        if told["cost"] is not None:
            found = lost[ONLY].estimate
            assert found.estimate == pytest.approx(told["cost"]["estimate"])
            assert (found.low, found.high) == pytest.approx((told["cost"]["low"], told["cost"]["high"]))
    has = int(toy_cohort().patients.nodes["gene"].has_modality().sum())
    assert made["clinical+genes"].facts == {"patients": has}


def difference(value: float) -> Difference:
    """A difference with an interval of ± .01 around it."""
    draws = tuple(float(d) for d in value + np.linspace(-0.01, 0.01, 201) / 0.95)
    return Difference(Estimate(value, value - 0.01, value + 0.01, 100, 40), draws)


def row(gap: float, hidden: float | None) -> RowResult:
    """A row that lost ``gap`` by every share of gaps, and ``hidden`` by hiding the rest."""
    lost = {
        trained_name(share, k): {"survival": difference(gap + 0.001 * (k - (count - 1) / 2))}
        for share, count in DRAWS.items()
        for k in range(count)
    }
    if hidden is not None:
        lost[ONLY] = {"survival": difference(-hidden)}  # ours minus the one that was trained alone
    figures = {"survival": {"c_index": Estimate(0.7, 0.65, 0.75, 100, 40)}}
    return RowResult("0" * 64, figures, lost, {"patients": 80})


def rows_of(cohort: str, gap: float, hidden: float) -> dict[str, RowResult]:
    """Every row of a cohort."""
    table = [name for name in Missing().rows if name.startswith(f"{cohort}/")]
    return {name: row(gap, None if k == 0 else hidden) for k, name in enumerate(table)}


def test_there_is_a_row_for_every_set_of_every_cohort() -> None:
    rows = Missing().rows
    assert (
        len(set(rows)) == len(rows) == sum(len(subsets(modalities_of(c))) for c in COHORTS) == 2 * 7 + 3 * 3
    )
    assert "LUAD/clinical+imaging" in rows
    assert "KIRC/clinical+imaging" not in rows


def test_the_page_gives_both_costs_in_each_cohort_and_over_them() -> None:
    page = Missing().page(rows_of("LUAD", 0.004, 0.012) | rows_of("KIRC", 0.008, 0.002))
    omics, training = (line for line in page.splitlines() if "| at most" in line)
    assert [cell.strip() for cell in omics.split("|")[2:7]] == [
        "at most 0.015", "+.007 [-.003, +.017] (2 cohorts)", "yes; its interval reaches beyond",
        "+.012 [+.002, +.022]", "",
    ]  # fmt: skip
    assert "+.006 [-.004, +.016]" in training
    assert "60% missing in training, against none" in training
    assert "## KIRC" in page
    assert (
        "| clinical + imaging | 80 | .700 [.650, .750] | +.012 [+.002, +.022] | +.004 [-.006, +.014] |"
        in page
    )


@pytest.mark.parametrize(
    ("gap", "word"), [(-0.01, "yes, with its whole interval"), (0.02, "no"), (0.005, "yes; its interval")]
)
def test_the_page_says_whether_an_aim_was_reached(gap: float, word: str) -> None:
    page = Missing().page(rows_of("LUAD", gap, 0.0))
    assert "| +.000 [-.010, +.010] |" in page
    assert "-.000" not in page
    (line,) = [line for line in page.splitlines() if "missing in training, against none" in line]
    assert line.split("|")[4].strip().startswith(word)


def test_rows_that_are_not_there_leave_their_cells_empty() -> None:
    every = rows_of("LUAD", 0.004, 0.012)
    page = Missing().page({"LUAD/genes": every["LUAD/genes"]})
    assert page.count("not known") == 2
    assert "## SKCM" not in page
