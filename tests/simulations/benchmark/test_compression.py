"""The benchmark of compressed updates says what was sent and what it cost."""

from __future__ import annotations

from rich.console import Console
from tests.simulations.small_federation import gene_study, small_sites

from mmfed_simulations.benchmark.compression import KINDS, compression_table, run_compression_benchmark


def test_each_type_is_run_on_the_same_patients() -> None:
    study = gene_study(model={"hidden": 32, "heads": 2, "layers": 1, "fusion_layers": 1})
    results = run_compression_benchmark(study, small_sites(study, (40, 44, 50)))
    assert [entry["compression"] for entry in results] == list(KINDS)
    assert results[0]["share_up"] == 1.0
    assert results[0]["moved_apart"] == 0.0
    assert len({entry["megabytes_down"] for entry in results}) == 1
    for entry in results[1:]:
        assert entry["share_up"] < 1.0
        assert 0.0 < entry["moved_apart"] < 0.1
        assert abs(entry["c_index"]["estimate"] - results[0]["c_index"]["estimate"]) < 0.1
    console = Console(width=200, record=True)
    console.print(compression_table(results))
    text = console.export_text()
    assert all(kind in text for kind in KINDS)
