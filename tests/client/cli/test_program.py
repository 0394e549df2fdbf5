"""The site's program as a person meets it: help, words, JSON, exit codes; without a server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.client.joined_home import JoinedHome, one_column_study
from typer.testing import CliRunner

from mmfed_client.cli.app import app
from mmfed_client.cli.ledger import moment
from mmfed_client.cli.program import run
from mmfed_client.status import State, Status, StatusFile
from mmfed_client.supervisor.lock import NodeLock
from mmfed_common.names import utc_now
from mmfed_common.signed_study import SignedStudy
from mmfed_common.signing import CoordinatorKey

COMMANDS = ("join", "check", "review", "approve", "revoke", "start", "status", "ledger", "rotate")
STUDY = one_column_study()


@pytest.fixture
def site(tmp_path: Path) -> JoinedHome:
    """A site that has joined."""
    return JoinedHome(tmp_path)


@pytest.fixture
def offer(site: JoinedHome) -> Path:
    """A signed study as a file."""
    path = site.folder / "study.signed.json"
    path.write_text(site.sign(STUDY).to_json())
    return path


def call(site: JoinedHome, *words: str) -> int:
    """Run one command in this process; gives the exit code."""
    return run([*words, "--home", str(site.home.path)])


def answer(site: JoinedHome, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, object]:
    """Run a command that succeeds, and read its JSON."""
    capsys.readouterr()
    assert call(site, *words, "--json") == 0
    content: dict[str, object] = json.loads(capsys.readouterr().out)
    return content


def test_help_teaches_every_command_and_is_quick() -> None:
    runner = CliRunner()
    text = runner.invoke(app, ["--help"]).output
    for command in COMMANDS:
        assert command in text
        shown = runner.invoke(app, [command, "--help"])
        assert shown.exit_code == 0
        assert "Examples" in shown.output or command == "ledger"
    code = (
        "import sys; from mmfed_client.cli.program import run; run(['status', '--help']); print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"torch", "flwr", "pandas"} & set(loaded.split())


def test_a_question_that_nobody_can_answer_is_wrong_usage(site: JoinedHome, offer: Path) -> None:
    """In processes of their own, without a terminal: the message names what answers the question."""
    code = "import sys; from mmfed_client.cli.program import run; sys.exit(run(sys.argv[1:]))"
    home = ["--home", str(site.home.path)]
    asked = {
        "--yes": ["approve", str(offer), *home],
        "MMFED_PASSPHRASE": ["join", "kit", *home, "--passphrase"],
    }
    environment = {name: value for name, value in os.environ.items() if name != "MMFED_PASSPHRASE"}
    for named, words in asked.items():
        done = subprocess.run(
            [sys.executable, "-c", code, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=environment,
            check=False,
            start_new_session=True,
        )
        assert done.returncode == 64, done.stderr
        assert named in done.stderr
        assert "did not expect" not in done.stderr
    assert not any(entry.kind == "approval" for entry in site.ledger.entries())


def test_without_a_home_the_next_step_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["status"], ["revoke"], ["approve"], ["ledger", "verify"], ["start"], ["rotate"]):
        assert run([*words, "--home", str(tmp_path / "nothing")]) == 4
        error = capsys.readouterr().err
        assert "MMF-423" in error
        assert "mmfed-client join" in error


def test_from_review_to_revocation(site: JoinedHome, offer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    review = answer(site, capsys, "review", str(offer))
    assert review["allowed"] is True
    assert review["changes"] is None
    assert site.home.study_file(STUDY.hash).is_file()
    assert list(site.ledger.entries()) == []
    given = answer(site, capsys, "approve", STUDY.hash[:12], "--by", "Dr. Ada Okafor")
    assert (given["study"], given["complete"], given["people"]) == (STUDY.hash, True, ["Dr. Ada Okafor"])
    second = one_column_study("second", training={"stages": [{"level": "clinical", "rounds": 9}]})
    offer.write_text(site.sign(second).to_json())
    changes = answer(site, capsys, "review", str(offer))["changes"]
    assert isinstance(changes, list)
    assert {"key": "study.name", "before": "one-column", "after": "second"} in changes
    taken = answer(site, capsys, "revoke", STUDY.hash[:8], "--by", "Ada")
    assert (taken["study"], taken["stopped"]) == (STUDY.hash, True)
    assert [entry.kind for entry in site.ledger.entries()] == ["approval", "revocation"]
    assert call(site, "ledger", "show") == 0
    shown = capsys.readouterr().out
    assert "Dr. Ada Okafor approved one-column" in shown
    assert "Ada withdrew approval" in shown


def test_a_person_is_asked_and_may_say_no(site: JoinedHome, offer: Path) -> None:
    runner = CliRunner()
    words = ["approve", str(offer), "--home", str(site.home.path), "--by", "Ada"]
    refused = runner.invoke(app, words, input="n\n")
    assert refused.exit_code == 1
    assert list(site.ledger.entries()) == []
    agreed = runner.invoke(app, words, input="y\n")
    assert agreed.exit_code == 0
    assert [entry.kind for entry in site.ledger.entries()] == ["approval"]


def test_two_people_where_the_policy_asks_for_them(
    site: JoinedHome, offer: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site.policy("two_person = true")
    assert answer(site, capsys, "approve", str(offer), "--by", "Ada")["complete"] is False
    assert call(site, "approve", str(offer), "--by", "ada", "--yes") == 3
    assert "MMF-335" in capsys.readouterr().err
    assert answer(site, capsys, "approve", str(offer), "--by", "Grace")["complete"] is True


def test_what_the_policy_refuses_is_shown_and_cannot_be_approved(
    site: JoinedHome, offer: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site.policy("most_rounds = 2")
    assert call(site, "review", str(offer)) == 3
    assert "MMF-326" in capsys.readouterr().out
    assert call(site, "approve", str(offer), "--yes") == 3
    assert not [entry for entry in site.ledger.entries() if entry.kind == "approval"]


def test_a_forged_study_is_refused_before_a_word_of_it_is_shown(
    site: JoinedHome, offer: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = one_column_study("sweet-words")
    offer.write_text(SignedStudy.sign(study, CoordinatorKey.generate(), "lungs", 30).to_json())
    for command in ("review", "approve"):
        assert call(site, command, str(offer)) == 4
        printed = capsys.readouterr()
        assert "MMF-414" in printed.err
        assert "sweet-words" not in printed.out + printed.err
    assert [entry.body["code"] for entry in site.ledger.entries()] == ["MMF-414"]


@pytest.mark.parametrize(("choice", "code"), [("ffffff", "MMF-114"), ("no-such-file", "MMF-114")])
def test_a_study_that_is_not_there(
    site: JoinedHome, capsys: pytest.CaptureFixture[str], choice: str, code: str
) -> None:
    assert call(site, "review", choice) == 1
    assert code in capsys.readouterr().err


def test_status_tells_the_truth_about_a_program_that_was_killed(
    site: JoinedHome, capsys: pytest.CaptureFixture[str]
) -> None:
    assert answer(site, capsys, "status")["state"] == "stopped"
    status = Status("north", "lungs", study="one-column", study_hash=STUDY.hash, rounds=5, pid=1, node_pid=2)
    StatusFile(site.home.status_file).write(status.entered(State.working, doing="train", round=3))
    with NodeLock(site.home.lock_file):
        found = answer(site, capsys, "status")
        assert (found["state"], found["round"], found["doing"]) == ("working", 3, "train")
    found = answer(site, capsys, "status")
    assert (found["state"], found["code"], found["node_pid"]) == ("died", "MMF-115", 0)
    assert "mmfed-client start" in str(found["next_step"])
    assert call(site, "status") == 0
    assert "round 3 of 5" in capsys.readouterr().out


def test_a_terminal_is_not_written_to_by_a_cause(
    site: JoinedHome, capsys: pytest.CaptureFixture[str]
) -> None:
    status = Status("north", "lungs").entered(State.blocked, "MMF-418", "evil \x1b[2J\x07 text")
    StatusFile(site.home.status_file).write(status)
    assert call(site, "status") == 0
    assert "\x1b[2J" not in capsys.readouterr().out


def test_the_ledger_is_shown_checked_and_exported(
    site: JoinedHome, offer: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(site, capsys, "approve", str(offer), "--by", "Ada")
    answer(site, capsys, "revoke")
    assert answer(site, capsys, "ledger", "verify")["whole"] is True
    out = site.folder / "export.jsonl"
    assert answer(site, capsys, "ledger", "export", str(out))["length"] == 2
    assert answer(site, capsys, "ledger", "verify", str(out))["whole"] is True
    out.write_text(out.read_text().replace("Ada", "Eve"))
    assert call(site, "ledger", "verify", str(out)) == 3
    shown = answer(site, capsys, "ledger", "show", "--since", "1h", "--kind", "approval")
    assert [entry["kind"] for entry in shown] == ["approval"]  # type: ignore[index]
    content = site.home.ledger_file.read_text()
    site.home.ledger_file.write_text(content.replace("Ada", "Eve"))
    capsys.readouterr()
    assert call(site, "ledger", "verify", "--json") == 3
    assert json.loads(capsys.readouterr().out)["faults"][0]["line"] == 1


def test_times_are_written_as_people_write_them() -> None:
    assert abs((utc_now() - moment("24h")).total_seconds() - 86400) < 5
    assert moment("2026-01-02T03:04:05+00:00").hour == 3
    assert moment("2026-01-02").tzinfo is not None
    runner = CliRunner()
    assert runner.invoke(app, ["ledger", "show", "--since", "yesterday"]).exit_code == 2


def test_a_second_program_is_refused(site: JoinedHome, capsys: pytest.CaptureFixture[str]) -> None:
    with NodeLock(site.home.lock_file):
        assert call(site, "start", "--quiet") == 1
    assert "MMF-110" in capsys.readouterr().err
