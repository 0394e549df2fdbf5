"""Shadow models: the study trained again on known halves of the patients, with the study's own code.

Whoever attacks knows the study, so the shadows start at the same weights as the model that is attacked.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmfed_client.cohort import Cohort
from mmfed_client.opening import with_own_relations
from mmfed_client.site import SiteData
from mmfed_client.training import LocalSite
from mmfed_client.training.losses import chunks
from mmfed_client.training.reproducible import same_bits
from mmfed_common.durable import replace_durably
from mmfed_common.metrics.estimate import Floats
from mmfed_common.randomness import numpy_generator
from mmfed_common.scaling import Scaling
from mmfed_common.study import Study
from mmfed_common.tasks.multitask import task_losses
from mmfed_common.topology import Topology
from mmfed_simulations.evaluation.site_data import sites_of
from mmfed_simulations.evaluation.worker_pool import in_workers
from mmfed_simulations.run import RunResult, run_study
from mmfed_simulations.site_files import digest, serialise_site

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Patients:
    """Everybody whose membership is asked for.

    Attributes
    ----------
    cohort, topology
        All patients of all sites, and the shared graph.
    """

    cohort: Cohort
    topology: Topology

    def sites(self, study: Study, inside: Bools | None = None) -> list[SiteData]:
        """The sites; held out is who is not ``inside``, or whom the study's rule holds out.

        Parameters
        ----------
        inside
            ``(patients,)`` in the order of the sites, each site's patients in their order.
        """
        if inside is None:
            return sites_of(study, self.cohort, self.topology)
        plain = study.with_changes(evaluation={"rule": "none"})
        marked = []
        for site, chosen in zip(sites_of(plain, self.cohort, self.topology), self.split(inside), strict=True):
            own = SiteData(site.name, site.patients, ~chosen, self.topology, site.folds)
            marked.append(with_own_relations(study, own))
        return marked

    def split(self, values: Bools) -> list[Bools]:
        """Cut an array over all patients into one a site."""
        sizes = [len(part.patients) for part in self.cohort.by_site().values()]
        return np.split(values, np.cumsum(sizes)[:-1])

    @property
    def sizes(self) -> list[int]:
        """Patients of each site."""
        return [len(part.patients) for part in self.cohort.by_site().values()]


@dataclass(frozen=True)
class Training:
    """One model to train: the study, and who trains (None: as the study's own rule says)."""

    study: Study
    inside: Bools | None

    @property
    def key(self) -> str:
        """What identifies its result among those of the same patients."""
        who = b"" if self.inside is None else np.packbits(self.inside).tobytes()
        return hashlib.sha256(self.as_run.hash.encode() + who).hexdigest()[:24]

    @property
    def as_run(self) -> Study:
        """The study, evaluated at its end only; who is held out, if ``inside`` says it, is marked."""
        rule = {} if self.inside is None else {"rule": "none"}
        return self.study.with_changes(evaluation={"every": 0, **rule})


@dataclass(frozen=True)
class Measured:
    """What a model says about every patient.

    Attributes
    ----------
    loss
        ``(patients, tasks)`` negative log-likelihood of what is true; NaN where it is not labelled.
    inside
        ``(patients,)`` whether the model was trained on the patient.
    unclear
        ``(patients,)`` those that only early stopping looked at: neither members nor strangers.
    """

    loss: Floats
    inside: Bools
    unclear: Bools


def halves(sizes: Sequence[int], shadows: int, seed: int) -> Bools:
    """Who trains which shadow model: ``(shadows, patients)``.

    Shadows come in pairs that share each site's patients between them, half and half, so that every patient
    is in exactly half of the models and every site trains in all of them.
    """
    draw = numpy_generator(seed, "shadows")
    inside = np.zeros((shadows, sum(sizes)), dtype=np.bool_)
    for first in range(0, shadows, 2):
        start = 0
        for size in sizes:
            order = draw.permutation(size) + start
            inside[first, order[: size // 2]] = True
            inside[first + 1, order[size // 2 :]] = True
            start += size
    return inside


def measure(
    study: Study, sites: Sequence[SiteData], state: dict[str, Tensor], scaling: Scaling | None
) -> Measured:
    """Ask a model about every patient of every site."""
    losses, inside, unclear = [], [], []
    for data in sites:
        site = LocalSite(study, data)
        model = site.load(state)
        model.eval()
        used, level = site.scaling(scaling), study.training.stages[-1].level
        with torch.no_grad(), same_bits(study.study.seed):
            for patients in chunks(site.patients, np.arange(len(data.patients))):
                found = task_losses(model, model(patients, used, level), patients.outcomes)
                columns = [torch.where(known, loss, torch.nan) for loss, known in found.values()]
                losses.append(torch.stack(columns, dim=1).double().cpu().numpy())
        enough = len(site.fit) >= study.aggregation.minimum_patients
        inside.append(_mask(len(data.patients), site.fit) & enough)
        unclear.append(_mask(len(data.patients), site.validation) | (_trains(data, site) & (not enough)))
    return Measured(np.concatenate(losses), np.concatenate(inside), np.concatenate(unclear))


def train_and_measure(patients: Patients, training: Training) -> Measured:
    """Train one model as a simulation does, and ask it about every patient."""
    sites, result = _run(patients, training)
    return measure(training.as_run, sites, result.state, result.scaling)


def train_model(patients: Patients, training: Training) -> tuple[dict[str, Tensor], Scaling | None]:
    """Train one model as a simulation does; gives its weights and scaling."""
    _, result = _run(patients, training)
    return result.state, result.scaling


def _run(patients: Patients, training: Training) -> tuple[list[SiteData], RunResult]:
    study = training.as_run
    sites = patients.sites(study, training.inside)
    with tempfile.TemporaryDirectory(prefix="mmfed-attack-") as folder:
        return sites, run_study(study, sites, Path(folder) / "run")


def train_all(
    patients: Patients,
    trainings: Sequence[Training],
    kept: Path,
    workers: int,
    told: Callable[[int, int], None] | None = None,
) -> list[Measured]:
    """Train many models; what an earlier call finished in ``kept`` is taken from there.

    Raises
    ------
    MmfedError
        What ended one of them.
    """
    kept.mkdir(parents=True, exist_ok=True)
    folder = kept / _identity(patients)
    folder.mkdir(exist_ok=True)
    missing = [t for t in trainings if not _file(folder, t).is_file()]
    done = len(trainings) - len(missing)
    if told is not None:
        told(done, len(trainings))

    def finished(training: Training, found: Measured) -> None:
        nonlocal done
        _keep(_file(folder, training), found)
        done += 1
        if told is not None:
            told(done, len(trainings))

    if min(workers, len(missing)) <= 1:
        for training in missing:
            finished(training, train_and_measure(patients, training))
    else:
        in_workers(train_and_measure, patients, missing, workers, folder, finished)
    return [_read(_file(folder, training)) for training in trainings]


def _trains(data: SiteData, site: LocalSite) -> Bools:
    return _mask(len(data.patients), site.fit)


def _mask(size: int, index: npt.NDArray[np.int64]) -> Bools:
    mask = np.zeros(size, dtype=np.bool_)
    mask[index] = True
    return mask


def _identity(patients: Patients) -> str:
    """A name for these patients, so that what is kept is never taken for others."""
    everybody = SiteData(
        "everybody",
        patients.cohort.patients,
        np.zeros(len(patients.cohort.patients), dtype=np.bool_),
        patients.topology,
    )
    return digest(serialise_site(everybody) + "\x1f".join(patients.cohort.sites).encode())[:24]


def _file(folder: Path, training: Training) -> Path:
    return folder / f"{training.key}.npz"


def _keep(path: Path, found: Measured) -> None:
    def write(file: BinaryIO) -> None:
        np.savez(file, loss=found.loss, inside=found.inside, unclear=found.unclear)

    replace_durably(path, write)


def _read(path: Path) -> Measured:
    with np.load(path, allow_pickle=False) as content:
        return Measured(content["loss"], content["inside"], content["unclear"])
