"""An answer counts only under its site's enrolled key, and takes the ledger's head with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from mmfed_common import messages as m
from mmfed_common.errors import NetworkError
from mmfed_common.portal_protocol import join_proof, secret_verifier
from mmfed_common.seal import seal
from mmfed_common.signing import SiteKey
from mmfed_server.coordinator.seals import EnrolledSeals
from mmfed_server.database import open_database
from mmfed_server.federation import SiteRegistry

HEAD = "a" * 64
NEXT = "b" * 64


class Enrolled:
    """A registry with one site that has joined."""

    def __init__(self, folder: Path) -> None:
        self.registry = SiteRegistry(open_database(f"sqlite:///{folder / 'sites.sqlite'}"))
        self.software: list[tuple[str, list[str]]] = []
        self.seals = EnrolledSeals(self.registry, lambda site, found: self.software.append((site, found)))
        self.key = self.join("north")

    def join(self, site: str) -> SiteKey:
        """Enrol a site."""
        key, transcript = SiteKey.generate(), b"transcript"
        proof = join_proof(secret_verifier(self.registry.invite(site).secret), transcript)
        self.registry.enrol(site, transcript, proof, key.public)
        return key

    def answer(self, length: object = 1, head: object = HEAD, **about: str) -> Message:
        """A signed answer of the site ``north``."""
        request = Message(RecordDict(), 1, m.TRAIN)
        request.metadata._message_id = "request-1"  # Flower gives ids when it sends
        record: dict[str, object] = {
            m.SITE: "north",
            m.REQUEST: "request-1",
            m.LEDGER_LENGTH: length,
            m.LEDGER_HEAD: head,
            m.LEDGER_PAST: self.registry.get("north").ledger_head,
            **about,
        }
        content = RecordDict({m.METRICS: MetricRecord({"loss": 1.0}), m.ABOUT: ConfigRecord(record)})  # type: ignore[arg-type]
        reply = Message(content, reply_to=request)
        seal(reply, self.key)
        return reply


@pytest.fixture
def enrolled(tmp_path: Path) -> Enrolled:
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 2
    return Enrolled(tmp_path)


def code_of(enrolled: Enrolled, site: str, answer: Message) -> str:
    """The code with which an answer is refused."""
    with pytest.raises(NetworkError) as caught:
        enrolled.seals(site, answer)
    return caught.value.code


def test_a_signed_answer_is_taken_and_its_ledger_head_kept(enrolled: Enrolled) -> None:
    enrolled.seals("north", enrolled.answer(1, HEAD))
    enrolled.seals("north", enrolled.answer(5, NEXT))
    record = enrolled.registry.get("north")
    assert (record.ledger_length, record.ledger_head) == (5, NEXT)


def test_a_changed_answer_is_refused(enrolled: Enrolled) -> None:
    answer = enrolled.answer()
    answer.content.metric_records[m.METRICS]["loss"] = 0.5
    assert code_of(enrolled, "north", answer) == "MMF-416"


def test_another_sites_name_or_key_is_refused(enrolled: Enrolled) -> None:
    enrolled.join("south")
    assert code_of(enrolled, "south", enrolled.answer()) == "MMF-416"
    assert code_of(enrolled, "north", enrolled.answer(**{m.SITE: "south"})) == "MMF-416"
    assert code_of(enrolled, "nobody", enrolled.answer()) == "MMF-434"


def test_a_revoked_site_is_refused(enrolled: Enrolled) -> None:
    enrolled.registry.revoke("north")
    assert code_of(enrolled, "north", enrolled.answer()) == "MMF-416"


@pytest.mark.parametrize(("length", "head"), [(2, NEXT), (1, HEAD), (2, "c" * 64)])
def test_a_rewritten_ledger_means_quarantine_at_once(enrolled: Enrolled, length: int, head: str) -> None:
    enrolled.seals("north", enrolled.answer(2, HEAD))
    assert code_of(enrolled, "north", enrolled.answer(length, head)) == "MMF-436"
    assert enrolled.registry.quarantined() == {"north": "MMF-436"}


@pytest.mark.parametrize("past", ["", NEXT, HEAD[:-1], "é"])
def test_a_ledger_that_grew_over_another_past_means_quarantine_at_once(enrolled: Enrolled, past: str) -> None:
    enrolled.seals("north", enrolled.answer(2, HEAD))
    assert enrolled.seals.ledger_known("north") == 2
    assert code_of(enrolled, "north", enrolled.answer(3, NEXT, **{m.LEDGER_PAST: past})) == "MMF-441"
    assert enrolled.registry.quarantined() == {"north": "MMF-441"}
    assert enrolled.registry.get("north").ledger_length == 2


def test_the_past_is_that_of_the_question(enrolled: Enrolled) -> None:
    """Another answer of the site may come between a question and its answer."""
    enrolled.seals("north", enrolled.answer(2, HEAD))
    enrolled.seals.ledger_known("north")
    enrolled.seals("north", enrolled.answer(3, NEXT))
    enrolled.seals("north", enrolled.answer(4, "c" * 64, **{m.LEDGER_PAST: HEAD}))
    assert enrolled.registry.get("north").ledger_length == 4


def test_nothing_is_known_of_a_strangers_ledger(enrolled: Enrolled) -> None:
    assert enrolled.seals.ledger_known("nobody") == 0
    assert enrolled.seals.ledger_known("north") == 0


@pytest.mark.parametrize(("length", "head"), [("1", HEAD), (1.0, HEAD), (0, HEAD), (1, "no hash"), (1, 7)])
def test_an_answer_without_a_ledger_head_is_refused(enrolled: Enrolled, length: object, head: object) -> None:
    assert code_of(enrolled, "north", enrolled.answer(length, head)) == "MMF-436"


def test_other_software_is_told(enrolled: Enrolled) -> None:
    enrolled.seals("north", enrolled.answer(**{m.SOFTWARE: "mmfed 0.0.1; flwr 1.41.0"}))
    ((site, differences),) = enrolled.software
    assert site == "north"
    assert any("0.0.1" in difference for difference in differences)
