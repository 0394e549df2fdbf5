"""Whatever ends the work is told by both ``status`` commands, with code and cause, within a minute."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import ROOT
from tests.e2e.late_signer import ending
from tests.e2e.test_people import SECONDS, consortium
from tests.e2e.told import Told, goes_on, missing, with_cause

from mmfed_common.names import parse_time, utc_now
from mmfed_common.signed_study import SignedStudy
from mmfed_common.study import Study
from mmfed_server.federation import Federation as CoordinatorFolder
from mmfed_simulations.processes.federation import ENVIRONMENT, Federation
from mmfed_simulations.processes.programs import Program, wait_until

pytestmark = pytest.mark.timeout(1800)
"""Each wait has an end of its own; that of all together must not depend on the machine's speed."""

APPROVED_SECONDS = (10.0, 30.0, 90.0)
"""For how long a signature holds that somebody approves; the next one where the command took longer."""


def approve_briefly(federation: Federation, site: str) -> None:
    """Approve, at a site, the study with a signature that ends within seconds."""
    folder, brief = CoordinatorFolder.load(federation.home), federation.folder / "brief.json"
    signed = SignedStudy.from_json(folder.study_file(Study.load(federation.study).hash).read_bytes())
    words = ("approve", str(brief), "--yes", "--home", str(federation.site_home(site)))
    for seconds in APPROVED_SECONDS:
        brief.write_text(ending(folder, signed, seconds).to_json(), encoding="utf-8")
        done = federation.call("mmfed-client", *words)
        if "MMF-415" not in done.stderr:
            break
    assert done.returncode == 0, done.stderr


def let_certificate_end(federation: Federation) -> None:
    """Give the server a certificate that has ended, and take away what it would renew it with."""
    folder = CoordinatorFolder.load(federation.home)
    folder.rotate_server_certificate(utc_now() - timedelta(days=1000))
    (federation.home / "ca" / "ca.key").rename(federation.folder / "ca.key.in-the-safe")


def test_full_disks_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        subprocess.run(["unshare", "-rm", "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs file systems of its own: unshare -rm is not possible here")
    command = ["unshare", "-rm", sys.executable, "-m", "tests.e2e.full_disks", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    with capsys.disabled():
        print("", *done.stdout.splitlines(), sep="\n  ")


def start_with_late_signer(federation: Federation, word: Path) -> None:
    """Start a server that signs the study anew at a word, for a few seconds."""
    words = ["start", "--dir", str(federation.home), "--study", str(federation.study)]
    signer = Path(__file__).with_name("late_signer.py")
    command = [sys.executable, str(signer), str(word), *words]
    federation.server = Program(command, federation.folder / "late-signer.log", ENVIRONMENT)
    federation.wait_for_server()


def signature_ends(federation: Federation) -> None:
    """Wait until the signature of the study has ended."""
    folder = CoordinatorFolder.load(federation.home)
    file = folder.study_file(Study.load(federation.study).hash)

    def ended() -> bool:
        return utc_now() > parse_time(SignedStudy.from_json(file.read_bytes()).expires)

    wait_until(ended, SECONDS, "the end of the signature")


def warned(status: dict[str, Any], words: str) -> str:
    """The warning of the server that holds some words."""
    return next((warning for warning in status["warnings"] if words in warning), "")


@pytest.mark.e2e
def test_who_is_gone_or_no_longer_trusted_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = consortium(tmp_path / "consortium", 2, least=2)
    site, other = there.cohorts
    with Federation(tmp_path / "real", there.cohorts, there.study) as federation:
        federation.assemble()
        told = Told(federation)
        wait_until(lambda: federation.status()["round"] >= 1, SECONDS, "the first round")
        assert federation.server is not None

        federation.sites[site].kill()
        told.within("site gone, the site", lambda: with_cause(told.site(site), "MMF-115"))
        told.within("site gone, the server", lambda: missing(told.server(), site))
        told.within("site gone, the run", lambda: with_cause(told.server(), "MMF-533"))
        federation.start_site(site)
        goes_on(federation)

        federation.server.kill()
        told.within("server gone, the server", lambda: with_cause(told.server(), "MMF-555"))
        told.within("server gone, the site", lambda: with_cause(told.site(site), "MMF-470"))
        word = tmp_path / "sign.now"
        start_with_late_signer(federation, word)
        goes_on(federation)
        word.touch()
        signature_ends(federation)
        told.within("study over, the site", lambda: with_cause(told.site(site), "MMF-415"))
        told.within("study over, the server", lambda: warned(told.server(), "MMF-415"))
        told.within("study over, the run", lambda: with_cause(told.server(), "MMF-533"))
        federation.server.stop()
        federation.start_server()
        federation.wait_for_server()
        goes_on(federation)

        place = ("--home", str(federation.site_home(other)))
        federation.type(other, "mmfed-client", "revoke", *place)
        told.within("approval withdrawn, the site", lambda: with_cause(told.site(other), "MMF-332"))
        told.within("approval withdrawn, the server", lambda: missing(told.server(), other))
        approve_briefly(federation, other)
        told.within("approval over, the site", lambda: with_cause(told.site(other), "MMF-333"))
        told.within("approval over, the server", lambda: missing(told.server(), other))
        federation.type(other, "mmfed-client", "approve", "--yes", *place)
        goes_on(federation)

        let_certificate_end(federation)
        federation.server.kill()
        federation.start_server()
        federation.wait_for_server()
        told.within("certificate over, the site", lambda: with_cause(told.site(site), "MMF-471"))
        told.within("certificate over, the server", lambda: warned(told.server(), "certificate ended at"))
        (federation.folder / "ca.key.in-the-safe").rename(federation.home / "ca" / "ca.key")
        goes_on(federation)

        home = ("--dir", str(federation.home))
        federation.type("coordinator", "mmfed-server", "enrol", "--revoke", other, *home)
        told.within("key revoked, the site", lambda: with_cause(told.site(other), "MMF-472"))
        state = {s["site"]: s["state"] for s in told.server()["sites"]}
        assert state == {site: "enrolled", other: "revoked"}
        told.within("key revoked, the run", lambda: with_cause(told.server(), "MMF-533"))
    with capsys.disabled():
        print("", *told.lines, sep="\n  ")
