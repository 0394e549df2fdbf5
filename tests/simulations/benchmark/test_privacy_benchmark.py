"""The benchmark of private steps measures what it says, at a size that a test can bear."""

from __future__ import annotations

from rich.console import Console

from mmfed_simulations.benchmark.privacy import FORMS, privacy_table, run_privacy_benchmark
from mmfed_simulations.benchmark.training import TrainingBenchmark

SMALL = TrainingBenchmark(genes=40, proteins=8, hidden=8, heads=2, layers=1, batch=6, repeats=2, threads=1)


def test_every_form_is_measured_beside_a_plain_step() -> None:
    everything, heads = run_privacy_benchmark(SMALL), run_privacy_benchmark(SMALL, "heads")
    for result in (everything, heads):
        assert set(result["seconds"]) == set(result["ratio"]) == set(FORMS)
        assert result["ratio"]["plain"] == {"estimate": 1.0, "low": 1.0, "high": 1.0}
        assert all(seconds > 0 for seconds in result["seconds"].values())
    assert heads["parameters"] < everything["parameters"]
    console = Console(record=True, width=120)
    console.print(privacy_table([everything, heads]))
    shown = console.export_text()
    assert "vmap" in shown
    assert f"{everything['parameters']:,}" in shown
