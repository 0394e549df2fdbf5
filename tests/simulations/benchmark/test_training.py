"""The training benchmark compares like with like and restores what it changes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mmfed_common.knowledge import KnowledgePack, Pair, Protein
from mmfed_common.topology import REGULATES
from mmfed_simulations.benchmark.training import TrainingBenchmark, run_training_benchmark

SMALL = TrainingBenchmark(genes=40, proteins=8, hidden=16, heads=4, batch=5, repeats=3, threads=1)


def test_random_graph() -> None:
    before = torch.get_num_threads()
    result = run_training_benchmark(None, SMALL)
    assert torch.get_num_threads() == before
    assert result["graph"] == "random"
    assert result["nodes"] == {"clinical_feature": 4, "gene": 40, "protein": 8}
    assert result["largest_loss_difference"] < 1e-4
    ratio = result["ratio"]
    assert 0 < ratio["low"] <= ratio["estimate"] <= ratio["high"]


def test_takes_the_best_connected_genes_of_a_pack(tmp_path: Path) -> None:
    genes = [f"G{i:02}" for i in range(60)]
    pairs = [Pair(genes[i], genes[(i * 7 + 1) % 30], 1.0, "test") for i in range(30)]
    KnowledgePack.assemble(
        genes, [Protein("P", ("G01",)), Protein("Q", ("G59",))], relations={REGULATES: pairs}
    ).save(tmp_path / "pack")
    result = run_training_benchmark(tmp_path / "pack", SMALL)
    assert result["graph"] == "knowledge pack"
    assert result["nodes"]["gene"] == 40
    assert result["edges"]["__".join(REGULATES)] == len({p[:2] for p in pairs if p.source != p.target})


@pytest.mark.slow
def test_faster_than_pyg() -> None:
    """Far below what is measured on a quiet machine, to hold on a busy one."""
    settings = TrainingBenchmark(genes=600, proteins=100, batch=16, repeats=3, threads=1)
    assert run_training_benchmark(None, settings)["ratio"]["estimate"] > 2
