"""One contract for all back ends: the same apps, the same bits, the same errors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.simulations.small_federation import gene_study, small_sites, small_study

from mmfed_common.errors import MmfedError
from mmfed_simulations.backends import BACKENDS, backend_named
from mmfed_simulations.run import RunResult, run_study

CASES = [
    pytest.param("inprocess", 1, id="inprocess"),
    pytest.param("inprocess", 2, id="two worker processes"),
    pytest.param("ray", 2, id="ray", marks=pytest.mark.ray),
]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """The undisturbed run that the others are compared with."""
    study = gene_study()
    return run_study(study, small_sites(study), tmp_path_factory.mktemp("reference") / "out")


def same_bits(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(("backend", "workers"), CASES)
def test_every_back_end_gives_the_same_bits(
    backend: str, workers: int, reference: RunResult, tmp_path: Path
) -> None:
    study = gene_study()
    result = run_study(study, small_sites(study), tmp_path / "out", backend=backend, workers=workers)
    assert same_bits(result.state, reference.state)
    losses = [{k: v for k, v in entry.items() if k != "seconds"} for entry in result.rounds]
    assert losses == [{k: v for k, v in entry.items() if k != "seconds"} for entry in reference.rounds]
    assert result.scaling is not None
    assert reference.scaling is not None
    assert same_bits(result.scaling.to_arrays(), reference.scaling.to_arrays())


@pytest.mark.parametrize(
    ("backend", "workers"), [CASES[0], pytest.param("ray", 1, id="ray", marks=pytest.mark.ray)]
)
def test_what_ends_a_run_comes_out_with_its_code(backend: str, workers: int, tmp_path: Path) -> None:
    study = small_study(aggregation={"minimum_sites": 4, "deadline_seconds": 5.0})
    with pytest.raises(MmfedError) as caught:
        run_study(study, small_sites(study), tmp_path / "out", backend=backend, workers=workers)
    assert caught.value.code == "MMF-403"
    assert '"failed"' in (tmp_path / "out" / "state" / "status.json").read_text()


def test_the_seed_decides_the_weights(reference: RunResult, tmp_path: Path) -> None:
    study = gene_study(study={"name": "small", "seed": 8})
    other = run_study(study, small_sites(study), tmp_path / "out")
    assert not same_bits(other.state, reference.state)


def test_the_order_of_the_sites_does_not_matter(reference: RunResult, tmp_path: Path) -> None:
    study = gene_study()
    result = run_study(study, small_sites(study)[::-1], tmp_path / "out")
    assert same_bits(result.state, reference.state)


def test_an_unknown_back_end_is_named() -> None:
    with pytest.raises(MmfedError, match="there is no back end slurm"):
        backend_named("slurm")


def test_all_back_ends_are_there() -> None:
    assert set(BACKENDS) == {"inprocess", "ray"}
    assert all(callable(backend_named(name).run) for name in BACKENDS)
