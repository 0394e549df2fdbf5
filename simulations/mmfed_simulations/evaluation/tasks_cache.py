"""Arms and folds as tasks: run by worker processes, each result kept so that a comparison can be resumed."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors.torch import load_file, save

from mmfed_client.cohort import Cohort
from mmfed_common.durable import write_durably
from mmfed_common.errors import MmfedError, StudyError
from mmfed_common.scaling import Scaling
from mmfed_common.topology import Topology
from mmfed_simulations.evaluation.arm_names import PERSONALISED
from mmfed_simulations.evaluation.arms import ArmResult, run_arm
from mmfed_simulations.evaluation.folds import Fold
from mmfed_simulations.evaluation.gaps.hidden import NOTHING, Hidden
from mmfed_simulations.evaluation.hospital.personal import personalised_arm
from mmfed_simulations.evaluation.predictions import write_predictions
from mmfed_simulations.evaluation.results import without_nan
from mmfed_simulations.evaluation.site_data import sites_of
from mmfed_simulations.evaluation.worker_pool import in_workers

FORMAT = 2
"""Of what is kept; a result of another format is made again."""
WEIGHTS, SCALING = "weights/", "scaling/"
Progress = Callable[[int, int, str], None]
"""Called with tasks done, tasks in all, and what was done last."""


@dataclass(frozen=True)
class Task:
    """One arm in one fold, with what is hidden of the patients."""

    arm: str
    fold: Fold
    hidden: Hidden = NOTHING

    @property
    def label(self) -> str:
        """What a progress bar shows."""
        missing = f", {self.hidden.share:.0%} missing" if self.hidden.share > 0 else ""
        return f"{self.arm}{missing}, fold {self.fold.name}"

    @property
    def begins_with(self) -> Task | None:
        """The task whose model this one needs, if any."""
        return Task("federated", self.fold, self.hidden) if self.arm == PERSONALISED else None


@dataclass(frozen=True)
class Inputs:
    """What every task needs: sent once to each worker process.

    ``files`` is where the files lie that the studies name, such as the bundles they start from.
    """

    cohort: Cohort
    topology: Topology
    folder: Path
    digest: str
    files: Path | None = None

    def stem(self, task: Task) -> Path:
        """Where a task's result lies, without suffix: named by the study's hash, the data, arm and fold."""
        name = f"{task.fold.study.hash[:16]}-{self.digest[:12]}-{task.arm}-{_plain(task.fold.name)}"
        return self.folder / f"{name}{task.hidden.file_part}"


@dataclass(frozen=True)
class Failure:
    """An arm that could not be made in a fold, with its reason."""

    task: Task
    error: MmfedError


def _plain(name: str) -> str:
    """Make a site's name safe for a file, and keep different names different."""
    plain = "".join(c if c.isalnum() else "_" for c in name)[:40]
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def cohort_digest(cohort: Cohort) -> str:
    """SHA-256 over everything that training can see of a cohort."""
    digest = hashlib.sha256()
    rows = [cohort.patients.patient_ids, cohort.sites, cohort.folds]
    digest.update(json.dumps(rows, ensure_ascii=False).encode())
    tensors = vars(cohort.patients.outcomes)
    for name in sorted(cohort.patients.nodes):
        node = cohort.patients.nodes[name]
        tensors = tensors | {f"{name}/{key}": value for key, value in vars(node).items() if value is not None}
    for key in sorted(tensors):
        digest.update(key.encode())
        digest.update(
            memoryview(tensors[key].contiguous().numpy()).cast("B") if tensors[key].numel() else b""
        )
    return digest.hexdigest()


def run_tasks(
    inputs: Inputs, tasks: Sequence[Task], workers: int, progress: Progress | None
) -> tuple[dict[Task, ArmResult], list[Failure]]:
    """Run tasks that have no result yet, at most ``workers`` at once, each on one thread.

    An arm that fails for a reason that a person can act upon is given back as a failure; the others go on.
    """
    done: dict[Task, ArmResult] = {}
    failures: list[Failure] = []
    waiting = []
    for task in tasks:
        found = read_result(inputs.stem(task))
        if found is None:
            waiting.append(task)
        else:
            done[task] = found

    def finished(task: Task, result: ArmResult | MmfedError) -> None:
        if isinstance(result, MmfedError):
            failures.append(Failure(task, result))
        else:
            done[task] = result
        if progress is not None:
            progress(len(done) + len(failures), len(tasks), task.label)

    def ended(task: Task, error: MmfedError | None) -> None:
        finished(task, _present(read_result(inputs.stem(task))) if error is None else error)

    if progress is not None:
        progress(len(done), len(tasks), "resumed" if done else "")
    free = [task for task in waiting if task.begins_with is None]
    for ready in (free, [task for task in waiting if task.begins_with is not None]):
        if workers <= 1 or len(ready) <= 1:
            for task in ready:
                finished(task, _run(inputs, task))
        else:
            in_workers(_run_here, inputs, ready, workers, inputs.folder, ended)
    return {task: done[task] for task in tasks if task in done}, failures


def _run_here(inputs: Inputs, task: Task) -> MmfedError | None:
    """Run a task in a worker process; its result stays in the cache."""
    result = _run(inputs, task)
    return result if isinstance(result, MmfedError) else None


def _run(inputs: Inputs, task: Task) -> ArmResult | MmfedError:
    stem = inputs.stem(task)
    work = stem.with_name(stem.name + ".run")
    start = time.perf_counter()
    try:
        study, name = task.fold.study, task.fold.name
        sites = sites_of(study, inputs.cohort, inputs.topology, task.hidden)
        if task.begins_with is None:
            shown, files = task.hidden.shown, inputs.files
            result = run_arm(task.arm, name, study, sites, inputs.topology, work, shown, files)
        else:
            result = personalised_arm(name, study, sites, _needed(inputs, task.begins_with))
    except MmfedError as error:
        return error
    result.facts["wall_seconds"] = time.perf_counter() - start
    write_result(stem, result)
    shutil.rmtree(work, ignore_errors=True)
    return result


def _needed(inputs: Inputs, task: Task) -> ArmResult:
    found = read_result(inputs.stem(task))
    if found is None or not found.weights:
        raise StudyError("MMF-511", f"there is no model of {task.label}", inputs.folder.name)
    return found


def write_result(stem: Path, result: ArmResult) -> None:
    """Keep a result: the rows last, because their file says that the rest is there."""
    if result.weights:
        tensors = {WEIGHTS + name: value.contiguous() for name, value in result.weights.items()}
        if result.scaling is not None:
            tensors |= {
                SCALING + name: value.contiguous() for name, value in result.scaling.to_arrays().items()
            }
        write_durably(stem.with_name(stem.name + ".safetensors"), save(tensors))
    about = without_nan(
        {"format": FORMAT, "rounds": result.rounds, "sites": result.sites, "facts": result.facts}
    )
    write_durably(stem.with_name(stem.name + ".json"), json.dumps(about).encode())
    write_predictions(result.rows, stem.with_name(stem.name + ".parquet"))


def read_result(stem: Path) -> ArmResult | None:
    """Read a result that was kept; None where there is none of this format."""
    table, about = stem.with_name(stem.name + ".parquet"), stem.with_name(stem.name + ".json")
    if not table.is_file() or not about.is_file():
        return None
    content: dict[str, Any] = json.loads(about.read_text(encoding="utf-8"))
    if content.get("format") != FORMAT:
        return None
    result = ArmResult(pd.read_parquet(table), content["rounds"], content["sites"], content["facts"])
    model = stem.with_name(stem.name + ".safetensors")
    if model.is_file():
        tensors = load_file(model)
        result.weights = {k.removeprefix(WEIGHTS): v for k, v in tensors.items() if k.startswith(WEIGHTS)}
        arrays = {k.removeprefix(SCALING): v for k, v in tensors.items() if k.startswith(SCALING)}
        result.scaling = Scaling.from_arrays(arrays) if arrays else None
    return result


def _present(result: ArmResult | None) -> ArmResult:
    if result is None:
        raise RuntimeError("a worker finished a task and left no result")
    return result
