"""``mmfed-client check`` from the outside: what it prints, its exit code, its page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.client.preflight.small_site import Site

from mmfed_client.cli.program import run
from mmfed_client.preflight import NAMES
from mmfed_common.error_codes import CODES

ROOT = Path(__file__).resolve().parents[3]
QUICK = ("key", "policy", "home", "permissions")
ORDERED = ("home", "permissions", "key", "policy")


def arguments(site: Site, *more: str, only: tuple[str, ...] = QUICK) -> list[str]:
    """The words of the command."""
    named = [word for name in only for word in ("--only", name)]
    return ["check", "--home", str(site.home.path), *named, *more]


def test_a_clean_site_is_said_to_be_ready(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments(site)) == 0
    printed = capsys.readouterr().out
    assert "can take part" in printed
    assert [line.split()[0] for line in printed.splitlines() if " ok " in line] == list(ORDERED)


@pytest.mark.parametrize(
    ("name", "family"), [("policy.toml", 3), ("key.pem", 4), ("state", 4)], ids=["policy", "key", "folder"]
)
def test_the_exit_code_is_the_family_of_the_first_fault(site: Site, name: str, family: int) -> None:
    path = site.home.path / name
    path.rmdir() if path.is_dir() else path.unlink()
    assert run(arguments(site)) == family


def test_faults_are_printed_with_code_place_and_repair(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.home.key_file.chmod(0o644)
    assert run(arguments(site)) == 4
    printed = " ".join(capsys.readouterr().out.split())
    assert "MMF-412" in printed
    assert "repair: Run `chmod 600" in printed
    assert "1 fault(s) and 0 warning(s)" in printed


def test_machines_get_one_document(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.home.policy_file.unlink()
    assert run(arguments(site, "--json")) == 3
    record = json.loads(capsys.readouterr().out)
    assert record["exit_code"] == 3
    assert record["site"] == "south"
    item = next(item for item in record["items"] if item["name"] == "policy")
    assert set(item) == {"name", "state", "code", "what", "where", "repair", "seconds"}
    assert (item["state"], item["code"]) == ("fault", "MMF-320")
    assert item["repair"] == CODES["MMF-320"].next_step


def test_the_page_holds_every_item_and_no_markup_of_the_site(site: Site, tmp_path: Path) -> None:
    site.home.policy_file.write_text('"<script>alert(1)</script>" = 1\n')
    page = tmp_path / "check.html"
    assert run(arguments(site, "--html", str(page))) == 3
    text = page.read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)" in text
    assert "<script" not in text
    assert all(f"<td>{name}</td>" in text for name in QUICK)
    assert "http" not in text.split("<main")[0]


def test_a_page_that_cannot_be_written_is_an_error(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments(site, "--html", "/proc/no/check.html", only=("policy",))) == 1
    assert "MMF-142" in capsys.readouterr().err


def test_an_unknown_item_is_wrong_usage(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments(site, only=("clocks",))) == 64
    assert "'clocks'" in capsys.readouterr().err


def test_the_documentation_lists_every_item() -> None:
    page = (ROOT / "docs" / "check.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| ")]
    assert [row for row in rows if row in NAMES] == list(NAMES)
    own = {code for code in CODES if "MMF-130" <= code <= "MMF-169" or "MMF-490" <= code <= "MMF-499"}
    assert own - {code for code in CODES if code in page} == set()
