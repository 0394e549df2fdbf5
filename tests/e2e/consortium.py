"""A small synthetic consortium on disk, its study, and the weights that a simulation of it ends with."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from mmfed_common.study import Study
from mmfed_simulations.benchmark.federation.ours import write_cohort, write_study
from mmfed_simulations.cli import program
from mmfed_simulations.consortium import load_consortium
from mmfed_simulations.evaluation.run_results import finish_run
from mmfed_simulations.run import run_study

SITES = 5


@dataclass(frozen=True)
class OnDisk:
    """Where the consortium lies.

    Attributes
    ----------
    cohorts
        Site → folder.
    study
        ``study.toml``.
    """

    cohorts: dict[str, Path]
    study: Path

    def simulated_weights(self, out: Path) -> bytes:
        """Run the study in this process; the bundle's file of weights."""
        study = Study.load(self.study)
        sites = load_consortium(self.study.parent, study, self.study.parent).sites()
        finish_run(study, sites, run_study(study, sites, out), out)
        return (out / "model" / "weights.safetensors").read_bytes()


def write_consortium(folder: Path, rounds: int, sites: int = SITES, seed: int = 3) -> OnDisk:
    """Write a consortium with every modality.

    Parameters
    ----------
    rounds
        Of the whole study, its three stages together.
    """
    sizes = ("--patients", str(40 * sites), "--genes", "60", "--pathways", "8")
    words = ["cohort", "--out", str(folder), "--sites", str(sites), "--seed", str(seed), *sizes, "--json"]
    assert program.run(words) == 0
    study = folder / "study.toml"
    text = study.read_text(encoding="utf-8")
    shares = iter([rounds - 2 * (rounds // 3), rounds // 3, rounds // 3])
    text = re.sub(r"^rounds = .*$", lambda _: f"rounds = {next(shares)}", text, flags=re.MULTILINE)
    # Every site in every round: then killed and undisturbed runs must end with the same weights.
    text = re.sub(r"^minimum_sites = .*$", f"minimum_sites = {sites}", text, flags=re.MULTILINE)
    study.write_text(text, encoding="utf-8")
    return OnDisk({path.name: path for path in sorted(folder.glob("site-*"))}, study)


def write_plain_consortium(folder: Path, rounds: int, sites: int = SITES, least: int = SITES - 1) -> OnDisk:
    """Write a consortium with one small table a site, which starts and trains within seconds.

    No sums of features are asked for, so that a run without a site is the same run.

    Parameters
    ----------
    least
        How many sites a round needs.
    """
    folder.mkdir()
    study, _ = write_study(folder, 0.1, rounds, least)
    text = study.read_text(encoding="utf-8")
    study.write_text(f'{text}\n[contract]\nnormalisation = "reference"\n', encoding="utf-8")
    cohorts = {f"site-{number}": folder / f"site-{number}" for number in range(1, sites + 1)}
    for number, cohort in enumerate(cohorts.values()):
        write_cohort(cohort, number)
    return OnDisk(cohorts, study)
