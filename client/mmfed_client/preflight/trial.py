"""The items that need the patients and torch: cohort, patients, device, memory, one real step, its time.

Nothing of it is kept and nothing leaves: the step starts from the study's first weights and its result is
thrown away.
"""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Iterator
from typing import get_args

import torch

from mmfed_client.cohort import load_cohort, load_description
from mmfed_client.opening import own_part, read_knowledge, site_data
from mmfed_client.policy import Policy
from mmfed_client.preflight import memory as estimate
from mmfed_client.preflight.device import device
from mmfed_client.preflight.finding import Finding, State, fault, from_error, not_applicable, ok, warning
from mmfed_client.preflight.generated import generated_site, small_study
from mmfed_client.preflight.limits import MIB
from mmfed_client.preflight.privacy import privacy, trial_means
from mmfed_client.preflight.runner import Item
from mmfed_client.preflight.subject import Subject
from mmfed_client.privacy import train_private_round
from mmfed_client.site import SiteData
from mmfed_client.training import LocalSite, LocalUpdate, train_round
from mmfed_client.training.reproducible import training_device
from mmfed_common.errors import CohortError, Fault, MmfedError, PrivacyError
from mmfed_common.scaling import Scaling
from mmfed_common.schedule import Place
from mmfed_common.study import Level, Study
from mmfed_common.topology import Topology

NOTES = frozenset({"MMF-216", "MMF-221", "MMF-222", "MMF-224"})
"""Codes that tell how the cohort is read; there is nothing to repair."""
LONG_SHARE = 0.5
"""Share of a round's deadline from which on its time is worth a warning."""


class Trial:
    """Works its items off in order: what one reads the next ones use."""

    def __init__(self) -> None:
        self._data: SiteData | None = None
        self._topology: Topology | None = None
        self._seconds: float | None = None
        self._refused = ""

    @property
    def items(self) -> tuple[Item, ...]:
        """The items in the order in which they must run."""
        return (
            Item("cohort", 45.0, self.cohort),
            Item("patients", 10.0, self.patients),
            Item("privacy", 30.0, self.privacy),
            Item("device", 20.0, device),
            Item("memory", 10.0, self.memory),
            Item("training step", 40.0, self.step),
            Item("round time", 5.0, self.round_time),
        )

    def cohort(self, subject: Subject) -> Iterator[Finding]:
        """Every fault of the cohort against the study's contract."""
        study, path = subject.study, subject.cohort
        if path is None:
            # Without a home there is no site.toml either, which the item home reports.
            if subject.config is None:
                yield not_applicable("site.toml cannot be read: see the item home")
            elif study is None:
                yield not_applicable("site.toml names no cohort, which is needed once there is a study")
            else:
                yield fault("MMF-113", "site.toml names no cohort", str(subject.home.config_file))
            return
        description = load_description(path)
        if study is None:
            yield ok("cohort.toml is valid; there is no study to compare the tables with", str(path))
            return
        try:
            knowledge, self._topology = read_knowledge(study, subject.pack)
        except MmfedError as error:
            yield not_applicable(f"not compared, the knowledge pack is missing: {error.what}", str(path))
            return
        symbols = None if knowledge is None else knowledge.symbols
        try:
            cohort = load_cohort(description, study.contract, self._topology, symbols)
        except CohortError as error:
            yield from (_cohort_finding(found, str(path)) for found in error.faults)
            return
        part = own_part(cohort, subject.site)
        self._data = site_data(study, subject.site, part.patients, part.folds, self._topology)
        found = [_cohort_finding(one, str(path)) for one in cohort.warnings]
        yield from found
        if not any(one.state is State.WARNING for one in found):
            yield ok(f"{len(part.patients)} patients; it offers all that the study asks for", str(path))

    def patients(self, subject: Subject) -> Iterator[Finding]:
        """How many patients may train, against the floors of study and policy."""
        study, data = subject.study, self._data
        if study is None or data is None:
            yield not_applicable("there is no cohort that was read for a study")
            return
        training = int((~data.held_out).sum())
        try:
            floor = Policy.load(subject.home.policy_file).minimum_patients
        except PrivacyError:
            floor = 1
        where = str(subject.cohort)
        if training < study.aggregation.minimum_patients:
            least = study.aggregation.minimum_patients
            yield fault("MMF-406", f"{training} may train, the study asks for {least}", where)
        elif training < floor:
            what = f"{training} may train, the policy asks for {floor}"
            yield fault("MMF-323", what, str(subject.home.policy_file))
        else:
            yield ok(f"{training} may train, {int(data.held_out.sum())} are held out", where)

    def privacy(self, subject: Subject) -> Iterator[Finding]:
        """Whether this site can keep the study's promise of privacy, and the budget pays for all of it."""
        yield from privacy(subject, self._data)

    def memory(self, subject: Subject) -> Iterator[Finding]:
        """Whether the memory holds a training step; estimated, so that the step itself does no harm."""
        study, data = self._subject_of_step(subject)
        need, free = estimate.step_bytes(study, data), estimate.available()
        spare = subject.limits.memory_spare
        shown = f"a step needs about {need / MIB:.0f} MiB, {free / MIB:.0f} MiB are free"
        place = "memory"
        if torch.cuda.is_available():
            on_gpu, total = torch.cuda.mem_get_info()
            on_gpu = min(on_gpu, int(_gpu_share(subject) * total))
            free, place = min(free, on_gpu), "memory of machine and GPU"
            shown = f"{shown}, {on_gpu / MIB:.0f} MiB on the GPU"
        if need > free:
            self._refused = "the memory is too small for it: see the item memory"
            yield fault("MMF-137", shown, place)
        elif need + spare > free:
            yield warning("MMF-137", shown, place)
        else:
            yield ok(shown, place)

    def step(self, subject: Subject) -> Iterator[Finding]:
        """One real training step on the device that would train; the second one is timed."""
        if self._refused:
            yield not_applicable(f"not tried: {self._refused}")
            return
        study, data = self._subject_of_step(subject)
        where = str(training_device())
        try:
            update, self._seconds = _two_steps(study, data)
        except torch.OutOfMemoryError as error:
            yield fault("MMF-137", str(error).splitlines()[0][:300], where)
            return
        except MmfedError as error:
            yield from_error(error)
            return
        except RuntimeError as error:
            yield fault("MMF-139", f"{type(error).__name__}: {str(error).splitlines()[0][:300]}", where)
            return
        patients = "of the site's own" if data is self._data else "generated"
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB
        on_gpu = torch.cuda.max_memory_allocated() / MIB if torch.cuda.is_available() else 0.0
        more = f", {on_gpu:.0f} MiB on the GPU" if on_gpu else ""
        took = f"{update.patients} {patients} patients in {self._seconds:.2f} s on {where}"
        yield ok(f"{took}, {peak:.0f} MiB at most{more}; loss {update.loss:.3f}", where)

    def round_time(self, subject: Subject) -> Iterator[Finding]:
        """How long a round would take, from the step that was measured, against the study's deadline."""
        study = subject.study
        if study is None or self._seconds is None:
            yield not_applicable("no step was measured for a study")
            return
        _, data = self._subject_of_step(subject)
        fit = max(int((~data.held_out).sum()), 1)
        steps = math.ceil(fit / study.training.batch) if study.training.batch else 1
        needed = self._seconds * steps * study.training.local_epochs
        most = study.aggregation.deadline_seconds
        shown = f"a round takes about {needed:.1f} s of the {most:g} s that the study allows"
        if needed > most:
            yield fault("MMF-140", shown)
        elif needed > LONG_SHARE * most:
            yield warning("MMF-140", shown)
        else:
            yield ok(shown)

    def _subject_of_step(self, subject: Subject) -> tuple[Study, SiteData]:
        """The site's own patients where they can be used, otherwise generated ones."""
        study = subject.study or small_study()
        if self._data is not None and not self._data.held_out.all():
            return study, self._data
        if self._topology is None:
            try:
                self._topology = read_knowledge(study, subject.pack)[1]
            except MmfedError:
                study = small_study()
                self._topology = read_knowledge(study, None)[1]
        elif subject.study is None:
            study = small_study()
        return study, generated_site(study, self._topology, subject.site, subject.limits.step_patients)


def _gpu_share(subject: Subject) -> float:
    """The share of the GPU's memory that the policy allows."""
    try:
        return Policy.load(subject.home.policy_file).gpu_memory
    except PrivacyError:
        return 1.0


def _two_steps(study: Study, data: SiteData) -> tuple[LocalUpdate, float]:
    one_epoch = study.with_changes(training={"local_epochs": 1})
    site = LocalSite(one_epoch, data)
    batch = study.training.batch or len(site.fit)
    site.fit = site.fit[:batch]
    place = _largest_place(one_epoch)
    contract = one_epoch.contract
    scaling = site.scaling(Scaling.from_moments(site.moments(), contract, data.topology))
    weights = {name: tensor.detach().clone() for name, tensor in site.model.state_dict().items()}
    _one_step(site, weights, scaling, place)
    began = time.monotonic()
    update = _one_step(site, weights, scaling, place)
    return update, time.monotonic() - began


def _one_step(
    site: LocalSite, weights: dict[str, torch.Tensor], scaling: Scaling, place: Place
) -> LocalUpdate:
    mu = site.study.aggregation.proximal_mu
    if site.study.privacy.mode == "none":
        return train_round(site, weights, scaling, place, mu)
    return train_private_round(site, weights, scaling, place, mu, *trial_means(site))


def _largest_place(study: Study) -> Place:
    """The first round of the stage that computes most."""
    levels = get_args(Level)
    rounds = range(1, study.training.rounds + 1)
    return max(
        (Place.of(study.training, number) for number in rounds),
        key=lambda place: (levels.index(place.stage.level), -place.round),
    )


def _cohort_finding(found: Fault, path: str) -> Finding:
    parts = [found.table, found.column and f"column {found.column}"]
    if found.row is not None:
        parts.append(f"row {found.row} (of {found.count})" if found.count > 1 else f"row {found.row}")
    where = ", ".join(part for part in parts if part) or path
    if found.severity == "error":
        return fault(found.code, found.what, where)
    if found.code in NOTES:
        return ok(found.what, where)
    return warning(found.code, found.what, where)
