"""The life of a site between real processes: approval, a server that comes and goes, kills, revocation."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from tests.client.joined_home import CANARY, SITE, JoinedHome, one_column_study
from tests.pauses import Pauses
from tests.server.link.small_link import SmallLink, wait_until

from mmfed_client.approval import approve, revoke
from mmfed_client.home import SiteHome
from mmfed_client.status import State, Status, StatusFile
from mmfed_client.supervisor.lock import is_held
from mmfed_common import messages as m
from mmfed_common.arrays import to_record
from mmfed_common.graph import build_topology
from mmfed_common.model import build_model
from mmfed_common.seal import check_seal
from mmfed_common.study import Study
from mmfed_server.link.link import Link

SOON = 90.0
"""Seconds for a step that starts a process on a busy machine."""
STUDY = one_column_study()
ENDLESS = one_column_study(
    "endless",
    training={"stages": [{"level": "clinical", "rounds": 5}], "local_epochs": 1000, "batch": 1},
)


class Running:
    """A site's program, and what it says about itself."""

    def __init__(self, site: JoinedHome, offer: Path, *words: str) -> None:
        self.home: SiteHome = site.home
        script = Path(__file__).with_name("supervising.py")
        command = [sys.executable, str(script), str(site.home.path), str(offer), *words]
        self.process = subprocess.Popen(
            command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE
        )

    def status(self) -> Status:
        """What stands in the status file."""
        return StatusFile(self.home.status_file).read() or Status("", "")

    def reaches(self, wanted: Callable[[Status], bool], seconds: float = SOON) -> Status:
        """Wait until the status of this very process fulfils a condition."""

        def true() -> bool:
            assert self.process.poll() is None, self.process.communicate()
            status = self.status()
            return status.pid == self.process.pid and wanted(status)

        wait_until(true, seconds)
        return self.status()


@contextmanager
def running(site: JoinedHome, study: Study | None = None, *words: str) -> Iterator[Running]:
    """Run the program; if a study is given it is offered and approved. The words are the program's own."""
    offer = site.folder / "offer.json"
    if study is not None:
        signed = site.sign(study)
        offer.write_text(signed.to_json())
        approve(site.home, site.ledger, signed, "Ada")
    found = Running(site, offer, *words)
    try:
        yield found
    finally:
        if found.process.poll() is None:
            found.process.kill()
        found.process.communicate()


@pytest.fixture
def small(tmp_path: Path) -> SmallLink:
    """A server's side that is not started yet."""
    return SmallLink(tmp_path / "link", (SITE,))


@pytest.fixture
def site(tmp_path: Path, small: SmallLink) -> JoinedHome:
    """A site that is enrolled with it."""
    site = JoinedHome(tmp_path, key=small.keys[SITE], address=small.address)
    site.home.ca_file.write_bytes(small.ca.read_bytes())
    return site


def question(kind: str, link: Link, study: Study, number: int, **records: Any) -> Message:
    """A coordinator's message."""
    config = ConfigRecord({m.STUDY_HASH: study.hash, m.ROUND: number})
    return Message(RecordDict({m.CONFIG: config, **records}), link.online()[SITE], kind)


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_from_an_offer_to_an_answer_through_kills_of_everything(site: JoinedHome, small: SmallLink) -> None:
    offer = site.folder / "offer.json"
    with running(site) as program:
        program.reaches(lambda s: s.state is State.waiting_for_study)
        signed = site.sign(STUDY)
        offer.write_text(signed.to_json())
        program.reaches(lambda s: s.state is State.waiting_for_approval and s.code == "MMF-332")
        approve(site.home, site.ledger, signed, "Ada")
        status = program.reaches(lambda s: s.state is State.trying_again)
        assert status.code == "MMF-470"
        with small.open() as link:
            node = program.reaches(lambda s: s.state is State.ready).node_pid
            wait_until(lambda: SITE in link.online())
            answers = list(link.grid().stream([question(m.HELLO, link, STUDY, 0)], 30))
            check_seal(answers[0], small.keys[SITE].public, answers[0].metadata.reply_to_message_id)
            assert answers[0].content.metric_records[m.METRICS][m.NUM_EXAMPLES] > 0
            status = program.reaches(lambda s: s.sent.messages == 1)
            receipt = next(iter(site.ledger.entries(kind="receipt")))
            assert status.sent.bytes == receipt.body["bytes"]
            os.kill(node, signal.SIGKILL)
            again = program.reaches(lambda s: s.state is State.ready and s.node_pid != node)
            assert again.restarts == status.restarts + 1
            program.process.kill()
            wait_until(lambda: not alive(again.node_pid), 60)
            wait_until(lambda: not is_held(site.home.lock_file), 60)
    with small.open() as link, running(site) as program:
        node = program.reaches(lambda s: s.state is State.ready).node_pid
        program.process.terminate()
        assert program.process.wait(60) == 0
        assert not alive(node)
        assert program.status().state is State.stopped
        assert link.online() == {}
    log = site.home.log_file.read_text()
    assert CANARY not in log
    assert all(json.loads(line)["level"] for line in log.splitlines())


@pytest.mark.slow
def test_revocation_stops_a_training_that_would_never_end_within_ten_seconds(
    site: JoinedHome, small: SmallLink
) -> None:
    with small.open() as link, running(site, ENDLESS) as program:
        node = program.reaches(lambda s: s.state is State.ready).node_pid
        wait_until(lambda: SITE in link.online())
        grid = link.grid()
        state = build_model(ENDLESS, build_topology(ENDLESS.contract, None)).state_dict()
        weights = {name: state[name] for name in state if name.startswith("clinical")}
        message = question(m.TRAIN, link, ENDLESS, 1, **{m.ARRAYS: to_record(weights)})
        answers: list[Message] = []
        asking = threading.Thread(target=lambda: answers.extend(grid.stream([message], 15)))
        asking.start()
        program.reaches(lambda s: s.state is State.working and s.doing == m.TRAIN)
        with Pauses() as pauses:
            began = time.monotonic()
            revoke(site.ledger, "Ada")
            wait_until(lambda: not alive(node), 60)
            status = program.reaches(lambda s: s.state is State.waiting_for_approval)
            took = time.monotonic() - began
        assert took < 10 + pauses.seconds
        assert status.code == "MMF-332"
        assert status.node_pid == 0
        asking.join(90)
        assert [entry.kind for entry in site.ledger.entries()] == ["approval", "revocation"]
        assert all(answer.has_error() for answer in answers)


@pytest.mark.slow
def test_a_site_that_is_asked_about_the_next_study_goes_over_to_it_at_once(
    site: JoinedHome, small: SmallLink
) -> None:
    with small.open() as link, running(site, STUDY, "600") as program:
        first = program.reaches(lambda s: s.state is State.ready)
        wait_until(lambda: SITE in link.online())
        asked = site.folder / "offer.asked"
        wait_until(lambda: time.time() - asked.stat().st_mtime > 1.0)  # the next question comes in 600 s
        signed = site.sign(ENDLESS)
        approve(site.home, site.ledger, signed, "Ada")
        (site.folder / "offer.json").write_text(signed.to_json())
        (answer,) = link.grid().stream([question(m.HELLO, link, ENDLESS, 0)], 30)
        assert (answer.error.reason or "").startswith("MMF-405")
        second = program.reaches(lambda s: s.state is State.ready and s.study_hash == ENDLESS.hash)
        assert second.node_pid != first.node_pid


@pytest.mark.slow
def test_a_refused_key_is_told_and_tried_again(site: JoinedHome, small: SmallLink) -> None:
    with small.open() as link, running(site, STUDY) as program:
        link.set_sites({})
        status = program.reaches(lambda s: s.state is State.trying_again)
        assert status.code == "MMF-472"
        link.set_sites(small.public())
        program.reaches(lambda s: s.state is State.ready)
        link.set_sites({})
        status = program.reaches(lambda s: s.state is State.trying_again, 30)
        assert status.code == "MMF-472"


@pytest.mark.slow
def test_a_broken_cohort_is_told_and_repaired_without_a_restart(site: JoinedHome, small: SmallLink) -> None:
    table = site.folder / "tables" / "t.csv"
    whole = table.read_text()
    table.write_text(whole.replace("age", "height"))
    with small.open(), running(site, STUDY) as program:
        status = program.reaches(lambda s: s.state is State.trying_again)
        assert status.code == "MMF-200"
        assert "MMF-203 t age" in status.cause
        table.write_text(whole)
        program.reaches(lambda s: s.state is State.ready)
    assert not list(site.ledger.entries(kind="receipt"))
