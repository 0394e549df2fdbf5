"""A run that is killed goes on to the weights of the run that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from tests.conftest import ROOT
from tests.simulations.killed_run import study_for
from tests.simulations.small_federation import gene_study, small_sites, small_study

from mmfed_common.errors import MmfedError
from mmfed_server.plan import RoundReport
from mmfed_server.record.folder import StateFile
from mmfed_simulations.run import prepare_run, run_study


def start(out: Path, strategy: str, *rounds: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.simulations.killed_run", str(out), strategy, *map(str, rounds)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE)


def rounds_written(out: Path) -> int:
    events = out / "events.jsonl"
    return events.read_bytes().count(b'"event": "round"') if events.exists() else 0


def kill_at(out: Path, strategy: str, rounds: int) -> int:
    """Kill -9 as soon as the diary shows so many rounds; the poll yields the processor between looks."""
    process = start(out, strategy, rounds)
    while process.poll() is None and rounds_written(out) < rounds:
        time.sleep(0)
    os.kill(process.pid, signal.SIGKILL)
    _, complaint = process.communicate()
    assert process.returncode == -signal.SIGKILL, complaint.decode()
    return rounds_written(out)


def without_times(out: Path) -> list[dict[str, object]]:
    lines = (out / "events.jsonl").read_text().splitlines()
    rounds = [event for event in map(json.loads, lines) if event["event"] == "round"]
    return [{k: v for k, v in event.items() if k not in ("time", "seconds")} for event in rounds]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["fedadam", pytest.param("fedavg-int8", marks=pytest.mark.e2e)])
def test_a_run_killed_again_and_again_gives_the_bytes_of_the_undisturbed_run(
    strategy: str, tmp_path: Path
) -> None:
    study = study_for(strategy)
    undisturbed = tmp_path / "undisturbed"
    run_study(study, small_sites(study), undisturbed)
    killed = tmp_path / "killed"
    reached = [kill_at(killed, strategy, rounds) for rounds in (0, 1, 4, 8)]
    assert reached[-1] >= 8
    process = start(killed, strategy)
    _, complaint = process.communicate()
    assert process.returncode == 0, complaint.decode()
    weights = [StateFile(out).weights_path.read_bytes() for out in (undisturbed, killed)]
    assert weights[0] == weights[1]
    assert without_times(killed) == without_times(undisturbed)
    assert StateFile(killed).status() == "finished"


class StopHereError(Exception):
    """Ends a run from within, at a round."""


@pytest.mark.parametrize("stop", [1, 3, 7])
def test_a_run_that_failed_goes_on_to_the_same_weights(stop: int, tmp_path: Path) -> None:
    study = study_for("fedadam")
    sites = small_sites(study)

    def progress(report: RoundReport) -> None:
        if report.round == stop:
            raise StopHereError

    with pytest.raises(StopHereError):
        run_study(study, sites, tmp_path / "a", progress=progress)
    assert StateFile(tmp_path / "a").status() == "failed"
    resumed = run_study(study, sites, tmp_path / "a", resume=True)
    whole = run_study(study, sites, tmp_path / "b")
    assert all(torch.equal(resumed.state[name], whole.state[name]) for name in whole.state)
    assert without_times(tmp_path / "a") == without_times(tmp_path / "b")


def test_an_interrupt_ends_in_a_known_state(tmp_path: Path) -> None:
    study = small_study()

    def progress(report: RoundReport) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(study, small_sites(study), tmp_path / "a", progress=progress)
    assert json.loads((tmp_path / "a/state/status.json").read_text())["code"] == "MMF-521"


def test_a_finished_run_gives_its_result_again(tmp_path: Path) -> None:
    study = small_study()
    first = run_study(study, small_sites(study), tmp_path / "a")
    again = run_study(study, small_sites(study), tmp_path / "a", resume=True)
    assert all(torch.equal(first.state[name], again.state[name]) for name in first.state)
    assert len(again.rounds) == len(first.rounds) == 3


def test_a_run_that_was_killed_in_its_first_moment_begins_again(tmp_path: Path) -> None:
    """Until the study lies there whole, there is no run: nothing to resume, and nothing to lose."""
    study = small_study()
    (tmp_path / "a").mkdir()
    (tmp_path / "a/study.json.partial").write_bytes(study.canonical()[:100])
    assert len(run_study(study, small_sites(study), tmp_path / "a").rounds) == 3
    assert not (tmp_path / "a/study.json.partial").exists()


def test_a_prepared_run_is_run_by_resuming_it(tmp_path: Path) -> None:
    study = small_study()
    prepare_run(study, small_sites(study), tmp_path / "a")
    assert StateFile(tmp_path / "a").status() == "prepared"
    assert len(run_study(study, small_sites(study), tmp_path / "a", resume=True).rounds) == 3


def code_of(study_seed: int, sizes: tuple[int, ...], out: Path, *, resume: bool) -> str:
    study = small_study(study={"name": "small", "seed": study_seed})
    with pytest.raises(MmfedError) as caught:
        run_study(study, small_sites(study, sizes), out, resume=resume)
    return caught.value.code


def test_a_folder_is_only_resumed_by_its_own_study_and_patients(tmp_path: Path) -> None:
    study = small_study()
    run_study(study, small_sites(study, (20, 24)), tmp_path / "a")
    assert code_of(7, (20, 24), tmp_path / "a", resume=False) == "MMF-503"
    assert code_of(8, (20, 24), tmp_path / "a", resume=True) == "MMF-502"
    assert code_of(7, (20, 25), tmp_path / "a", resume=True) == "MMF-522"
    assert code_of(7, (20, 24), tmp_path / "new", resume=True) == "MMF-504"


def test_a_patient_at_two_sites_is_refused(tmp_path: Path) -> None:
    study = small_study()
    one, two = small_sites(study, (20, 24))
    twin = type(two)("site-2", one.patients, one.held_out, one.topology)
    with pytest.raises(MmfedError) as caught:
        run_study(study, [one, two, twin], tmp_path / "a")
    assert caught.value.code == "MMF-506"


def test_a_disk_that_is_full_from_the_start_is_named(small_disk: Path) -> None:
    study = gene_study()
    with pytest.raises(MmfedError) as caught:
        run_study(study, small_sites(study, (2000, 2000, 2000)), small_disk / "out")
    assert caught.value.code == "MMF-508"


def test_a_disk_that_fills_up_during_a_run_loses_no_round(small_disk: Path, tmp_path: Path) -> None:
    study = small_study()
    sites = small_sites(study)
    filler = small_disk / "filler"

    def progress(report: RoundReport) -> None:
        with open(filler, "wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(512))

    with pytest.raises(MmfedError) as caught:
        run_study(study, sites, small_disk / "out", progress=progress)
    assert caught.value.code == "MMF-508"
    filler.unlink()
    resumed = run_study(study, sites, small_disk / "out", resume=True)
    whole = run_study(study, sites, tmp_path / "whole")
    assert all(torch.equal(resumed.state[name], whole.state[name]) for name in whole.state)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB, where one can be mounted."""
    folder = tmp_path / "small-disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small file system is not allowed here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
