"""A made-up consortium of hospitals with three tasks, and mistakes in coding that one of them can make."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from mmfed_client.cohort import Cohort
from mmfed_common.graph import build_topology
from mmfed_common.patients import NodeTensors, Outcomes, PatientTensors
from mmfed_common.study import Study
from mmfed_common.topology import Topology

STUDY = Study.from_content(
    {
        "study": {"name": "hospitals", "seed": 3},
        "contract": {
            "clinical": {"age": {"kind": "number"}, "marker": {"kind": "number"}},
            "survival": {"bins": [180.0, 365.25, 730.5, 1095.75, 1826.25], "horizons": [365.25, 1826.25]},
            "response": {"classes": ["none", "partial", "complete"]},
            "toxicity": {"labels": ["nausea", "rash"]},
        },
        "training": {
            "optimiser": "sgd",
            "batch": 0,
            "stages": [{"level": "clinical", "rounds": 25, "learning_rate": 0.5}],
        },
        "aggregation": {"strategy": "fedadam", "server_learning_rate": 0.1, "minimum_sites": 2},
        "evaluation": {"bootstrap": 100, "folds": 3, "every": 0},
    }
)
SURVIVAL = STUDY.with_changes(contract={"response": None, "toxicity": None})


def hospitals(sizes: Sequence[int], seed: int, own: Sequence[float] = ()) -> Cohort:
    """One hospital for each size; in each, risk is age plus the hospital's own share of the marker.

    Death rates and follow-up differ between hospitals, as they do between real ones.

    Parameters
    ----------
    own
        What the marker does to the log-hazard at each hospital; 0.8 everywhere by default.
    """
    random = np.random.default_rng(seed)
    site = np.repeat(np.arange(len(sizes)), sizes)
    n = len(site)
    features = random.normal(size=(n, 2))
    effect = np.array(own or [0.8] * len(sizes))[site]
    log_hazard = 0.8 * features[:, 0] + effect * features[:, 1]
    level = random.normal(0, 0.4, len(sizes))[site]
    longest = random.uniform(600, 3000, len(sizes))[site]
    death = random.exponential(900 * np.exp(-log_hazard - level))
    censored = random.uniform(0.1, 1.0, n) * longest
    score = -log_hazard + random.logistic(size=n)
    toxic = log_hazard[:, None] - 0.5 + random.logistic(size=(n, 2)) > 0
    outcomes = Outcomes(
        _tensor(np.minimum(death, censored)),
        _tensor(death <= censored),
        torch.ones(n, dtype=torch.bool),
        torch.tensor(np.digitize(score, [-0.5, 1.0])),
        _tensor(toxic),
        torch.tensor(random.random((n, 2)) < 0.9),
    )
    node = NodeTensors(_tensor(features)[:, :, None], torch.ones(n, 2, 1, dtype=torch.bool))
    patients = PatientTensors(tuple(f"p{k:04d}" for k in range(n)), {"clinical_feature": node}, outcomes)
    return Cohort(patients, tuple(f"hospital-{k}" for k in site), tuple(k % 3 for k in range(n)), ())


def topology() -> Topology:
    """The graph of the hospitals' study."""
    return build_topology(STUDY.contract, None)


def mistaken(cohort: Cohort, site: str, mistake: Callable[[Outcomes], Outcomes]) -> Cohort:
    """The same cohort with a mistake in the outcomes of one site."""
    here = torch.tensor([name == site for name in cohort.sites])
    right, wrong = cohort.patients.outcomes, mistake(cohort.patients.outcomes)
    mixed = {
        name: torch.where(here if value.dim() == 1 else here[:, None], getattr(wrong, name), value)
        for name, value in vars(right).items()
    }
    return replace(cohort, patients=replace(cohort.patients, outcomes=Outcomes(**mixed)))


def exchanged(outcomes: Outcomes) -> Outcomes:
    """Death and censoring change places."""
    return replace(outcomes, event=1 - outcomes.event)


def upside_down(outcomes: Outcomes) -> Outcomes:
    """The classes of response are counted from the other end."""
    return replace(outcomes, response=2 - outcomes.response)


def inverted(outcomes: Outcomes) -> Outcomes:
    """1 means no event."""
    return replace(outcomes, toxicity=1 - outcomes.toxicity)


def _tensor(values: np.ndarray) -> torch.Tensor:  # type: ignore[type-arg]
    return torch.tensor(np.asarray(values, dtype=np.float32))
