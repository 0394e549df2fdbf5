"""One site against a masked round: it is named where it can be, and the others' round is not lost."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, Message
from tests.server.faulty_federation import run
from tests.server.rounds.test_masked_round import SIZES, record_of, secure_study
from tests.simulations.small_federation import small_sites

from mmfed_common import messages as m
from mmfed_common.errors import NetworkError
from mmfed_common.masking import fields as f
from mmfed_common.masking.keys import PeerKeys, Session, new_secret, public_of
from mmfed_common.masking.shamir import SHARE_BYTES
from mmfed_common.signing import SiteKey
from mmfed_common.study import Study
from mmfed_server.plan import RoundReport
from mmfed_server.record.state import RunState

LIAR = "site-1"
NOBODYS = bytes(32)
"""A public key with which every private one agrees on the same."""
KEYS = {name: SiteKey.generate() for name in ("false", "true")}


def same(one: RunState, two: RunState) -> bool:
    return all(torch.equal(one.weights[name], two.weights[name]) for name in one.weights)


def shown(study: Study, request: Message, key: SiteKey, **parts: bytes) -> dict[str, list[Any]]:
    """The keys that a site may show in answer to a request, rightly signed by whatever key it has."""
    config = request.content.config_records
    token = str(config[m.MASKING][f.SESSION])
    session = Session(study.hash, int(config[m.CONFIG][m.ROUND]), token)  # type: ignore[arg-type]
    made = {name: public_of(new_secret()) for name in ("sealing", "masking")}
    keys = PeerKeys(
        LIAR, key.public.pem().decode(), **{**made, "commitment": secrets.token_bytes(32), **parts}
    )
    signed = PeerKeys(**{**vars(keys), "signature": key.sign(keys.statement(session))})
    return dict(f.write_peers([signed]))


@pytest.mark.parametrize("what", ["sealing", "masking", "copied commitment", "another key than enrolled"])
def test_keys_that_every_peer_would_refuse_are_refused_by_the_server_and_their_site_is_named(
    what: str, tmp_path: Path
) -> None:
    """Otherwise one site would stop every round, and the others would be told to have refused."""
    study = secure_study()
    enrolled: dict[str, bytes] = {LIAR: KEYS["true"].public.pem()}
    seen: dict[str, bytes] = {}
    reports: list[RoundReport] = []

    def spoil(site: str, request: Message, reply: Message) -> Message:
        if request.metadata.message_type != m.MASK_KEYS:
            return reply
        record = reply.content.config_records[m.MASKING]
        if site != LIAR:
            enrolled[site] = str(record[f.SITE_KEYS][0]).encode()  # type: ignore[index]
            seen["commitment"] = record[f.COMMITMENTS][0]  # type: ignore[index, assignment]
            return reply
        key = KEYS["false" if what == "another key than enrolled" else "true"]
        parts = {"sealing": {"sealing": NOBODYS}, "masking": {"masking": NOBODYS}}
        parts["copied commitment"] = {"commitment": seen["commitment"]}
        return record_of(reply, **shown(study, request, key, **parts.get(what, {})))

    told: list[tuple[str, str]] = []
    run(
        study,
        small_sites(study, SIZES),
        tmp_path / "run",
        spoil,
        progress=reports.append,
        keys_now=lambda: enrolled,
        on_refusal=lambda site, code, reason: told.append((site, code)),
    )
    assert [report.sites for report in reports] == [("site-0", "site-2", "site-3", "site-4")] * 3
    assert set(told) == {(LIAR, "MMF-385")}


def spoilt_once(study: Study, also: Callable[[Message], Message] | None = None) -> Callable[..., Message]:
    """Numbers under no masks from one site, once; afterwards everybody is honest."""
    left = iter([True])
    opening = iter([True])

    def spoil(site: str, request: Message, reply: Message) -> Message:
        kind = request.metadata.message_type
        if site == "site-3" and kind == m.TRAIN and next(left, False):
            size = reply.content.array_records[m.ARRAYS][f.MASKED].shape[0]
            noise = np.random.default_rng(1).integers(-(2**62), 2**62, size)
            reply.content[m.ARRAYS] = ArrayRecord({f.MASKED: Array(noise)})
        if site == "site-0" and kind == m.MASK_OPEN and also is not None and next(opening, False):
            return also(reply)
        return reply

    return spoil


def wrong_shares(reply: Message) -> Message:
    count = len(reply.content.config_records[m.MASKING][f.SHARES])  # type: ignore[arg-type]
    return record_of(reply, **{f.SHARES: [bytes(SHARE_BYTES)] * count})


@pytest.mark.parametrize("fraction", [1.0, 0.75])
@pytest.mark.parametrize("also", [None, wrong_shares], ids=["numbers", "numbers and shares"])
def test_a_sum_that_is_of_no_use_is_asked_for_again_of_the_very_same_sites(
    fraction: float, also: Callable[[Message], Message] | None, tmp_path: Path
) -> None:
    """They open no other sum of this round; another draw of sites would be refused by all of them."""
    study = secure_study(fraction=fraction)
    sites = small_sites(study, (20, 24, 30, 26, 22, 21, 25, 28))
    bad = run(study, sites, tmp_path / "bad", spoilt_once(study, also))
    good = run(study, sites, tmp_path / "good")
    assert same(bad, good)
    assert [entry["sites"] for entry in bad.history] == [entry["sites"] for entry in good.history]


def test_after_an_opened_sum_no_round_is_trained_in_vain(tmp_path: Path) -> None:
    """The site that is needed for it is gone: the message says who, and nobody computes anything."""
    study = secure_study()
    sites = small_sites(study, SIZES)
    there = {site.name for site in sites}
    trained: list[str] = []
    once = spoilt_once(study)

    def spoil(site: str, request: Message, reply: Message) -> Message:
        if request.metadata.message_type == m.TRAIN:
            trained.append(site)
        if request.metadata.message_type == m.MASK_OPEN:
            there.discard("site-4")
        return once(site, request, reply)

    with pytest.raises(NetworkError) as caught:
        run(study, sites, tmp_path / "run", spoil, sites_now=lambda: sorted(there))
    assert caught.value.code == "MMF-403"
    assert "missing: site-4" in caught.value.what
    assert len(trained) == len(SIZES)


def test_one_wrong_share_is_no_proof_against_the_site_that_gives_it(tmp_path: Path) -> None:
    """Whoever sealed it may have sealed a wrong one."""
    study = secure_study()
    sites = small_sites(study, SIZES)
    reports: list[RoundReport] = []
    told: list[str] = []

    def spoil(site: str, request: Message, reply: Message) -> Message:
        if site == "site-0" and request.metadata.message_type == m.MASK_OPEN:
            shares = list(reply.content.config_records[m.MASKING][f.SHARES])  # type: ignore[arg-type]
            return record_of(reply, **{f.SHARES: [*shares[:-1], bytes(SHARE_BYTES)]})
        return reply

    state = run(
        study,
        sites,
        tmp_path / "bad",
        spoil,
        progress=reports.append,
        on_refusal=lambda *what: told.append(what[0]),
    )
    assert same(state, run(study, sites, tmp_path / "good"))
    assert all("dealt to it wrong" in report.refused["site-0"] for report in reports)
    assert all(len(report.sites) == len(SIZES) for report in reports)
    assert told == []
