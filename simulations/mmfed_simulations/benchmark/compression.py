"""What compressed updates save and what they cost: the same study with each type, on the same patients."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from rich.table import Table

from mmfed_client.site import SiteData
from mmfed_common.compression import Compression
from mmfed_common.study import Study
from mmfed_simulations.consortium import load_consortium
from mmfed_simulations.evaluation.run_results import finish_run
from mmfed_simulations.run import run_study
from mmfed_simulations.synthetic import SyntheticSettings, make_consortium, write_consortium

KINDS: tuple[Compression, ...] = get_args(Compression)


def synthetic_study(folder: Path, settings: SyntheticSettings) -> tuple[Study, list[SiteData]]:
    """Make a synthetic consortium in a folder; gives its study and its sites."""
    write_consortium(make_consortium(settings), folder, progress=lambda _: None)
    study = Study.load(folder / "study.toml")
    return study, load_consortium(folder, study, folder).sites()


def run_compression_benchmark(
    study: Study,
    sites: Sequence[SiteData],
    kinds: Sequence[Compression] = KINDS,
    *,
    told: Callable[[str], None] | None = None,
) -> list[dict[str, Any]]:
    """Run a study once with each type; its initial weights, batches and dropout are the same each time.

    Parameters
    ----------
    study, sites
        What to run.
    told
        Called with what is about to run.

    Returns
    -------
    One entry a type: ``compression``, ``megabytes_up`` and ``megabytes_down`` (arrays of all sites and
    rounds), ``share_up`` (of what the first type sends), ``c_index`` with its interval over the held-out
    patients (None where the study has no survival), ``train_loss`` of the last round, ``moved_apart``: how
    far the final weights are from those of the first type, as a share of their own length.
    """
    results: list[dict[str, Any]] = []
    first: dict[str, Any] = {}
    for kind in kinds:
        if told is not None:
            told(kind)
        asked = study.with_changes(aggregation={"compression": kind})
        with tempfile.TemporaryDirectory() as folder:
            run = run_study(asked, sites, Path(folder) / "run")
            written = finish_run(asked, sites, run, Path(folder) / "run")
        up = sum(site["bytes_up"] for site in run.sites)
        first = first or {"up": up, "state": run.state}
        figures = written["arms"].get("federated", {}).get("survival", {})
        results.append(
            {
                "compression": kind,
                "megabytes_up": up / 1e6,
                "megabytes_down": sum(site["bytes_down"] for site in run.sites) / 1e6,
                "share_up": up / first["up"],
                "c_index": figures.get("c_index"),
                "train_loss": run.rounds[-1].get("train_loss"),
                "moved_apart": _relative_distance(run.state, first["state"]),
            }
        )
    return results


def compression_table(results: Sequence[dict[str, Any]]) -> Table:
    """Print the results."""
    table = Table(title="The same study with each type of update", title_justify="left")
    for heading in ("type", "MB up", "of the first", "C-index [95 %]", "loss", "weights apart"):
        table.add_column(heading, justify="left" if heading == "type" else "right")
    for entry in results:
        found = entry["c_index"]
        told = "–"
        if found and found.get("estimate") is not None:
            told = f"{found['estimate']:.4f} [{found['low']:.3f}, {found['high']:.3f}]"
        loss = "–" if entry["train_loss"] is None else f"{entry['train_loss']:.4f}"
        sizes = (f"{entry['megabytes_up']:.2f}", f"{entry['share_up']:.3f}")
        table.add_row(entry["compression"], *sizes, told, loss, f"{entry['moved_apart']:.1e}")
    table.caption = "What travels down is the same for all."
    return table


def _relative_distance(one: dict[str, Any], other: dict[str, Any]) -> float:
    apart = sum(float(((one[name] - other[name]).double() ** 2).sum()) for name in other)
    length = sum(float((tensor.double() ** 2).sum()) for tensor in other.values())
    return float(np.sqrt(apart / length)) if length else 0.0
