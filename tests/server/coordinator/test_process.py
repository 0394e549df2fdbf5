"""The coordinator's process, as a process: started, looked at, stopped, killed, started again."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update
from tests.server.postgres import running_postgres
from tests.server.serving import founded, server

from mmfed_common.names import time_text, utc_now
from mmfed_common.signed_study import SignedStudy
from mmfed_common.study import Study
from mmfed_server.cli.program import run
from mmfed_server.coordinator.process import Coordinator
from mmfed_server.coordinator.service import counts_towards_quarantine
from mmfed_server.coordinator.view import view_of
from mmfed_server.database import open_database
from mmfed_server.federation import Federation
from mmfed_server.federation.kept import keep_study
from mmfed_server.record.catalogue import RunCatalogue
from mmfed_server.record.tables import runs
from mmfed_server.studies import study_template
from mmfed_simulations.processes.programs import free_port


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    """A federation on a free port, with metrics on another."""
    return founded(tmp_path, free_port(), free_port())


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "study.toml"
    path.write_text(study_template("lung", 1))
    return path


def test_it_waits_for_sites_in_sight_and_stops_when_asked(federation: Federation, study: Path) -> None:
    with server(federation, "--study", str(study)) as running:
        running.wait_until(lambda status: status["state"] == "waiting")
        view = view_of(federation)
        assert (view.served, view.state, view.code) == (True, "waiting", "MMF-533")
        assert view.next_step
        code, _, _ = running.end(signal.SIGTERM)
    assert code == 0
    view = view_of(federation)
    assert (view.served, view.state, view.code) == (False, "stopped", "MMF-557")


def test_a_killed_server_is_called_gone_and_its_run_goes_on(federation: Federation, study: Path) -> None:
    with server(federation, "--study", str(study)) as running:
        running.wait_until(lambda status: status["state"] == "waiting")
        first = running.status()["run"]
        running.process.kill()
        running.process.communicate()
    view = view_of(federation)
    assert (view.served, view.state, view.code) == (False, "gone", "MMF-555")
    with server(federation) as running:
        running.wait_until(lambda status: status.get("state") == "waiting" and "run" in status)
        assert running.status()["run"] == first


def test_a_study_that_is_taken_off_makes_way_and_goes_on_later(
    federation: Federation, study: Path, tmp_path: Path
) -> None:
    second = tmp_path / "second.toml"
    second.write_text(study_template("second", 1))
    words = ["--dir", str(federation.path)]
    with server(federation, "--study", str(study)) as running:
        running.wait_until(lambda status: status["state"] == "waiting")
        first = running.status()["run"]
        assert run(["start", "--study", str(second), *words]) == 0
        assert [entry["name"] for entry in view_of(federation).waiting] == ["second"]
        assert run(["study", "drop", Study.load(study).hash[:12], *words]) == 0
        running.wait_until(lambda status: status["study"]["name"] == "second")
        running.wait_until(lambda status: status["state"] == "waiting")
        engine = open_database(federation.database_url)
        assert RunCatalogue(engine).run(first).code == "MMF-580"
        assert run(["study", "submit", str(study), *words]) == 0
        assert run(["study", "drop", Study.load(second).hash, *words]) == 0
        running.wait_until(lambda status: status["study"]["name"] == "lung")
        running.wait_until(lambda status: status["state"] == "waiting")
        assert running.status()["run"] == first
        assert run(["study", "drop", Study.load(study).hash, *words]) == 0
        running.wait_until(lambda status: status["code"] == "MMF-580")
        assert running.end(signal.SIGTERM)[0] == 0


def test_a_study_that_cannot_be_run_does_not_hold_up_the_next(
    federation: Federation, study: Path, tmp_path: Path
) -> None:
    second = tmp_path / "second.toml"
    second.write_text(study_template("second", 1))
    for path in (study, second):
        assert run(["study", "submit", str(path), "--dir", str(federation.path)]) == 0
    federation.study_file(Study.load(study).hash).unlink()
    with server(federation) as running:
        running.wait_until(lambda status: status.get("study", {}).get("name") == "second")
        running.wait_until(lambda status: status["state"] == "waiting")
        assert view_of(federation).waiting == []
    lines = map(json.loads, (federation.path / "log.jsonl").read_text().splitlines())
    assert [line["code"] for line in lines if line["event"] == "run failed"] == ["MMF-551"]


def test_a_signature_that_ended_is_a_warning(federation: Federation, study: Path) -> None:
    issued = utc_now() - timedelta(days=1)
    keep_study(
        federation,
        SignedStudy.sign(Study.load(study), federation.coordinator_key, federation.name, 1, issued),
    )
    (federation.path / "status.json").write_text(
        json.dumps({"state": "waiting", "study": {"name": "lung", "hash": Study.load(study).hash}})
    )
    (warning,) = view_of(federation).warnings
    assert warning.startswith("MMF-415 ")
    assert time_text(issued + timedelta(days=1)) in warning
    keep_study(federation, SignedStudy.sign(Study.load(study), federation.coordinator_key, federation.name))
    assert view_of(federation).warnings == []


def test_watching_shows_each_change(federation: Federation) -> None:
    words = ["status", "--watch", "--json", "--dir", str(federation.path)]
    command = [sys.executable, "-c", "from mmfed_server.cli import main; main()", *words]
    watch = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert watch.stdout is not None
    try:
        assert json.loads(watch.stdout.readline())["state"] == "never started"
        with server(federation) as running:
            while (seen := json.loads(watch.stdout.readline())["state"]) != "idle":
                assert seen == "never started"
            running.end()
        while json.loads(watch.stdout.readline())["served"]:
            assert watch.poll() is None
        watch.send_signal(signal.SIGINT)
        assert watch.wait(timeout=20) == 0
    finally:
        watch.kill()
        watch.communicate()


def test_runs_are_kept_in_postgresql_where_there_is_one(tmp_path: Path, study: Path) -> None:
    with running_postgres() as url:
        port = free_port()
        federation = Federation.create(
            tmp_path / "pg",
            "demo",
            f"localhost:{port}",
            listen=f"127.0.0.1:{port}",
            database=url,
            metrics_port=0,
        )
        with server(federation, "--study", str(study)) as running:
            running.wait_until(lambda status: status["state"] == "waiting")
            assert run(["enrol", "north", "--dir", str(federation.path)]) == 0
            running.wait_until(lambda status: [s["state"] for s in status["sites"]] == ["invited"])
            running.process.kill()
            running.process.communicate()
        assert view_of(federation).state == "gone"
        assert not (federation.path / "federation.sqlite").exists()


def test_only_one_process_serves_a_federation(
    federation: Federation, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with server(federation) as running:
        running.wait_until(lambda status: status["state"] == "idle" and "listens" in status)
        assert run(["start", "--dir", str(federation.path), "--exit-when-done", "--json"]) == 5
        assert json.loads(capsys.readouterr().out)["error"]["code"] == "MMF-550"
        assert running.process.poll() is None


def test_sites_are_enrolled_and_revoked_while_it_runs(federation: Federation) -> None:
    with server(federation) as running:
        running.wait_until(lambda status: status.get("sites") == [])
        assert run(["enrol", "north", "--dir", str(federation.path)]) == 0
        running.wait_until(lambda status: [s["state"] for s in status["sites"]] == ["invited"])
        assert run(["enrol", "north", "--revoke", "--dir", str(federation.path)]) == 0
        running.wait_until(lambda status: [s["state"] for s in status["sites"]] == ["revoked"])


def test_metrics_are_served_on_loopback(federation: Federation) -> None:
    with server(federation) as running:
        running.wait_until(lambda status: "metrics" in status and status["state"] == "idle")
        where = running.status()["metrics"]
        assert where == f"http://127.0.0.1:{federation.config.metrics_port}/metrics"
        with urllib.request.urlopen(where, timeout=10) as answer:
            text = answer.read().decode()
    assert 'mmfed_run_state{state="idle"} 1.0' in text
    assert "mmfed_certificate_days_left" in text


def test_a_taken_metrics_port_costs_the_metrics_only(federation: Federation) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", federation.config.metrics_port))
        taken.listen()
        with server(federation) as running:
            running.wait_until(lambda status: "metrics" in status and status["state"] == "idle")
            assert any(warning.startswith("MMF-553") for warning in view_of(federation).warnings)


def test_a_taken_public_port_is_an_error_with_a_code(federation: Federation) -> None:
    with socket.socket() as taken:
        taken.bind(federation.listen)
        taken.listen()
        with server(federation) as running:
            _, err = running.process.communicate(timeout=60)
    assert running.process.returncode == 4
    assert "MMF-484" in err


def test_a_renewed_certificate_is_shown_without_a_restart(federation: Federation) -> None:
    with server(federation) as running:
        running.wait_until(lambda status: "listens" in status and status["state"] == "idle")
        before = shown(federation)
        federation.rotate_server_certificate()
        running.wait_until(lambda _: shown(federation) != before)
        renewed = federation.certificates.cert_path.read_text(encoding="ascii")
        assert shown(federation).strip() in renewed
        assert before.strip() not in renewed


def test_a_certificate_that_is_renewed_at_the_start_is_the_one_that_is_shown(tmp_path: Path) -> None:
    address, founded_then = f"127.0.0.1:{free_port()}", utc_now() - timedelta(days=380)
    old = Federation.create(
        tmp_path / "fed", "demo", address, listen=address, metrics_port=0, now=founded_then
    )
    before = old.certificates.cert_path.read_text(encoding="ascii")
    with server(old) as running:
        running.wait_until(lambda status: "listens" in status and status["state"] == "idle")
        running.wait_until(lambda _: shown(old).strip() not in before)
        assert shown(old).strip() in old.certificates.cert_path.read_text(encoding="ascii")


STOPPED = """
import os, signal, sys, threading, time
from mmfed_server.coordinator import process
process.STOPPING_SECONDS = 1
stop = threading.Event()
noticed = process.stop_on_signals(stop)
os.kill(os.getpid(), signal.SIGTERM)
assert stop.is_set()
if sys.argv[1] != "never":
    noticed()
if sys.argv[1] == "in time, and asked again":
    os.kill(os.getpid(), signal.SIGTERM)
time.sleep(3)
"""


INTERRUPTED = [("in time", 0), ("never", -signal.SIGINT), ("in time, and asked again", -signal.SIGINT)]


@pytest.mark.parametrize(("when", "code"), INTERRUPTED)
def test_only_who_has_not_noticed_a_stop_is_interrupted(when: str, code: int) -> None:
    done = subprocess.run([sys.executable, "-c", STOPPED, when], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr


class InterruptedWait(threading.Event):
    """A stop that comes while the server waits, as the alarm brings it."""

    def wait(self, timeout: float | None = None) -> bool:
        self.set()
        raise KeyboardInterrupt


def test_a_server_that_is_interrupted_between_two_runs_says_that_it_stopped(federation: Federation) -> None:
    noticed: list[str] = []
    coordinator = Coordinator(federation, stop=InterruptedWait(), noticed=lambda: noticed.append("noticed"))
    assert coordinator.serve(quiet=True).state == "stopped"
    assert noticed == ["noticed"]
    assert view_of(federation).state == "stopped"


def shown(federation: Federation) -> str:
    """The certificate that the public port presents."""
    import ssl

    return ssl.get_server_certificate(federation.listen)


def test_the_log_is_json_and_holds_no_secret(federation: Federation, study: Path) -> None:
    assert run(["enrol", "north", "--dir", str(federation.path)]) == 0
    secret = next(
        line.split('"')[1]
        for line in (federation.kits / "north.kit").read_text().splitlines()
        if line.startswith("secret")
    )
    with server(federation, "--study", str(study)) as running:
        running.wait_until(lambda status: status["state"] == "waiting")
        running.end()
    text = federation.log_file.read_text()
    events = [json.loads(line)["event"] for line in text.splitlines()]
    assert events.index("serving") < events.index("run begins") < events.index("stopped serving")
    assert secret not in text
    assert "PRIVATE KEY" not in text


def test_a_finished_study_is_not_run_again_by_a_restart(federation: Federation, study: Path) -> None:
    name = finished_run(federation, study)
    with server(federation, "--study", str(study), "--exit-when-done", "--json") as running:
        out, err = running.process.communicate(timeout=120)
    assert running.process.returncode == 0, err
    assert json.loads(out) == {"state": "finished", "run": name}
    with server(federation, "--study", str(study), "--again") as running:
        running.wait_until(lambda status: status["state"] == "waiting" and status["run"] != name)


def finished_run(federation: Federation, study: Path) -> str:
    """Write down that a study was run to its end; gives the run's name."""
    engine = open_database(federation.database_url)
    name = RunCatalogue(engine).begin(Study.load(study))
    with engine.begin() as connection:
        connection.execute(update(runs).where(runs.c.run == name).values(status="finished", finished=True))
    engine.dispose()
    return name


@pytest.mark.parametrize(
    ("code", "counts"),
    [
        *((code, False) for code in ("MMF-401", "MMF-404", "MMF-332", "MMF-480", "MMF-462", "MMF-465")),
        *((code, True) for code in ("MMF-402", "MMF-416", "MMF-436", "MMF-450", "MMF-453", "MMF-461")),
        ("MMF-487", True),
    ],
)
def test_who_is_cut_off_is_not_put_in_quarantine(code: str, counts: bool) -> None:
    assert counts_towards_quarantine(code) is counts
