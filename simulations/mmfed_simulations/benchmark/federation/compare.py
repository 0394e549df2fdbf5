"""mmfed and stock Flower in one run, one after the other, with the same arrays."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.table import Table

from mmfed_common.errors import NetworkError
from mmfed_server.federation import Federation
from mmfed_simulations.benchmark.federation.figures import Figures
from mmfed_simulations.benchmark.federation.ours import run_ours, write_study
from mmfed_simulations.benchmark.federation.stock import run_stock

COLUMNS = ("sites", "update, MB", "platform", "s/round", "quartiles", "server, MB", "up, MB", "down, MB")


def run_federation_benchmark(
    sites: int,
    megabytes: float,
    rounds: int,
    *,
    stock: bool = True,
    told: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Measure some rounds between real processes on loopback, over TLS.

    mmfed trains a step on 20 patients a site, checks, signs and writes receipts; stock Flower sends the
    arrays back changed.

    Parameters
    ----------
    sites, megabytes, rounds
        How many sites and rounds, and about how large an update.
    stock
        Whether to measure stock Flower too.
    told
        Called with what is being measured.

    Returns
    -------
    dict
        ``sites``, ``megabytes`` (what the arrays really have), ``rounds``, ``mmfed`` and, where it was
        measured, ``flower`` (see :class:`Figures`) and ``ratio`` of the seconds, or ``flower_failed``: what
        kept stock Flower from ending its run.
    """
    with tempfile.TemporaryDirectory(prefix="mmfed-") as name:
        folder = Path(name)
        study, shapes = write_study(folder, megabytes, rounds, sites)
        if told is not None:
            told("mmfed")
        (folder / "mmfed").mkdir()
        ours = run_ours(study, sites, rounds, folder / "mmfed")
        size = sum(map(math.prod, shapes)) * 4 / 2**20
        result: dict[str, Any] = {
            "sites": sites,
            "megabytes": size,
            "rounds": rounds,
            "mmfed": ours.to_json(),
        }
        if stock:
            if told is not None:
                told("stock Flower")
            held = Federation.create(folder / "trust", "benchmark", "127.0.0.1:1").certificates
            certificates = _split(held.ca_pem, held.cert_path, folder)
            try:
                theirs = run_stock(shapes, sites, rounds, certificates, folder / "flower")
            except NetworkError as error:
                result["flower_failed"] = error.what
            else:
                ratio = theirs.seconds_per_round / ours.seconds_per_round
                result |= {"flower": theirs.to_json(), "ratio": ratio}
        return result


def federation_table(results: list[dict[str, Any]]) -> Table:
    """Show the results of several measurements; below it, what kept a platform from ending its run."""
    failed = [
        f"stock Flower, {r['sites']} sites: {r['flower_failed']}" for r in results if "flower_failed" in r
    ]
    table = Table(title="a round between real processes", caption="\n".join(failed) or None)
    for name in COLUMNS:
        table.add_column(name, justify="left" if name == "platform" else "right")
    for result in results:
        for platform in ("mmfed", "flower"):
            if platform in result:
                figures = Figures(**result[platform])
                low, high = figures.quartiles
                table.add_row(
                    str(result["sites"]),
                    f"{result['megabytes']:.1f}",
                    platform,
                    f"{figures.seconds_per_round:.2f}",
                    f"{low:.2f}-{high:.2f}",
                    f"{figures.server_peak_mb:.0f}",
                    f"{figures.up_mb:.2f}",
                    f"{figures.down_mb:.2f}",
                )
    return table


def _split(authority: bytes, pair: Path, folder: Path) -> Path:
    """Certificate and key as the three files that Flower's programs take."""
    certificates = folder / "certificates"
    certificates.mkdir()
    (folder / "flower").mkdir()
    (certificates / "ca.pem").write_bytes(authority)
    for name in ("server.pem", "server.key"):
        (certificates / name).touch(0o600)
        (certificates / name).write_bytes(pair.read_bytes())
    return certificates
