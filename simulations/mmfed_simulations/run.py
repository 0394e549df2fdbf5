"""One federation on this machine, from prepared sites to final weights."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flwr.app import Context
from torch import Tensor

from mmfed_client.site import SiteData
from mmfed_common.errors import StudyError
from mmfed_common.flower_environment import quiet_flower
from mmfed_common.scaling import Scaling
from mmfed_common.study import Study
from mmfed_server.app import make_server_app
from mmfed_server.plan import RoundReport, RunPlan
from mmfed_server.record.events import EVENTS_FILE, read_events
from mmfed_server.record.folder import StateFile
from mmfed_server.rounds import DISK_FULL
from mmfed_simulations.backends import backend_named
from mmfed_simulations.run_folder import RunFolder


@dataclass(frozen=True)
class RunResult:
    """What a run gave.

    Attributes
    ----------
    state
        Global weights.
    scaling
        The federated scaling; None where the study scales by site or by reference.
    rounds
        One entry a round: ``round``, ``stage``, ``seconds``, losses, ``sites``, ``refused``.
    sites
        One entry a site: ``site``, ``patients``, ``train``, ``test``, ``seconds``, ``bytes_up``,
        ``bytes_down``, ``rounds``, ``below_floor``, ``refusals``, ``last_refusal``.
    seconds
        Wall-clock seconds of this call.
    started_from
        What was taken over from a released model; None where the study starts from none.
    """

    state: dict[str, Tensor]
    scaling: Scaling | None
    rounds: list[dict[str, Any]]
    sites: list[dict[str, Any]]
    seconds: float
    started_from: dict[str, Any] | None = None


def prepare_run(study: Study, sites: Sequence[SiteData], out: Path, files: Path | None = None) -> RunFolder:
    """Write a run's folder without running it, e.g. for ``flwr run .``.

    Parameters
    ----------
    files
        Where the files lie that the study names, such as the bundle that it starts from.

    Raises
    ------
    StudyError
        ``MMF-503`` when ``out`` is not empty, ``MMF-506`` when a patient is at two sites, ``MMF-508`` when
        the disk is full.
    """
    _refuse_shared_patients(sites)
    folder = RunFolder(out)
    with _disk_full_is_named(out):
        folder.begin(study, sites, files)
    return folder


def run_study(
    study: Study,
    sites: Sequence[SiteData],
    out: Path,
    *,
    backend: str = "inprocess",
    workers: int = 1,
    resume: bool = False,
    files: Path | None = None,
    progress: Callable[[RoundReport], None] | None = None,
) -> RunResult:
    """Run one federation.

    Parameters
    ----------
    study
        What to run.
    sites
        The sites' patients.
    out
        The run's folder; must be empty or new unless ``resume``.
    backend
        ``"inprocess"`` or ``"ray"``.
    workers
        How many sites may train at the same time.
    resume
        Go on with the run in ``out``.
    files
        Where the files lie that the study names, such as the bundle that it starts from.
    progress
        Called after each round.

    Raises
    ------
    MmfedError
        What ended the run: ``MMF-503``, ``MMF-502``, ``MMF-504``, ``MMF-522`` for the folder, ``MMF-506``
        for the sites, ``MMF-630`` and ``MMF-631`` for the bundle that the study starts from, ``MMF-403``
        when too few sites answered, ``MMF-508`` when the disk is full, ``MMF-510`` for an unknown back end,
        ``MMF-604`` when the model became non-finite.
    """
    began = time.perf_counter()
    engine = backend_named(backend)
    if resume:
        _refuse_shared_patients(sites)
        folder = RunFolder(out)
        with _disk_full_is_named(out):
            folder.go_on(study, sites, files)
    else:
        folder = prepare_run(study, sites, out, files)
    plan = replace(folder.plan(), progress=progress)

    def open_plan(_: Context) -> RunPlan:
        return plan

    with _disk_full_is_named(out), quiet_flower():
        engine.run(make_server_app(open_plan), folder, sites, workers)
    return _result(folder, sites, time.perf_counter() - began)


def _result(folder: RunFolder, sites: Sequence[SiteData], seconds: float) -> RunResult:
    state = StateFile(folder.path).load()
    if state is None or not state.finished:
        raise StudyError("MMF-509", "the run ended without its last round", str(folder.path))
    table = []
    for data in sorted(sites, key=lambda data: data.name):
        totals = vars(state.sites[data.name])
        test = int(data.held_out.sum())
        counts = {"patients": len(data.patients), "train": len(data.patients) - test, "test": test}
        table.append({"site": data.name, **totals, **counts})
    scaling = Scaling.from_arrays(state.scaling) if state.scaling else None
    started = next((e for e in read_events(folder.path / EVENTS_FILE) if e["event"] == "started-from"), None)
    return RunResult(state.weights, scaling, state.history, table, seconds, started)


def _refuse_shared_patients(sites: Sequence[SiteData]) -> None:
    names = [data.name for data in sites]
    if len(set(names)) != len(names):
        raise StudyError("MMF-506", "two sites have the same name")
    seen: dict[str, str] = {}
    for data in sites:
        for patient in data.patients.patient_ids:
            if patient in seen:
                raise StudyError("MMF-506", f"patient {patient}", f"{seen[patient]} and {data.name}")
            seen[patient] = data.name


@contextmanager
def _disk_full_is_named(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        what = errno.errorcode.get(error.errno or 0, "")
        raise StudyError("MMF-508", f"the disk is full ({what})", str(out)) from None
