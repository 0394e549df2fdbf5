"""What a site refuses in a masked round: everything by which a coordinator could open a single update."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from tests.server.masking.protocol import STUDY, enrolled, new_session

from mmfed_client.masking.session import MaskingSession
from mmfed_common.errors import PrivacyError
from mmfed_common.masking.keys import PeerKeys, Session, adds_mask, agree, mask_seed, set_digest
from mmfed_common.masking.shamir import SHARE_BYTES
from mmfed_common.masking.stream import Mask, add_masks
from mmfed_common.signing import SiteKey
from mmfed_common.study import Aggregation

NAMES = ("a", "b", "c", "d", "e")
RULE = Aggregation(secure=True, secure_threshold=0.6, minimum_sites=3)


class Round:
    """Five sites; the tests play the server against the first."""

    def __init__(self, rule: Aggregation = RULE) -> None:
        self.session = new_session()
        self.sites = {name: MaskingSession(self.session, name, enrolled(name), rule) for name in NAMES}
        self.me = self.sites["a"]
        self.peers = [site.own for site in self.sites.values()]
        self.sealed: dict[str, list[bytes]] = {}

    def share(self) -> None:
        self.sealed = {name: site.share(self.peers, 3) for name, site in self.sites.items()}

    def for_site(self, name: str) -> list[bytes]:
        return [sealed[NAMES.index(name)] for sealed in self.sealed.values()]

    def mask(self) -> None:
        for name, site in self.sites.items():
            site.mask(NAMES, self.for_site(name), np.zeros(4, np.int64))

    def agree(self, alive: tuple[str, ...] = NAMES) -> dict[str, list[bytes]]:
        gone = sorted(set(NAMES) - set(alive))
        return {name: self.sites[name].agree(alive, gone) for name in alive}

    def tags_for(self, name: str, tags: dict[str, list[bytes]]) -> list[bytes]:
        return [given[list(tags).index(name)] for given in tags.values()]


def refused(work: Callable[[], object]) -> str:
    with pytest.raises(PrivacyError) as caught:
        work()
    return caught.value.code


@pytest.mark.parametrize("threshold", [0, 2, 6])
def test_a_threshold_of_half_or_less_or_too_high_is_refused(threshold: int) -> None:
    there = Round()
    assert refused(lambda: there.me.share(there.peers, threshold)) == "MMF-380"


def test_a_threshold_below_the_studys_is_refused() -> None:
    there = Round(Aggregation(secure=True, secure_threshold=0.9, minimum_sites=3))
    assert refused(lambda: there.me.share(there.peers, 4)) == "MMF-380"
    assert len(Round(Aggregation(secure=True, secure_threshold=0.9)).me.own.signature) > 90


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_than_three_sites_are_refused(count: int) -> None:
    there = Round(Aggregation(secure=True, secure_threshold=0.6, minimum_sites=1))
    assert refused(lambda: there.me.share(there.peers[:count], count)) == "MMF-380"


@pytest.mark.parametrize("which", ["altered", "missing", "twice"])
def test_own_keys_altered_or_missing_are_refused(which: str) -> None:
    there = Round()
    other = MaskingSession(there.session, "a", enrolled("a"), RULE).own
    others = there.peers[1:]
    peers = {"altered": [other, *others], "missing": others, "twice": [*there.peers, there.peers[0]]}[which]
    assert refused(lambda: there.me.share(peers, 4)) == "MMF-384"


def forged(there: Round) -> dict[str, PeerKeys]:
    """Keys of site b as a coordinator could make them, without b's enrolled key."""
    real = there.peers[1]
    own = MaskingSession(there.session, "b", SiteKey.generate(), RULE).own
    old = MaskingSession(Session(STUDY, 1, "0" * 32), "b", enrolled("b"), RULE).own
    return {
        "other masking key": replace(real, masking=own.masking),
        "other sealing key": replace(real, sealing=own.sealing),
        "other commitment": replace(real, commitment=own.commitment),
        "unsigned": replace(real, signature=b""),
        "another attempt's": old,
        "another name's": replace(there.peers[2], site="b"),
        "stranger's keys under the enrolled key": replace(own, enrolled=real.enrolled),
        "no key at all": replace(real, enrolled="-----BEGIN"),
        "enrolled key in other words": replace(real, enrolled=real.enrolled + "\n"),
        "short": replace(real, masking=real.masking[:31]),
    }


@pytest.mark.parametrize("which", list(forged(Round())))
def test_keys_that_the_peer_did_not_sign_for_this_round_are_refused(which: str) -> None:
    there = Round()
    peers = [there.peers[0], forged(there)[which], *there.peers[2:]]
    assert refused(lambda: there.me.share(peers, 3)) == "MMF-385"


@pytest.mark.parametrize("what", ["site", "enrolled", "sealing", "masking", "commitment"])
def test_a_peer_that_is_there_twice_is_refused(what: str) -> None:
    """A coordinator that stands behind two names would have two shares."""
    there = Round()
    double = MaskingSession(there.session, "f", enrolled("f"), RULE)
    real = there.peers[1]
    if what == "site":
        double = MaskingSession(there.session, "b", enrolled("f"), RULE)
    elif what == "enrolled":
        double = MaskingSession(there.session, "f", enrolled("b"), RULE)
    else:
        keys = replace(double.own, **{what: getattr(real, what)})
        double.own = replace(keys, signature=enrolled("f").sign(keys.statement(there.session)))
    assert refused(lambda: there.me.share([*there.peers, double.own], 4)) == "MMF-385"


@pytest.mark.parametrize("what", ["sealing", "masking"])
def test_a_key_that_agrees_with_everybody_is_refused(what: str) -> None:
    there = Round()
    keys = replace(there.peers[1], **{what: bytes(32)})
    signed = replace(keys, signature=enrolled("b").sign(keys.statement(there.session)))
    assert refused(lambda: there.me.share([there.peers[0], signed, *there.peers[2:]], 3)) == "MMF-385"


@pytest.mark.parametrize(
    "senders",
    [("a", "b"), ("b", "c", "d"), ("a", "b", "x"), ("a", "b", "b", "c"), (), ("a", "b", "c", "d", "e", "f")],
)
def test_masks_with_other_sites_than_those_of_the_round_are_refused(senders: tuple[str, ...]) -> None:
    there = Round()
    there.share()
    sealed = [b""] * len(senders)
    assert refused(lambda: there.me.mask(senders, sealed, np.zeros(4, np.int64))) == "MMF-388"


@pytest.mark.parametrize(
    ("alive", "gone"),
    [
        (("a", "b", "c"), ("c", "d", "e")),  # both kinds of share of c
        (("a", "b", "c"), ("d",)),  # e is neither
        (("a", "b", "c", "d", "e"), ("f",)),
        (("a", "b"), ("c", "d", "e")),  # below the threshold
        (("a",), ("b", "c", "d", "e")),  # the site alone: its update
        (("b", "c", "d"), ("a", "e")),  # without the site itself: its masking key
        (("a", "b", "c", "c"), ("d", "e")),
        ((), ()),
    ],
)
def test_another_sum_than_that_of_the_senders_is_refused(
    alive: tuple[str, ...], gone: tuple[str, ...]
) -> None:
    there = Round()
    there.share()
    there.mask()
    assert refused(lambda: there.me.agree(alive, gone)) == "MMF-388"


def test_a_sum_that_too_few_peers_agree_to_stays_closed() -> None:
    """The coordinator tells a and b one thing and the others another: neither half reaches three."""
    there = Round()
    there.share()
    there.mask()
    first = {name: there.sites[name].agree(("a", "b", "c", "d"), ("e",)) for name in ("a", "b")}
    second = {name: there.sites[name].agree(("a", "c", "d", "e"), ("b",)) for name in ("c", "d")}
    told = {"a": first["a"][0], "b": first["b"][0], "c": second["c"][0], "d": second["d"][0]}
    assert refused(lambda: there.me.open(list(told), list(told.values()))) == "MMF-388"


def test_a_coordinator_cannot_make_the_peers_agreement_itself() -> None:
    there = Round()
    there.share()
    there.mask()
    there.agree()
    forged_tags = [secrets.token_bytes(32) for _ in NAMES]
    assert refused(lambda: there.me.open(NAMES, forged_tags)) == "MMF-388"


def test_agreements_are_for_one_reader_only() -> None:
    there = Round()
    there.share()
    there.mask()
    tags = there.agree()
    assert refused(lambda: there.me.open(NAMES, there.tags_for("b", tags))) == "MMF-388"


def test_every_step_is_taken_once_and_in_order() -> None:
    there = Round()
    assert refused(lambda: there.me.mask(NAMES, [b""] * 5, np.zeros(4, np.int64))) == "MMF-387"
    there.share()
    assert refused(lambda: there.me.share(there.peers, 3)) == "MMF-387"
    assert refused(lambda: there.me.agree(NAMES, ())) == "MMF-387"
    there.mask()
    assert refused(lambda: there.me.mask(NAMES, [b""] * 5, np.zeros(4, np.int64))) == "MMF-387"
    tags = there.agree()
    assert refused(lambda: there.me.agree(NAMES, ())) == "MMF-387"
    assert there.me.open(NAMES, there.tags_for("a", tags))
    assert refused(lambda: there.me.open(NAMES, there.tags_for("a", tags))) == "MMF-387"


def test_of_each_peer_one_share_is_given_that_of_its_seed_or_that_of_its_key() -> None:
    there = Round()
    there.share()
    shares = dict(there.sites["a"]._shares)
    there.mask()
    shares = dict(there.sites["a"]._shares)
    alive = ("a", "b", "c", "d")
    tags = there.agree(alive)
    given = there.me.open(list(tags), there.tags_for("a", tags))
    for name, share in zip(NAMES, given, strict=True):
        seed, key = shares[name][:SHARE_BYTES], shares[name][SHARE_BYTES:]
        assert share == (seed if name in alive else key)
    assert there.me._shares == {}


@pytest.mark.parametrize("step", ["shares", "agree", "open"])
def test_a_session_that_ends_in_a_refusal_keeps_no_secret(step: str) -> None:
    there = Round()
    if step == "shares":
        assert refused(lambda: there.me.share(there.peers[:3], 1)) == "MMF-380"
    else:
        there.share()
        there.mask()
        if step == "agree":
            assert refused(lambda: there.me.agree(NAMES[1:], NAMES[:1])) == "MMF-388"
        else:
            tags = there.agree()
            assert refused(lambda: there.me.open(NAMES[:1], there.tags_for("a", tags)[:1])) == "MMF-388"
    assert there.me._shares == {}
    assert there.me._agreed == {}
    assert {there.me._seed, there.me._sealing, there.me._masking} == {bytes(32)}


def test_a_message_out_of_turn_ends_nothing() -> None:
    there = Round()
    assert refused(lambda: there.me.open((), ())) == "MMF-387"
    there.share()
    assert refused(lambda: there.me.share(there.peers, 3)) == "MMF-387"
    there.mask()
    tags = there.agree()
    assert all(there.me.open(NAMES, there.tags_for("a", tags)))


def test_shares_that_were_changed_on_their_way_are_not_given() -> None:
    there = Round()
    there.share()
    sealed = there.for_site("a")
    sealed[1] = sealed[1][:-1] + bytes([sealed[1][-1] ^ 1])
    sealed[2] = there.for_site("b")[2]
    there.me.mask(NAMES, sealed, np.zeros(4, np.int64))
    assert set(there.me._shares) == {"a", "d", "e"}


def test_sites_that_are_told_different_thresholds_open_nothing_for_each_other() -> None:
    """Else the coordinator could have a small group open what a large one believes to be its sum."""
    there = Round()
    thresholds = {"a": 3, "b": 3, "c": 3, "d": 4, "e": 4}
    there.sealed = {name: site.share(there.peers, thresholds[name]) for name, site in there.sites.items()}
    there.mask()
    assert set(there.me._shares) == {"a", "b", "c"}
    tags = there.agree()
    for reader in NAMES:
        site, told = there.sites[reader], there.tags_for(reader, tags)
        if thresholds[reader] == 3:
            given = dict(zip(NAMES, site.open(NAMES, told), strict=True))  # a, b and c agree: three do
            assert [name for name in NAMES if given[name]] == ["a", "b", "c"]
        else:
            assert refused(lambda site=site, told=told: site.open(NAMES, told)) == "MMF-388"  # type: ignore[misc]


@pytest.mark.parametrize("alike", [True, False])
def test_masks_of_sites_that_are_told_of_different_senders_do_not_cancel(alike: bool) -> None:
    """Else a site's numbers could be in a sum with fewer others than it was told."""
    there = Round()
    there.share()
    told = {"a": NAMES[:4], "b": NAMES[:4] if alike else NAMES}
    vectors = {name: np.zeros(4, np.int64) for name in told}
    for name, senders in told.items():
        seed = there.sites[name]._seed
        there.sites[name].mask(senders, there.for_site(name)[: len(senders)], vectors[name])
        add_masks(vectors[name], [Mask(seed, negative=True)])
        for other in senders:
            if other not in told:  # the masks with those who dropped out come off, whoever they are
                masked = there.sites[name]._seen.seen_alike(set_digest(senders))
                public, secret = there.sites[name].own.masking, there.sites[other]._masking
                seed = mask_seed(masked, *agree(secret, [public]), other, name)
                add_masks(vectors[name], [Mask(seed, negative=adds_mask(name, other))])
    assert (vectors["a"] + vectors["b"]).any() != alike
