"""A small site with a private study, and a plan and spender that need no search for noise."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from tests.simulations.small_federation import BINS, GENES, gene_study, small_patients, small_topology
from torch import Tensor

from mmfed_client.privacy import train_private_round
from mmfed_client.site import SiteData
from mmfed_client.training import LocalSite, LocalUpdate
from mmfed_common.mechanism import Mechanism, steps_of_round
from mmfed_common.mechanism import sample_rate as rate_of
from mmfed_common.privacy import PrivacyPlan
from mmfed_common.scaling import Scaling
from mmfed_common.schedule import Place
from mmfed_common.study import Study

SECRET = bytes(range(32))
CONTRACT: dict[str, Any] = {
    "normalisation": "reference",
    "demographics": {"age": {"kind": "number", "minimum": -4.0, "maximum": 4.0}},
    "clinical": {"marker": {"kind": "number", "minimum": -4.0, "maximum": 4.0}},
    "gene": {"panel": GENES, "layers": {"expression": {"clip": 4.0}}, "minimum_measured": 0.0},
    "survival": {"bins": BINS, "horizons": (365.0,)},
    "response": {},
}
DP = {"mode": "dp", "epsilon": 8.0, "delta": 1e-3}


def private_study(**sections: dict[str, Any]) -> Study:
    """The study with genes and all three levels, private; sections extend the defaults."""
    given = {**sections}
    given["contract"] = {**CONTRACT, **given.get("contract", {})}
    given["privacy"] = {**DP, **given.get("privacy", {})}
    return gene_study(**given)


def private_site(study: Study, size: int = 60, name: str = "a") -> LocalSite:
    """A site of so many patients, some of whom are held out."""
    topology = small_topology(study)
    patients = small_patients(study, topology, name, size)
    held_out = study.held_out_rule.held_out(patients.patient_ids, name)
    return LocalSite(study, SiteData(name, patients, held_out, topology))


def plan_with(site: LocalSite, sigma: float) -> PrivacyPlan:
    """The site's plan with an amount of noise of one's own."""
    training, patients = site.study.training, len(site.fit)
    steps, rate = steps_of_round(training, patients), rate_of(training, patients)
    return PrivacyPlan(patients, 8.0, 1e-3, sigma, rate, steps, steps * training.rounds)


@dataclass
class CountingSpender:
    """Writes down what it is told, and stops before a step if asked to."""

    plan: PrivacyPlan
    stop_at: int | None = None
    steps: list[tuple[int, int, bytes]] = field(default_factory=list)
    releases: list[tuple[Mechanism, bytes]] = field(default_factory=list)
    done: list[tuple[int, bytes, int]] = field(default_factory=list)

    def before_step(self, round: int, step: int, inputs: bytes) -> None:
        if step == self.stop_at:
            raise InterruptedError
        self.steps.append((round, step, inputs))

    def before_release(self, mechanism: Mechanism, inputs: bytes) -> None:
        self.releases.append((mechanism, inputs))

    def reconcile(self, round: int, inputs: bytes, steps: int) -> None:
        self.done.append((round, inputs, steps))


def start_of(site: LocalSite) -> dict[str, Tensor]:
    """The weights that the study begins with."""
    return {name: tensor.clone() for name, tensor in site.model.state_dict().items()}


def trained(
    site: LocalSite,
    spender: CountingSpender,
    number: int = 3,
    secret: bytes = SECRET,
    weights: dict[str, Tensor] | None = None,
) -> LocalUpdate:
    """Train one round privately, by default one of the full level."""
    scaling = Scaling.from_reference(site.study.contract, site.topology)
    place = Place.of(site.study.training, number)
    start = start_of(site) if weights is None else weights
    return train_private_round(site, start, scaling, place, 0.0, spender, secret)


def flat(arrays: dict[str, Tensor]) -> Tensor:
    """All numbers, by name."""
    return torch.cat([arrays[name].flatten() for name in sorted(arrays)])
