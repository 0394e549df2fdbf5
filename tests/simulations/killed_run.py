"""Runs a small federation until it ends or is killed: ``python -m …killed_run OUT STRATEGY [ROUND]``.

With a round it stands still two rounds later, so that whoever is to kill it is in time.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from tests.simulations.small_federation import gene_study, small_sites

from mmfed_common.study import Study
from mmfed_server.plan import RoundReport
from mmfed_simulations.run import run_study


def study_for(strategy: str) -> Study:
    """Three stages, sampling of sites, moments on the server, early stopping: all that a state must hold.

    Parameters
    ----------
    strategy
        With ``-int8`` and the like after it the updates are compressed.
    """
    stages = [
        {"level": "clinical", "rounds": 3, "learning_rate": 0.05},
        {"level": "additive", "rounds": 3, "learning_rate": 0.01},
        {"level": "full", "rounds": 6, "learning_rate": 0.005},
    ]
    training = {
        "stages": stages,
        "batch": 8,
        "schedule": "cosine",
        "validation_fraction": 0.25,
        "patience": 3,
    }
    strategy, _, compression = strategy.partition("-")
    aggregation = {
        "strategy": strategy,
        "fraction": 0.67,
        "minimum_sites": 2,
        "compression": compression or "none",
    }
    return gene_study(training=training, aggregation=aggregation)


if __name__ == "__main__":
    study = study_for(sys.argv[2])
    out = Path(sys.argv[1])
    last = int(sys.argv[3]) + 2 if len(sys.argv) > 3 else study.training.rounds + 1

    def progress(report: RoundReport) -> None:
        if report.round >= last:
            signal.pause()

    run_study(study, small_sites(study), out, resume=(out / "study.json").exists(), progress=progress)
