"""A site's real ledger and gate before the coordinator's real registry: a past that was changed shows."""

from __future__ import annotations

from pathlib import Path

import pytest
from flwr.app import Message
from tests.client.small_home import SmallHome, context, local_site, question
from tests.simulations.small_federation import small_study

from mmfed_client.ledger import Ledger
from mmfed_client.training import LocalSite
from mmfed_common import messages as m
from mmfed_common.errors import NetworkError, PrivacyError
from mmfed_common.portal_protocol import join_proof, secret_verifier
from mmfed_server.coordinator.seals import EnrolledSeals
from mmfed_server.database import open_database
from mmfed_server.federation import SiteRegistry

STUDY = small_study()
NAME = "site-0"


class Pair:
    """One site and the coordinator's view of it."""

    def __init__(self, folder: Path, data: LocalSite) -> None:
        self.site, self.data = SmallHome.make(folder), data
        self.site.approve(STUDY)
        self.registry = SiteRegistry(open_database(f"sqlite:///{folder / 'sites.sqlite'}"))
        proof = join_proof(secret_verifier(self.registry.invite(NAME).secret), b"transcript")
        self.registry.enrol(NAME, b"transcript", proof, self.site.key.public)
        self.seals = EnrolledSeals(self.registry, lambda site, found: None)

    def answer(self) -> Message:
        """Ask who is there, as the desk does."""
        asked = question(m.HELLO, STUDY.hash, 0)
        asked.content.config_records[m.CONFIG][m.LEDGER_KNOWN] = self.seals.ledger_known(NAME)
        answer = self.site.app(self.data)(asked, context())
        assert answer.has_content(), answer.error.reason
        return answer

    def exchange(self) -> None:
        """Ask and check."""
        self.seals(NAME, self.answer())

    def rewrite(self, entries: int) -> None:
        """Begin a ledger anew, whole in itself, with so many entries."""
        self.site.home.ledger_file.unlink()
        self.site.ledger = Ledger(self.site.home.ledger_file)
        self.site.approve(STUDY, "Eve")
        while self.site.ledger.head.length < entries:
            self.site.ledger.append("note", {"filler": self.site.ledger.head.length})
        assert self.site.ledger.verify() == []


@pytest.fixture(scope="module")
def data() -> LocalSite:
    return local_site(STUDY)


@pytest.fixture
def pair(tmp_path: Path, data: LocalSite) -> Pair:
    return Pair(tmp_path, data)


def test_a_ledger_that_only_grows_passes(pair: Pair) -> None:
    for _ in range(3):
        pair.exchange()
        pair.site.ledger.append("note", {})
    assert pair.registry.quarantined() == {}
    assert [head.length for head in pair.registry.ledger_heads(NAME)] == [1, 3, 5]


@pytest.mark.parametrize(
    ("entries", "code"), [(2, "MMF-436"), (3, "MMF-436"), (4, "MMF-441"), (40, "MMF-441")]
)
def test_a_rewritten_ledger_is_found_however_long_it_is(pair: Pair, entries: int, code: str) -> None:
    for _ in range(3):
        pair.exchange()
    pair.rewrite(entries)
    with pytest.raises(NetworkError) as caught:
        pair.exchange()
    assert caught.value.code == code
    assert caught.value.where == NAME
    assert pair.registry.quarantined() == {NAME: code}


def test_a_ledger_changed_in_its_place_lets_nothing_leave(pair: Pair) -> None:
    """The file is as long as before, and the running site has read all of it already."""
    pair.exchange()
    file = pair.site.home.ledger_file
    before, changed = file.stat().st_ctime_ns, file.read_bytes().replace(b'"Ada"', b'"Eve"')
    while file.stat().st_ctime_ns == before:
        file.write_bytes(changed)
    for _ in range(2):
        with pytest.raises(PrivacyError) as caught:
            pair.answer()
        assert caught.value.code == "MMF-310"
    file.write_bytes(changed.replace(b'"Eve"', b'"Ada"'))
    pair.exchange()


@pytest.mark.parametrize(("known", "shown"), [(0, "0" * 64), (1, None), (9, ""), (2**60, ""), (-1, "")])
def test_the_gate_shows_the_entry_that_is_asked_for(pair: Pair, known: int, shown: str | None) -> None:
    asked = question(m.HELLO, STUDY.hash, 0)
    asked.content.config_records[m.CONFIG][m.LEDGER_KNOWN] = known
    about = pair.site.app(pair.data)(asked, context()).content.config_records[m.ABOUT]
    first = next(iter(pair.site.ledger.entries())).hash
    assert about[m.LEDGER_PAST] == (first if shown is None else shown)


@pytest.mark.parametrize("known", [True, "1", 1.0, None])
def test_the_gate_shows_nothing_without_a_number(pair: Pair, known: object) -> None:
    asked = question(m.HELLO, STUDY.hash, 0)
    if known is not None:
        asked.content.config_records[m.CONFIG][m.LEDGER_KNOWN] = known  # type: ignore[assignment]
    about = pair.site.app(pair.data)(asked, context()).content.config_records[m.ABOUT]
    assert m.LEDGER_PAST not in about
