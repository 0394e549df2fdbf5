"""Tables of what missing modalities cost, from figures written down here."""

from __future__ import annotations

from io import StringIO
from typing import Any

from rich.console import Console

from mmfed_simulations.evaluation.gaps.table import missing_explanation, missing_tables


def figure(estimate: float | None, below: float = 0.02, above: float = 0.03) -> dict[str, Any]:
    """An estimate with its interval."""
    if estimate is None:
        return {"estimate": None, "low": None, "high": None, "n": 0, "events": 0}
    return {
        "estimate": estimate,
        "low": estimate - below,
        "high": estimate + above,
        "n": 90,
        "events": 40,
    }


def row(shown: list[str], value: float, cost: float | None, gaps: float) -> dict[str, Any]:
    """A row as ``missing`` gives it."""
    alone = cost is not None
    return {
        "shown": shown,
        "task": "survival",
        "metric": "c_index",
        "figure": figure(value),
        "only": figure(value + cost) if cost is not None else None,
        "cost": figure(cost) if alone else None,
        "training": [
            {"share": 0.2, "figure": figure(value), "cost": figure(0.0), "spread": None},
            {"share": 0.6, "figure": figure(value - gaps), "cost": figure(gaps), "spread": None},
        ],
    }


def results(cost: float, gaps: float) -> dict[str, Any]:
    """A study with clinical data and genes."""
    return {
        "study": {"name": "two", "hash": "0" * 64, "seed": 1},
        "held_out": "Two folds.",
        "bootstrap": 40,
        "modalities": [
            {"name": "clinical_feature", "patients": 90, "of": 90},
            {"name": "gene", "patients": 71, "of": 90},
        ],
        "without_omics": ["clinical_feature"],
        "shares": [0.2, 0.6],
        "draws": 1,
        "rows": [
            row(["clinical_feature", "gene"], 0.71, None, gaps),
            row(["clinical_feature"], 0.68, cost, 0.001),
            row(["gene"], 0.61, 0.04, 0.02),
        ],
    }


def test_the_terminal_has_a_row_a_subset_and_a_column_a_way_of_training() -> None:
    (table,) = missing_tables(results(0.004, 0.013))
    shown = [list(column.cells) for column in table.columns]
    assert shown[0] == ["clinical + genes", "clinical", "genes"]
    assert shown[1][0] == ".710\n.690 .740"
    assert shown[2][1] == ".684\n.664 .714"
    assert shown[3] == ["", "+.004\n-.016 +.034", "+.040\n+.020 +.070"]
    assert shown[5][0] == "+.013\n-.007 +.043"
    out = StringIO()
    Console(file=out, width=150).print(table)
    assert "60%" in out.getvalue()
    assert "clinical 90, genes 71" in missing_explanation(results(0.0, 0.0))


def test_nothing_trained_alone_leaves_its_columns_out() -> None:
    found = results(0.0, 0.0)
    for one in found["rows"]:
        one["only"] = one["cost"] = None
    (table,) = missing_tables(found)
    assert [str(column.header).split("\n")[0] for column in table.columns] == [
        "shown at test", "trained on all", "cost of 20%", "cost of 60%",
    ]  # fmt: skip


def test_draws_are_told() -> None:
    found = results(0.004, 0.013)
    assert "draws" not in missing_explanation(found)
    assert "mean of 3 draws" in missing_explanation(found | {"draws": 3})
