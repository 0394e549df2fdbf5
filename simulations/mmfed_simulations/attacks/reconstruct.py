"""Reconstruction: what the server can rebuild of the patients behind a single update.

Three figures. *Likeness*: correlation between a reconstructed patient and the real one, over the values that
the patient has, each value as deviations from the site's mean (0: no better than guessing the mean patient).
*Linking*: can the patient be picked from all patients of the site by its reconstruction? *Alignment*: can it
be picked by holding each candidate's own gradient against the update?
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from mmfed_client.site import SiteData
from mmfed_common.bundle import Bundle
from mmfed_common.errors import ModelError
from mmfed_common.metrics.estimate import Floats, bootstrap_counts
from mmfed_common.patients import PatientTensors
from mmfed_common.randomness import numpy_generator, torch_generator
from mmfed_common.scaling import Scaling
from mmfed_common.study import Level
from mmfed_simulations.attacks.defences import Defence
from mmfed_simulations.attacks.figures import RESAMPLES, AttackFigures, Interval, attack_figures
from mmfed_simulations.attacks.inversion import match_gradient
from mmfed_simulations.attacks.shadows import Patients
from mmfed_simulations.attacks.single_update import DpNoise, Gradient, SingleUpdate, some_outcomes

Bools = npt.NDArray[np.bool_]
Index = npt.NDArray[np.int64]
MOST_IMAGINED = 12
Told = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Settings:
    """How hard to try.

    Attributes
    ----------
    trials
        Updates attacked for each row.
    iterations
        Steps of gradient matching.
    level
        Level of the model in the round; None: the study's last.
    """

    trials: int = 20
    iterations: int = 300
    level: Level | None = None


@dataclass(frozen=True)
class ReconstructRow:
    """One defence, one number of patients in the update.

    Attributes
    ----------
    defence
        Which defence.
    patients
        Patients in the update (with masked sums: of each site).
    likeness
        Mean correlation of a reconstruction with its patient.
    clinical_likeness
        The same over the clinical values alone; None where the study has none.
    linking, alignment
        Figures of the two ways to pick the patients of the update from all of the site.
    """

    defence: Defence
    patients: int
    likeness: Interval | None
    clinical_likeness: Interval | None
    linking: AttackFigures
    alignment: AttackFigures


def attack_reconstruct(
    bundle: Bundle,
    patients: Patients,
    defences: Sequence[Defence],
    counts: Sequence[int],
    settings: Settings,
    told: Told | None = None,
) -> list[ReconstructRow]:
    """Attack single updates of a bundle's study.

    Parameters
    ----------
    counts
        How many patients an update may hold; one row each.

    Raises
    ------
    ModelError
        ``MMF-622`` when no site has enough training patients.
    PrivacyError
        When a site is too small for a defence's ε.
    """
    every = patients.sites(bundle.study)
    update = SingleUpdate.of(bundle, settings.level)
    rows = []
    for defence in defences:
        for count in counts:
            sites = [site for site in every if int((~site.held_out).sum()) > 2 * count]
            if not sites:
                raise ModelError("MMF-622", f"no site has more than {2 * count} training patients")
            trials = _Trials(bundle, update, sites, defence, count, settings)
            rows.append(trials.run(told))
    return rows


class _Trials:
    """Some updates of one kind, attacked one after another."""

    def __init__(
        self,
        bundle: Bundle,
        update: SingleUpdate,
        sites: Sequence[SiteData],
        defence: Defence,
        count: int,
        settings: Settings,
    ) -> None:
        self.update, self.sites, self.defence, self.count = update, sites, defence, count
        self.settings = settings
        self.seed = bundle.study.study.seed
        self.training = [np.flatnonzero(~site.held_out) for site in sites]
        self.largest = max(len(index) for index in self.training)
        self.study = defence.applied(bundle.study, self.largest)
        self.noise = [self._noise(len(index)) for index in self.training]
        self.scalings = [update.used_scaling(site) for site in sites]
        self.flat = [_Flat(site.patients, s) for site, s in zip(sites, self.scalings, strict=True)]
        self.own = [self._own_gradients(s) for s in range(len(sites))]

    def run(self, told: Told | None) -> ReconstructRow:
        """Attack every update, then measure over all."""
        sizes = [len(index) for index in self.training]
        offset = np.concatenate([[0], np.cumsum(sizes)])
        shape = (self.settings.trials, offset[-1])
        link, align = np.full(shape, np.nan), np.full(shape, np.nan)
        member = np.zeros(shape, dtype=np.bool_)
        likeness: list[tuple[int, float]] = []
        clinical: list[tuple[int, float]] = []
        draw = numpy_generator(self.seed, "reconstruct", self.count)
        for trial in range(self.settings.trials):
            first = int(draw.integers(len(self.sites)))
            taking = range(len(self.sites)) if self.defence.name == "secure" else [first]
            chosen = {
                s: np.sort(draw.choice(sizes[s], self.count, replace=False)).astype(np.int64) for s in taking
            }
            found = self._attack(trial, chosen)
            for s, positions in chosen.items():
                here = slice(offset[s], offset[s + 1])
                link[trial, here], align[trial, here] = found.link[s], found.align[s]
                member[trial, offset[s] + positions] = True
                patients = offset[s] + positions
                likeness += zip(patients.tolist(), found.likeness[s].tolist(), strict=True)
                clinical += zip(patients.tolist(), found.clinical[s].tolist(), strict=True)
            if told is not None:
                told(f"{self.defence.label}, {self.count} patients", trial + 1, self.settings.trials)
        return ReconstructRow(
            self.defence,
            self.count,
            _mean(likeness, self.seed),
            _mean(clinical, self.seed),
            attack_figures(link, member, self.seed),
            attack_figures(align, member, self.seed),
        )

    def _attack(self, trial: int, chosen: dict[int, Index]) -> _Found:
        """Make the update, rebuild its patients, hold every candidate against both."""
        draw = torch_generator(self.seed, "reconstruct", trial, self.count)
        sites = [self.sites[s] for s in chosen]
        index = [self.training[s][positions] for s, positions in chosen.items()]
        lead = next(iter(chosen))
        seen = self.update.seen(sites, index, self.defence, self.noise[lead], draw)
        outcomes = some_outcomes(self.sites[lead].patients.outcomes, index[0][:MOST_IMAGINED])
        working = self.update.site(self.sites[lead], index[0])
        rebuilt = match_gradient(
            self.update,
            working,
            self.scalings[lead],
            seen,
            outcomes,
            iterations=self.settings.iterations,
            draw=draw,
        )
        found = _Found({}, {}, {}, {})
        for s, positions in chosen.items():
            own = self.flat[s]
            like = own.correlation(rebuilt, self.training[s])
            like = np.nan_to_num(like, nan=-1.0)
            found.link[s] = like.max(axis=0)
            best_rows = like[:, positions].argmax(axis=0)
            rows, columns = linear_sum_assignment(-like[:, positions])
            best_rows[columns] = rows
            found.likeness[s] = like[best_rows, positions]
            found.align[s] = (self.own[s] @ _row(seen)).double().numpy()
            clinical = own.correlation(rebuilt, self.training[s][positions], "clinical_feature")
            found.clinical[s] = clinical[best_rows, np.arange(len(positions))]
        return found

    def _own_gradients(self, s: int) -> Tensor:
        """``(candidates, parameters)``: each candidate's own gradient, of length 1."""
        site = self.update.site(self.sites[s], self.training[s])
        rows = []
        for position in range(len(self.training[s])):
            one = site.patients.select(torch.tensor([position]))
            rows.append(_row(self.update.model_gradient(site, one, self.scalings[s], twice=False)))
        every = torch.stack(rows)
        unit: Tensor = every / every.norm(dim=1, keepdim=True).clamp(min=1e-20)
        return unit

    def _noise(self, patients: int) -> DpNoise | None:
        return None if self.defence.epsilon is None else DpNoise.of(self.study, patients)


@dataclass(frozen=True)
class _Found:
    """Site → scores of its training patients, and likeness (all, clinical) of those in the update."""

    link: dict[int, Floats]
    align: dict[int, Floats]
    likeness: dict[int, Floats]
    clinical: dict[int, Floats]


class _Flat:
    """A site's patients as rows of numbers, each as deviations from the site's mean."""

    def __init__(self, patients: PatientTensors, scaling: Scaling) -> None:
        self.names = list(patients.nodes)
        values = torch.cat([scaling.apply(n, patients.nodes[n]).flatten(1) for n in self.names], dim=1)
        self.present = torch.cat([patients.nodes[n].present.flatten(1) for n in self.names], dim=1).double()
        self.kind = [n for n in self.names for _ in range(patients.nodes[n].values[0].numel())]
        number = self.present.sum(dim=0).clamp(min=1)
        self.centre = (values * self.present).sum(dim=0) / number
        square = (((values - self.centre) * self.present) ** 2).sum(dim=0) / number
        self.spread = square.sqrt().clamp(min=1e-3)
        self.rows = (values - self.centre) / self.spread * self.present

    def correlation(self, rebuilt: dict[str, Tensor], index: Index, only: str | None = None) -> Floats:
        """``(rebuilt, candidates)``: over the values that the candidate has, of one node type or of all.

        NaN where a candidate has none.
        """
        guess = torch.cat([rebuilt[n].flatten(1) for n in self.names], dim=1).double()
        guess = ((guess - self.centre) / self.spread).clamp(-5, 5).nan_to_num(nan=0.0)
        truth, present = self.rows[torch.from_numpy(index)], self.present[torch.from_numpy(index)]
        if only is not None:
            chosen = torch.tensor([name == only for name in self.kind])
            guess, truth, present = guess[:, chosen], truth[:, chosen], present[:, chosen]
        own = (guess**2) @ present.T
        product = (guess @ truth.T) / (own * (truth**2).sum(dim=1)).sqrt().clamp(min=1e-12)
        result: Floats = torch.where(present.any(dim=1), product, torch.nan).numpy()
        return result


def _row(gradient: Gradient) -> Tensor:
    return torch.cat([gradient[name].flatten() for name in sorted(gradient)])


def _mean(pairs: Sequence[tuple[int, float]], seed: int) -> Interval | None:
    """Mean over patients' appearances; the bootstrap draws patients. None where no appearance has a value."""
    pairs = [(patient, value) for patient, value in pairs if np.isfinite(value)]
    if not pairs:
        return None
    patient, value = np.array([p for p, _ in pairs]), np.array([v for _, v in pairs])
    _, number = np.unique(patient, return_inverse=True)
    counts = bootstrap_counts(int(number.max()) + 1, RESAMPLES, seed, "likeness")[:, number]
    means = (counts @ value) / np.maximum(counts.sum(axis=1), 1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(value.mean()), float(low), float(high))
