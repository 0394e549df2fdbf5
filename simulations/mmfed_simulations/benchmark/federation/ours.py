"""mmfed: its own programs as people start them, with every check that a real study has."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd

from mmfed_common.graph import build_topology
from mmfed_common.model import build_model
from mmfed_common.study import Study
from mmfed_simulations.benchmark.federation.byte_counter import ByteCounter
from mmfed_simulations.benchmark.federation.figures import Figures, figures_of
from mmfed_simulations.processes.federation import Federation
from mmfed_simulations.processes.programs import MEGABYTE

PATIENTS = 20
RUN_SECONDS = 1800.0
COHORT = """[cohort]
id_column = "patient_id"

[tables]
clinical = "clinical.csv"

[demographics]
table = "clinical"
columns = ["age"]

[outcome.survival]
table = "clinical"
time = "days"
event = "event"
unit = "days"
"""
STUDY = """[study]
name = "benchmark"
seed = 1

[contract.demographics.age]
kind = "number"
unit = "years"
minimum = 18
maximum = 110

[contract.survival]
bins = [365.25, 730.5, 1095.75]
horizons = [365.25]

[model]
hidden = {hidden}
layers = 1
fusion_layers = 1

[training]
optimiser = "sgd"
batch = 0

[[training.stages]]
level = "full"
rounds = {rounds}
learning_rate = 0.01

[aggregation]
minimum_sites = {sites}

[evaluation]
rule = "none"
"""


def write_study(folder: Path, megabytes: float, rounds: int, sites: int) -> tuple[Path, list[list[int]]]:
    """Write a study whose update has about so many megabytes; gives it and the shapes of its arrays."""

    def study_of(hidden: int) -> Study:
        path.write_text(STUDY.format(hidden=hidden, rounds=rounds, sites=sites), encoding="utf-8")
        return Study.load(path)

    def shapes_of(study: Study) -> list[list[int]]:
        model = build_model(study, build_topology(study.contract, None))
        return [list(t.shape) for name, t in model.state_dict().items() if model.block_of(name) == "full"]

    path = folder / "study.toml"
    hidden = 64
    size = sum(map(math.prod, shapes_of(study_of(hidden)))) * 4 / MEGABYTE
    hidden = max(4, 4 * round(hidden * math.sqrt(megabytes / size) / 4))  # most weights are hidden × hidden
    return path, shapes_of(study_of(hidden))


def run_ours(study: Path, sites: int, rounds: int, folder: Path) -> Figures:
    """Measure some rounds of a study from :func:`write_study`.

    Raises
    ------
    NetworkError
        ``MMF-401`` when the run does not end in time.
    """
    cohorts = {f"site-{number:02d}": folder / f"site-{number:02d}" for number in range(1, sites + 1)}
    for number, cohort in enumerate(cohorts.values()):
        write_cohort(cohort, number)
    with Federation(folder, cohorts, study) as federation, ByteCounter(federation.port) as counter:
        federation.found()
        federation.start_server()
        federation.wait_for_server()
        for site in cohorts:
            federation.join(site)
            federation.approve(site)
            federation.redirect(site, counter.port)
        for site in cohorts:
            federation.start_site(site)
        federation.wait_for("finished", RUN_SECONDS)
        entries, _ = federation.record()
        seconds = [entry["seconds"] for entry in entries]
        peak = federation.server.peak_bytes if federation.server is not None else 0
        return figures_of(seconds, peak, counter, sites)


def write_cohort(folder: Path, number: int) -> None:
    """Write a cohort for a study from :func:`write_study`; another number gives other patients."""
    folder.mkdir()
    draw = np.random.default_rng(number)
    table = pd.DataFrame(
        {
            "patient_id": [f"{folder.name}-{patient:02d}" for patient in range(PATIENTS)],
            "age": draw.integers(30, 90, PATIENTS),
            "days": draw.integers(30, 1000, PATIENTS),
            "event": np.arange(PATIENTS) % 3 > 0,
        }
    )
    table["event"] = table["event"].astype(int)
    table.to_csv(folder / "clinical.csv", index=False)
    (folder / "cohort.toml").write_text(COHORT, encoding="utf-8")
