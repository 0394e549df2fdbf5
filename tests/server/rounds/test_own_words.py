"""What a request carries for its site alone: what is known of its ledger, and why it was refused."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from flwr.app import Message
from tests.server.faulty_federation import run_streamed
from tests.simulations.small_federation import small_sites, small_study

from mmfed_common import messages as m
from mmfed_common.errors import NetworkError
from mmfed_common.study import Study

BAD = "site-1"
ENTRIES = {"site-0": 3, "site-1": 4, "site-2": 5, "site-3": 6}


def study() -> Study:
    """Three rounds with every exchange but early stopping."""
    return small_study(training={"validation_fraction": 0.3})


def test_every_request_says_how_long_its_own_sites_ledger_was(tmp_path: Path) -> None:
    heard: dict[str, set[tuple[str, object]]] = defaultdict(set)

    def listen(site: str, request: Message, reply: Message) -> Message:
        known = request.content.config_records[m.CONFIG].get(m.LEDGER_KNOWN)
        heard[request.metadata.message_type].add((site, known))
        return reply

    sites = small_sites(study(), (20, 24, 30, 22))
    run_streamed(study(), sites, tmp_path, listen, ledger_known=ENTRIES.__getitem__)
    assert set(heard) >= {m.HELLO, m.MOMENTS, m.TRAIN, m.EVALUATE_HELD_OUT}
    assert all(told == set(ENTRIES.items()) for told in heard.values())


def test_without_ledgers_no_request_speaks_of_one(tmp_path: Path) -> None:
    keys: set[str] = set()

    def listen(site: str, request: Message, reply: Message) -> Message:
        keys.update(request.content.config_records[m.CONFIG], reply.content.config_records[m.ABOUT])
        return reply

    run_streamed(study(), small_sites(study(), (20, 24, 30, 22)), tmp_path, listen)
    assert keys
    assert not keys & {m.LEDGER_KNOWN, m.LEDGER_PAST, m.LEDGER_HEAD, m.LEDGER_LENGTH}


def test_a_site_in_quarantine_hears_why(tmp_path: Path) -> None:
    """It is asked nothing any more, and the last word tells it why."""
    heard: list[object] = []
    barred: dict[str, str] = {}

    def seals(site: str, answer: Message) -> None:
        if site == BAD and m.LOSS in answer.content.metric_records[m.METRICS]:
            barred[BAD] = "MMF-441"
            raise NetworkError("MMF-441", "entry 4 of its ledger is another one now", site)

    def listen(site: str, request: Message, reply: Message) -> Message:
        if site == BAD:
            heard.append(request.content.config_records[m.CONFIG].get(m.NOTICE))
        return reply

    sites = small_sites(study(), (20, 24, 30, 22))
    state = run_streamed(study(), sites, tmp_path, listen, seals=seals, quarantined=lambda: barred)
    assert state.sites[BAD].rounds == 0
    assert heard[-1] == "MMF-441"
    assert heard.count("MMF-441") == 1
    assert state.sites[BAD].last_refusal.startswith("MMF-441")
