"""The coordinator's program from the outside: words in, text, files and exit codes out."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from tests.server.serving import founded

from mmfed_common.kit import Kit
from mmfed_server.cli.program import run

COMMANDS = [
    "init",
    "enrol",
    "start",
    "status",
    "runs",
    "export",
    "ledger",
    "study new",
    "study sign",
    "study show",
]


def printed(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    """The one JSON document on stdout."""
    content: dict[str, object] = json.loads(capsys.readouterr().out)
    return content


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_by_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*command.split(), "--help"]) == 0
    assert f"mmfed-server {command.split()[0]}" in capsys.readouterr().out


def test_two_commands_found_a_federation_and_make_kits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "fed"
    assert run(["init", str(folder), "--name", "lung", "--address", "fed.example.org:8443", "--json"]) == 0
    facts = printed(capsys)
    assert run(["enrol", "north", "south", "--dir", str(folder), "--json"]) == 0
    made = printed(capsys)["sites"]
    assert isinstance(made, list)
    assert [entry["site"] for entry in made] == ["north", "south"]
    for entry in made:
        path = Path(entry["kit"])
        kit = Kit.load(path)
        assert kit.address == "fed.example.org:8443"
        assert kit.coordinator_key.fingerprint == facts["coordinator_fingerprint"]
        assert "PRIVATE" not in path.read_text()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / "coordinator.key").stat().st_mode) == 0o600


def test_sites_are_listed_revoked_and_invited_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(founded(tmp_path).path)
    assert run(["enrol", "north", "--dir", folder]) == 0
    assert run(["enrol", "north", "--revoke", "--dir", folder]) == 0
    capsys.readouterr()
    assert run(["enrol", "--list", "--dir", folder, "--json"]) == 0
    sites = printed(capsys)["sites"]
    assert isinstance(sites, list)
    assert [(entry["name"], entry["state"]) for entry in sites] == [("north", "revoked")]
    assert "public_key" not in sites[0]
    assert run(["enrol", "north", "--dir", folder, "--out", str(tmp_path / "n.kit")]) == 0
    assert Kit.load(tmp_path / "n.kit").site == "north"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["enrol", "../north"], 4),
        (["enrol", "nobody", "--revoke"], 4),
        (["enrol", "nobody", "--lift"], 4),
        (["enrol", "nobody", "--rotate"], 4),
        (["enrol"], 64),
        (["enrol", "a", "--revoke", "--lift"], 64),
        (["enrol", "a", "b", "--out", "x"], 64),
        (["runs", "show", "no-such-run"], 5),
        (["export", "latest", "--out", "bundle"], 5),
        (["start", "--study", "no-such-file.toml"], 5),
    ],
)
def test_wrong_use_has_its_exit_code(
    words: list[str], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = founded(tmp_path).path
    assert run([*words, "--dir", str(folder)]) == code
    told = capsys.readouterr()
    assert told.err
    assert "Traceback" not in told.err


def test_a_folder_that_is_no_federation_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status", "--dir", str(tmp_path), "--json"]) == 4
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "MMF-432"


def test_a_template_is_never_written_over_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "study.toml"
    assert run(["study", "new", str(file), "--seed", "7"]) == 0
    before = file.read_bytes()
    assert run(["study", "new", str(file), "--seed", "8", "--json"]) == 5
    assert "MMF-554" in capsys.readouterr().err
    assert file.read_bytes() == before


def test_show_says_the_same_of_a_study_and_of_its_signed_form(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, file = str(founded(tmp_path).path), tmp_path / "study.toml"
    assert run(["study", "new", str(file), "--seed", "7"]) == 0
    assert run(["study", "sign", str(file), "--dir", folder, "--out", str(tmp_path / "s.json")]) == 0
    capsys.readouterr()
    assert run(["study", "show", str(file), "--json"]) == 0
    plain = printed(capsys)
    assert run(["study", "show", str(tmp_path / "s.json"), "--dir", folder, "--json"]) == 0
    signed = printed(capsys)
    assert plain["signed"] is None
    assert str(signed["signed"]).startswith("Signed for demo")
    assert signed["words"] == plain["words"]
    assert signed["hash"] == plain["hash"]


def test_a_changed_signed_study_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, file = str(founded(tmp_path).path), tmp_path / "study.toml"
    signed = tmp_path / "s.json"
    assert run(["study", "new", str(file), "--seed", "7"]) == 0
    assert run(["study", "sign", str(file), "--dir", folder, "--out", str(signed)]) == 0
    signed.write_text(signed.read_text().replace('minimum_patients\\":5', 'minimum_patients\\":1'))
    assert run(["study", "show", str(signed), "--dir", folder]) == 4
    assert "MMF-414" in capsys.readouterr().err
