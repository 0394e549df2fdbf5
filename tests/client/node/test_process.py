"""The node's process: it begins only with everything in order, and never outlives its supervisor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.client.joined_home import CANARY, JoinedHome, one_column_study

from mmfed_client.approval import approve, revoke
from mmfed_client.node import reports as r
from mmfed_client.node.prepare import prepare
from mmfed_client.node.reports import ORPHANED, parse_report
from mmfed_client.signed_files import keep_signed, read_signed
from mmfed_common.errors import MachineError, MmfedError

STUDY = one_column_study()
SECONDS = 90.0


@pytest.fixture
def site(tmp_path: Path) -> JoinedHome:
    """A site whose server cannot be reached; its study is approved."""
    site = JoinedHome(tmp_path)
    signed = site.sign(STUDY)
    keep_signed(site.home, signed)
    approve(site.home, site.ledger, signed, "Ada")
    return site


class Node:
    """A node started by a test in place of the supervisor."""

    def __init__(self, site: JoinedHome, study_hash: str = STUDY.hash, passphrase: str = "") -> None:
        words = ["-m", "mmfed_client.node", "--home", str(site.home.path), "--study", study_hash]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        environment.pop("MMFED_PASSPHRASE", None)
        self.process = subprocess.Popen(
            [sys.executable, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )
        assert self.process.stdin is not None
        self.process.stdin.write(f"{passphrase}\n".encode())
        self.process.stdin.flush()

    def reports(self) -> list[dict[str, Any]]:
        """Everything it tells until it ends by itself; its supervisor lives on."""
        assert self.process.stdout is not None
        lines = self.process.stdout.read().decode().splitlines()
        self.process.wait(SECONDS)
        found = [parse_report(line) for line in lines]
        assert None not in found
        return [report for report in found if report is not None]


def end_of(site: JoinedHome, **options: str) -> dict[str, Any]:
    """Last report of a node that ends by itself."""
    reports = Node(site, **options).reports()
    assert not [report for report in reports if report["event"] == r.CONNECTED]
    assert not [entry for entry in site.ledger.entries() if entry.kind == "receipt"]
    return reports[-1]


def test_it_opens_the_cohort_and_says_that_the_server_is_not_there(site: JoinedHome) -> None:
    site.home.ca_file.write_text("no certificate")
    node = Node(site)
    reports = node.reports()
    told = [report["event"] for report in reports if report["event"] != r.LOG]
    assert told == [r.OPENING, r.OPENED, r.ENDED]
    assert reports[-1]["code"] == "MMF-471"
    assert node.process.returncode == 1
    assert CANARY not in json.dumps(reports)


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda site: revoke(site.ledger, "Ada"), "MMF-332"),
        (lambda site: site.policy("most_rounds = 1"), "MMF-326"),
        (lambda site: site.policy("minimum_patients = 1000"), "MMF-323"),
        (lambda site: site.configure(""), "MMF-113"),
        (lambda site: site.home.key_file.unlink(), "MMF-411"),
        (lambda site: site.home.study_file(STUDY.hash).unlink(), "MMF-114"),
        (lambda site: other_study(site), "MMF-418"),
        (lambda site: (site.folder / "tables" / "t.csv").unlink(), "MMF-200"),
    ],
)
def test_it_does_not_begin_without_all_that_allows_it(site: JoinedHome, spoil: object, code: str) -> None:
    assert callable(spoil)
    spoil(site)
    with pytest.raises(MmfedError) as caught:
        prepare(site.home, STUDY.hash, None)
    assert caught.value.code == code


def other_study(site: JoinedHome) -> None:
    """Put another, properly signed and approved study under the name of the first."""
    signed = site.sign(one_column_study("another"))
    approve(site.home, site.ledger, signed, "Ada")
    site.home.study_file(STUDY.hash).write_text(signed.to_json())


def test_a_study_s_name_cannot_be_a_path(site: JoinedHome) -> None:
    with pytest.raises(MmfedError) as caught:
        prepare(site.home, "../../etc/passwd", None)
    assert caught.value.code == "MMF-423"


def test_the_passphrase_comes_through_the_pipe_only(tmp_path: Path) -> None:
    site = JoinedHome(tmp_path, passphrase="correct horse")
    assert end_of(site)["code"] == "MMF-413"
    assert end_of(site, passphrase="correct horse")["code"] == "MMF-114"


def test_it_ends_at_once_when_its_supervisor_is_gone(site: JoinedHome) -> None:
    node = Node(site)
    assert node.process.stdout is not None
    assert node.process.stdin is not None
    assert json.loads(node.process.stdout.readline())["event"] == r.OPENING
    began = time.monotonic()
    node.process.stdin.close()
    assert node.process.wait(SECONDS) in (ORPHANED, 1)
    assert time.monotonic() - began < 60


def test_a_study_that_cannot_be_kept_is_named(site: JoinedHome) -> None:
    signed = site.sign(one_column_study("another"))
    site.home.studies.rename(site.home.path / "gone")
    with pytest.raises(MachineError) as caught:
        keep_signed(site.home, signed)
    assert caught.value.code == "MMF-112"
    with pytest.raises(MachineError) as caught:
        read_signed(site.home.study_file(signed.hash))
    assert caught.value.code == "MMF-114"


def test_a_key_under_a_passphrase_also_fetches_the_knowledge_pack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody answers at the address: the request for the pack is what fails, not the key."""
    monkeypatch.delenv("MMFED_PASSPHRASE", raising=False)
    site = JoinedHome(tmp_path, passphrase="correct horse")
    contract = STUDY.contract.model_dump(mode="json", exclude_none=True)
    study = one_column_study(contract={**contract, "knowledge": {"file": "k.mmfk", "sha256": "0" * 64}})
    signed = site.sign(study)
    keep_signed(site.home, signed)
    approve(site.home, site.ledger, signed, "Ada")
    with pytest.raises(MmfedError) as caught:
        prepare(site.home, study.hash, "correct horse")
    assert caught.value.code == "MMF-423"
    assert "ca.pem" in str(caught.value)
