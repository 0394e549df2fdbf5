"""The units for systemd: valid, confined, made of words that the programs know, and fit to come back."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from mmfed_simulations.processes.programs import Program, free_port, wait_until

ROOT = Path(__file__).resolve().parents[2]
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
BIN = Path(sys.executable).parent
INSTALLED = "/opt/mmfed/bin/"
MOST_EXPOSED = 3.0
"""Of 10; systemd calls up to 3 well protected."""
SECONDS = 90.0
COMMAND_SECONDS = 120.0


def parsed(unit: Path) -> configparser.ConfigParser:
    """A unit's sections; of a key that stands twice, the last."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(unit, encoding="utf-8")
    return parser


def environment(unit: Path) -> dict[str, str]:
    """The variables that a unit sets."""
    lines = re.findall(r"^Environment=(\w+)=(.*)$", unit.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(lines)


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("needs systemd-analyze, which is not here")
    return subprocess.run(
        [tool, *words], capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
    )


def call(*words: str, **variables: str) -> None:
    done = subprocess.run(
        [str(BIN / words[0]), *words[1:]],
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        env=surroundings(**variables),
        check=False,
    )
    assert done.returncode == 0, done.stderr


def surroundings(**variables: str) -> dict[str, str]:
    """What systemd gives a service: nearly nothing."""
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", **variables}


def test_both_programs_have_a_unit() -> None:
    assert [unit.name for unit in UNITS] == ["mmfed-client.service", "mmfed-server.service"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_finds_nothing_wrong(unit: Path, tmp_path: Path) -> None:
    text = unit.read_text(encoding="utf-8").replace(INSTALLED, f"{BIN}/")
    copy = tmp_path / unit.name
    copy.write_text(text, encoding="utf-8")
    done = analyze("verify", "--man=no", str(copy))
    complaints = [line for line in done.stderr.splitlines() if unit.name in line]
    assert complaints == []
    assert done.returncode == 0


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_service_can_do_little_beside_its_work(unit: Path) -> None:
    done = analyze("security", "--offline=yes", "--no-pager", str(unit))
    found = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    assert float(found[1]) <= MOST_EXPOSED


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_the_unit_restarts_for_ever(unit: Path) -> None:
    sections = parsed(unit)
    assert sections["Service"]["Restart"] == "always"
    assert sections["Unit"]["StartLimitIntervalSec"] == "0"
    assert float(sections["Service"]["RestartSec"]) <= 10
    # The supervisor ends its node itself, and says goodbye: only it is asked to stop.
    assert sections["Service"]["KillMode"] == "mixed"


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_the_unit_speaks_of_what_the_programs_know(unit: Path) -> None:
    words = parsed(unit)["Service"]["ExecStart"].split()
    assert words[0] == f"{INSTALLED}{unit.stem}"
    assert (BIN / unit.stem).is_file()
    done = subprocess.run(
        [str(BIN / unit.stem), *words[1:], "--help"],
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    text = unit.read_text(encoding="utf-8")
    package = ROOT / unit.stem.removeprefix("mmfed-") / unit.stem.replace("-", "_")
    sources = [
        path.read_text(encoding="utf-8") for path in [*package.rglob("*.py"), *ROOT.glob("common/**/*.py")]
    ]
    named = set(re.findall(r"\bMMFED_[A-Z_]+", text))
    assert named == set(environment(unit)) | {name for name in named if name == "MMFED_PASSPHRASE"}
    assert {name for name in named if not any(f'"{name}"' in source for source in sources)} == set()


def service(unit: Path, log: Path, **variables: str) -> Program:
    """Start what a unit starts, with the variables that it sets pointed into the test's folder."""
    assert set(variables) == set(environment(unit))
    words = parsed(unit)["Service"]["ExecStart"].replace(INSTALLED, f"{BIN}/").split()
    return Program(words, log, {"OMP_NUM_THREADS": "1", "NO_PROXY": "127.0.0.1", **variables})


def test_both_services_come_back_after_a_kill(tmp_path: Path) -> None:
    """A loop of this test stands in for systemd with Restart=always."""
    from mmfed_client.cli.status import status_now
    from mmfed_client.home import SiteHome
    from mmfed_server.coordinator.view import view_of
    from mmfed_server.federation import Federation

    client, server = UNITS
    folder, home = tmp_path / "federation", tmp_path / "site"
    address = f"127.0.0.1:{free_port()}"
    call("mmfed-server", "init", str(folder), "--name", "units", "--address", address, "--metrics-port", "0")
    call("mmfed-server", "enrol", "north", MMFED_FEDERATION=str(folder))

    def serve() -> Program:
        return service(server, tmp_path / "server.log", MMFED_FEDERATION=str(folder))

    def take_part() -> Program:
        return service(client, tmp_path / "site.log", MMFED_HOME=str(home))

    def served() -> bool:
        view = view_of(Federation.load(folder))
        return view.served and view.state == "idle"

    def waits() -> bool:
        status = status_now(SiteHome(home))
        return (status.state.name, status.code) == ("waiting_for_study", "MMF-114")

    with ExitStack() as stack:
        first = stack.enter_context(serve())
        wait_until(served, SECONDS, "the server's service")
        call("mmfed-client", "join", str(folder / "kits" / "north.kit"), MMFED_HOME=str(home))
        site = stack.enter_context(take_part())
        wait_until(waits, SECONDS, "the site's service")
        for program in (first, site):
            program.kill()
        assert not view_of(Federation.load(folder)).served
        assert status_now(SiteHome(home)).code == "MMF-115"
        again = [stack.enter_context(serve()), stack.enter_context(take_part())]
        wait_until(served, SECONDS, "the server's service, again")
        wait_until(waits, SECONDS, "the site's service, again")
        for program in again:
            program.stop()
            assert program.process.returncode == 0
