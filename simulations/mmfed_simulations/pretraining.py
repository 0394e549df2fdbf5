"""A federation over the sites of several cohorts that ends with a bundle, for other studies to start from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmfed_common.bundle import INDEX, copy_bundle, load_bundle
from mmfed_common.errors import ModelError, StudyError
from mmfed_server.plan import RoundReport
from mmfed_simulations.consortium import LoadedConsortium
from mmfed_simulations.evaluation.run_results import finish_run
from mmfed_simulations.run import run_study

RUN_SUFFIX = ".run"


def run_folder_of(out: Path) -> Path:
    """Where the run lies that makes a bundle: beside it."""
    return out.with_name(out.name + RUN_SUFFIX)


def pretrain(
    loaded: LoadedConsortium,
    out: Path,
    *,
    workers: int = 1,
    resume: bool = False,
    files: Path | None = None,
    progress: Callable[[RoundReport], None] | None = None,
) -> dict[str, Any]:
    """Run the study over all sites, and release its model.

    Parameters
    ----------
    loaded
        The sites of all cohorts.
    out
        The bundle's folder; the run, with its diary and results, lies beside it in ``<out>.run``.
    workers, resume, files, progress
        As for :func:`.run_study`.

    Returns
    -------
    dict
        Content of the run's ``results.json``, and the bundle's ``bundle`` and ``sha256``.

    Raises
    ------
    ModelError
        ``MMF-606`` when ``out`` is something else than a bundle.
    MmfedError
        Whatever ends the run.
    """
    if out.exists() and not (out / INDEX).is_file() and any(out.iterdir()):
        raise ModelError("MMF-606", "the folder exists and is not a bundle; choose another", str(out))
    folder, sites = run_folder_of(out), loaded.sites()
    result = run_study(
        loaded.study, sites, folder, workers=workers, resume=resume, files=files, progress=progress
    )
    results = finish_run(loaded.study, sites, result, folder)
    digest = load_bundle(folder / "model").hash
    try:
        copy_bundle(folder / "model", out, digest)
    except OSError as error:
        raise StudyError("MMF-508", f"cannot be written: {error.strerror}", str(out)) from None
    return {**results, "bundle": str(out), "sha256": digest}


def cohort_names(folders: Sequence[Path]) -> list[str]:
    """A name for each cohort: its folder's, with a number where two are called the same."""
    names = [folder.resolve().name for folder in folders]
    return [
        name if names.count(name) == 1 else f"{name}-{names[: place + 1].count(name)}"
        for place, name in enumerate(names)
    ]
