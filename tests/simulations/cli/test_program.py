"""``mmfed-simulate`` from the outside: what it prints, where, and its exit codes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
from typer.main import get_command

from mmfed_common.error_codes import CODES
from mmfed_common.errors import MmfedError
from mmfed_simulations.cli import program
from mmfed_simulations.cli.app import app

SMALL = ("--sites", "3", "--patients", "90", "--genes", "40", "--pathways", "6", "--seed", "3")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small consortium, with a study of few rounds."""
    folder = tmp_path_factory.mktemp("cli") / "small"
    assert program.run(["cohort", "--out", str(folder), *SMALL, "--json"]) == 0
    text = (folder / "study.toml").read_text()
    for line in text.splitlines():
        if line.startswith("rounds = "):
            text = text.replace(line, "rounds = 2")
    (folder / "study.toml").write_text(text)
    return folder


def run_of(folder: Path) -> list[str]:
    """The command that runs a folder's own study."""
    return ["run", str(folder / "study.toml"), "--cohort", str(folder)]


def commands() -> list[tuple[str, ...]]:
    """Every command and sub-command."""
    found: list[tuple[str, ...]] = []
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        found += [(name, sub) for sub in getattr(command, "commands", {})] or [(name,)]
    return found


def test_all_commands_are_there() -> None:
    groups: dict[str, set[str]] = {}
    for path in commands():
        groups.setdefault(path[0], set()).update(path[1:])
    assert set(groups) == {
        "cohort", "check", "run", "pretrain", "compare", "missing", "tradeoff", "transfer", "reproduce",
        "results", "attack", "knowledge", "benchmark",
    }  # fmt: skip
    assert groups["benchmark"] == {"training", "rounds", "federation", "masking", "privacy", "compression"}
    assert groups["attack"] == {"membership", "reconstruct", "attribute"}


@pytest.mark.parametrize("path", commands(), ids=" ".join)
def test_help_teaches_with_an_example_and_offers_json(
    path: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.run([*path, "--help"]) == 0
    text = capsys.readouterr().out
    assert "mmfed-simulate " + " ".join(path) in text.split("Usage", 1)[1].split("\n", 1)[1]
    assert "--json" in text


def test_cohort_prints_the_same_figures_as_table_and_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.run(["cohort", "--source", "lung", "--out", str(tmp_path / "a"), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert sum(site["patients"] for site in content["sites"]) == 228
    assert sum(site["events"] for site in content["sites"]) == 165
    assert program.run(["cohort", "--source", "lung", "--out", str(tmp_path / "b")]) == 0
    assert "228 patients" in capsys.readouterr().out


def test_errors_name_code_and_next_step_and_set_the_exit_code(
    tmp_path: Path, small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = {
        "MMF-503": ["cohort", "--out", str(small)],
        "MMF-501": ["check", str(tmp_path / "none.toml"), "--cohort", str(small)],
        "MMF-201": ["check", str(small / "study.toml"), "--cohort", str(tmp_path)],
        "MMF-512": ["cohort", "--out", str(tmp_path / "x"), "--planted-genes", "21"],
        "MMF-504": [
            "run",
            str(small / "study.toml"),
            "--cohort",
            str(small),
            "--out",
            str(tmp_path / "y"),
            "--resume",
        ],
    }
    for code, arguments in cases.items():
        assert program.run(arguments) == int(code[4]), code
        captured = capsys.readouterr()
        assert captured.err.startswith(code)
        assert CODES[code].next_step in captured.err
        assert captured.out == ""
        assert "Traceback" not in captured.err
        assert program.run([*arguments, "--json"]) == int(code[4])
        assert json.loads(capsys.readouterr().out)["error"]["code"] == code


def test_wrong_usage_is_64(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.run(["run"]) == 64
    assert program.run(["cohort", "--out", "x", "--sites", "none"]) == 64
    assert program.run(["unheard-of"]) == 64
    assert "unheard-of" in capsys.readouterr().err


@pytest.mark.parametrize("debug", [False, True])
def test_a_defect_is_reported_and_its_traceback_only_on_demand(
    debug: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(out: Path) -> None:
        raise ZeroDivisionError(f"cannot write {out}")

    monkeypatch.setattr("mmfed_simulations.sources.write_lung", broken)
    arguments = ["cohort", "--source", "lung", "--out", str(tmp_path)]
    assert program.run([*arguments, "--debug"] if debug else arguments) == 70
    captured = capsys.readouterr()
    assert "ZeroDivisionError" in captured.err
    assert "--debug" in captured.err
    assert ("Traceback" in captured.err) is debug


def test_an_interrupt_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(out: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mmfed_simulations.sources.write_lung", interrupted)
    assert program.run(["cohort", "--source", "lung", "--out", str(tmp_path)]) == 130
    assert "--resume" in capsys.readouterr().err


def test_every_error_has_an_exit_code_of_its_family() -> None:
    assert {code: MmfedError(code, "x").exit_code for code in CODES} == {code: int(code[4]) for code in CODES}


def test_check_shows_every_fault_of_every_site(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(small, broken)
    for site, column in (("site-01", "age"), ("site-02", "ecog")):
        file = broken / site / "clinical.parquet"
        table = pd.read_parquet(file)
        table.loc[0, column] = 999.0
        table.to_parquet(file)
    arguments = ["check", str(broken / "study.toml"), "--cohort", str(broken)]
    assert program.run([*arguments, "--json"]) == 2
    content = json.loads(capsys.readouterr().out)
    assert content["errors"] == 2
    found = {(f["site"], f["code"], f["column"]) for f in content["faults"] if f["severity"] == "error"}
    assert found == {("site-01", "MMF-206", "age"), ("site-02", "MMF-206", "ecog")}
    assert program.run(arguments) == 2
    assert "site-02" in capsys.readouterr().out
    assert program.run(["check", str(small / "study.toml"), "--cohort", str(small)]) == 0
    assert "nothing keeps" in capsys.readouterr().out


def test_a_patient_at_two_sites_is_refused(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twice = tmp_path / "twice"
    shutil.copytree(small, twice)
    first = pd.read_parquet(twice / "site-01" / "clinical.parquet")
    file = twice / "site-02" / "clinical.parquet"
    table = pd.concat([pd.read_parquet(file), first.head(1)], ignore_index=True)
    table.to_parquet(file)
    assert program.run(["check", str(twice / "study.toml"), "--cohort", str(twice)]) == 5
    assert "MMF-506" in capsys.readouterr().err


@pytest.mark.slow
def test_run_writes_what_it_promises(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    arguments = [*run_of(small), "--out", str(out)]
    assert program.run(arguments) == 0
    printed = capsys.readouterr().out
    assert "C-index" in printed
    assert f"Report: {out / 'report.html'}" in printed
    for name in ("results.json", "predictions.parquet", "report.html", "events.jsonl"):
        assert (out / name).is_file(), name
    assert list((out / "model").glob("*.safetensors"))
    results = json.loads((out / "results.json").read_text())
    assert {site["site"] for site in results["sites"]} == {"site-01", "site-02", "site-03"}
    assert program.run(arguments) == 5
    assert "MMF-503" in capsys.readouterr().err
    assert program.run([*arguments, "--resume", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["arms"] == results["arms"]


def test_prepare_only_trains_nothing(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "prepared"
    arguments = [
        "run",
        str(small / "study.toml"),
        "--cohort",
        str(small),
        "--out",
        str(out),
        "--prepare-only",
    ]
    assert program.run([*arguments, "--json"]) == 0
    assert str(out) in json.loads(capsys.readouterr().out)["command"]
    assert not (out / "results.json").exists()


def test_the_installed_program_runs_without_a_terminal(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("mmfed-simulate")
    done = subprocess.run(
        [program, "cohort", "--out", tmp_path / "c", *SMALL, "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["sites"][0]["site"] == "site-01"
    assert done.stderr == ""
