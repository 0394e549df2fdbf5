"""Faults of cohort, patients, device, memory and the training step."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from tests.client.preflight.faults_machine import site_key
from tests.client.preflight.faults_study import policy
from tests.client.preflight.planting import Bench, Plant, Planted
from tests.client.preflight.small_site import Site

from mmfed_client.preflight import State


def data(spoil: Callable[[Any], object]) -> Plant:
    """Spoil the tables or their description."""

    def plant(site: Site, bench: Bench) -> None:
        spoil(site.cohort)
        site.write()

    return plant


def cell(table: str, column: str, row: int, value: object) -> Plant:
    """Overwrite one cell."""
    return data(lambda cohort: cohort.set(table, column, row, value))


def study(section: str, **values: object) -> Plant:
    """Let the coordinator ask for something else."""

    def plant(site: Site, bench: Bench) -> None:
        site.content.setdefault(section, {}).update(values)
        site.approve()

    return plant


def many_epochs(site: Site, bench: Bench) -> None:
    study("training", local_epochs=1000, batch=1)(site, bench)
    study("aggregation", deadline_seconds=2.0)(site, bench)


def renamed(cohort: Any) -> None:
    cohort.frames["clinical"] = cohort.clinical.rename(columns={"age": "Age"})


def in_months(cohort: Any) -> None:
    cohort.clinical["days"] = (cohort.clinical["days"] / 30.4375).round(1)


def outcome_as_feature(cohort: Any) -> None:
    cohort.description["demographics"]["columns"] = {"age": "days", "sex": "sex"}


def backwards(cohort: Any) -> None:
    cohort.clinical["dead"] = 0
    cohort.clinical.loc[cohort.clinical["days"].nlargest(35).index, "dead"] = 1


def other_sites(cohort: Any) -> None:
    cohort.clinical["hospital"] = ["east"] * 30 + ["west"] * 30


def no_description(site: Site, bench: Bench) -> None:
    (site.cohort.folder / "cohort.toml").unlink()


def no_table(site: Site, bench: Bench) -> None:
    (site.cohort.folder / "protein.csv").unlink()


def unknown_key(site: Site, bench: Bench) -> None:
    with open(site.cohort.folder / "cohort.toml", "a") as file:
        file.write("\n[clinicals]\n")


def driver(script: str) -> Plant:
    """Put a driver's program in front of the path that answers so."""

    def plant(site: Site, bench: Bench) -> None:
        program = bench.folder / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        bench.patch.setenv("PATH", f"{bench.folder}{os.pathsep}{os.environ['PATH']}")
        bench.patch.setattr(torch.cuda, "is_available", lambda: False)

    return plant


def hidden(site: Site, bench: Bench) -> None:
    driver(LISTED)(site, bench)
    bench.patch.setenv("CUDA_VISIBLE_DEVICES", "")


LISTED = "echo 'Tesla T4, 470.57.02'"
SILENT = "echo 'NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver.'; exit 9"
WITHOUT_CUDA = "CUDA build" if torch.version.cuda is None else "Install a driver"
FAULTS: dict[str, Planted] = {
    "no cohort named": Planted(site_key("cohort", ""), "cohort", "MMF-113", "cohort = "),
    "cohort.toml missing": Planted(no_description, "cohort", "MMF-201", "Check the path", "cannot read it"),
    "cohort.toml with an unknown key": Planted(
        unknown_key, "cohort", "MMF-202", "docs/cohort.md", "clinicals"
    ),
    "table missing": Planted(no_table, "cohort", "MMF-201", "Check the path"),
    "column missing": Planted(data(renamed), "cohort", "MMF-203", "nearest names", "'age'"),
    "patient twice": Planted(
        cell("clinical", "patient_id", 9, "P000"), "cohort", "MMF-204", "one row for each patient"
    ),
    "text in a number": Planted(
        cell("clinical", "age", 4, "about 60"), "cohort", "MMF-205", "Replace the text", "about 60"
    ),
    "impossible age": Planted(
        cell("clinical", "age", 4, 620), "cohort", "MMF-206", "Correct the value", "620"
    ),
    "unknown stage": Planted(cell("clinical", "stage", 4, "V"), "cohort", "MMF-207", "aliases"),
    "months called days": Planted(data(in_months), "cohort", "MMF-208", "unit"),
    "event backwards": Planted(data(backwards), "cohort", "MMF-209", "event_value"),
    "outcome as feature": Planted(
        data(outcome_as_feature), "cohort", "MMF-211", "out of the features", also=frozenset({"MMF-206"})
    ),
    "other sites in the column": Planted(data(other_sites), "cohort", "MMF-119", "site_column", "east, west"),
    "too few for the study": Planted(
        study("aggregation", minimum_patients=50),
        "patients",
        "MMF-406",
        "minimum_patients",
        "the study asks for 50",
    ),
    "too few for the policy": Planted(
        policy("minimum_patients = 50\n"), "patients", "MMF-323", "policy.toml", "the policy asks for 50"
    ),
    "GPU without CUDA": Planted(
        driver(LISTED), "device", "MMF-138", WITHOUT_CUDA, "Tesla T4 driver 470.57.02", State.WARNING
    ),
    "GPU hidden": Planted(hidden, "device", "MMF-138", "CUDA_VISIBLE_DEVICES", "hidden", State.WARNING),
    "driver broken": Planted(
        driver(SILENT), "device", "MMF-138", "driver again", "could not communicate", State.WARNING
    ),
    "model larger than the memory": Planted(
        study("model", hidden=4096, layers=32, fusion_layers=32),
        "memory",
        "MMF-137",
        "smaller `batch`",
        "a step needs",
    ),
    "sizes that do not fit": Planted(
        study("model", hidden=10, heads=4),
        "training step",
        "MMF-609",
        "",
        "hidden = 10",
        also=frozenset({"MMF-609"}),
    ),
    "deadline too short": Planted(
        study("aggregation", deadline_seconds=0.001), "round time", "MMF-140", "deadline_seconds"
    ),
    "more epochs than time": Planted(many_epochs, "round time", "MMF-140", "GPU"),
}
