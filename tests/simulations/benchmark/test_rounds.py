"""The rounds benchmark measures what it says, and memory is flat."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from mmfed_simulations.benchmark.rounds import rounds_table, run_rounds_benchmark, slope


def test_the_slope_is_that_of_the_line() -> None:
    assert slope([3.0, 5.0, 7.0, 9.0]) == pytest.approx(2.0)
    assert slope([5.0, 4.0, 5.0, 4.0, 5.0]) == pytest.approx(0.0)


@pytest.mark.slow
def test_memory_grows_by_less_than_a_megabyte_a_round() -> None:
    seen: list[int] = []
    result = run_rounds_benchmark(25, 5, progress=seen.append)
    assert seen == list(range(1, 26))
    assert result["memory_growth_mb_per_round"] < 1.0
    assert result["memory_last_mb"] > 50
    assert result["seconds_per_round"] > 0
    text = io.StringIO()
    Console(file=text, width=100).print(rounds_table([result]))
    assert "inprocess" in text.getvalue()
    assert f"{result['memory_growth_mb_per_round']:+.4f}" in text.getvalue()
