"""The protocol with both sides' real code: exact sums whoever drops out, and nothing below the threshold."""

from __future__ import annotations

import copy
import secrets
from collections.abc import Callable

import numpy as np
import pytest
from tests.client.privacy.private_sites import private_site
from tests.client.privacy.shared_sites import EVERYTHING, ONE_STEP, numbers, shared_study
from tests.server.masking.protocol import (
    Dropouts,
    Transcript,
    enrolled,
    new_session,
    run_protocol,
    site_names,
)

from mmfed_client.masking.session import MaskingSession
from mmfed_common.errors import NetworkError, PrivacyError
from mmfed_common.masking.keys import adds_mask, agree, mask_seed
from mmfed_common.masking.shamir import SHARE_BYTES
from mmfed_common.masking.stream import LEAST_SHARED, Mask, Vector, add_masks
from mmfed_common.study import Aggregation
from mmfed_server.masking.parties import Parties, tags_for

PHASES = ("shares", "update", "agree", "open")


def vectors_of(count: int, size: int = 50, seed: int = 0) -> dict[str, Vector]:
    draw = np.random.default_rng(seed)
    return {name: draw.integers(-(2**40), 2**40, size) for name in site_names(count)}


def summed(vectors: dict[str, Vector], names: set[str]) -> Vector:
    return np.sum([vectors[name] for name in names], axis=0)


@pytest.mark.parametrize("count", [3, 5, 20, 50])
@pytest.mark.parametrize(("rate", "phase"), [(0.0, "shares"), *((0.3, phase) for phase in PHASES)])
def test_the_sum_is_exact_whoever_drops_out(count: int, rate: float, phase: str) -> None:
    vectors = vectors_of(count, seed=count)
    lost = set(np.random.default_rng(count).choice(sorted(vectors), round(rate * count), replace=False))
    seen = run_protocol(vectors, 0.6, Dropouts(**{phase: lost}))
    stayed = set(vectors) - lost if phase in ("shares", "update") else set(vectors)
    assert np.array_equal(seen.opened, summed(vectors, stayed))


def test_the_sum_is_exact_when_sites_drop_out_in_every_phase() -> None:
    vectors = vectors_of(20, seed=5)
    names = sorted(vectors)
    gone = Dropouts(names[:2], names[2:4], names[4:6], names[6:8])
    seen = run_protocol(vectors, 0.6, gone)
    assert np.array_equal(seen.opened, summed(vectors, set(names[4:])))


def without_enough(phase: str, count: int = 10) -> Dropouts:
    return Dropouts(**{phase: site_names(count)[:5]})


@pytest.mark.parametrize("phase", PHASES)
def test_below_the_threshold_nothing_opens(phase: str) -> None:
    """Ten sites, six must be left, five are: the sites refuse, or the shares are too few."""
    with pytest.raises((PrivacyError, NetworkError)) as caught:
        run_protocol(vectors_of(10), 0.6, without_enough(phase))
    assert caught.value.code in ("MMF-388", "MMF-390")


def test_shares_below_the_threshold_do_not_give_a_mask() -> None:
    """The server that ignores every rule of its own: with t - 1 shares of a seed it has nothing."""
    seen = run_protocol(vectors_of(10), 0.6)
    kept = dict(list(seen.parties.shares.items())[: seen.parties.threshold - 1])
    seen.parties.shares = kept
    with pytest.raises(NetworkError) as caught:
        seen.parties.unmask(np.zeros(50, np.int64))
    assert caught.value.code == "MMF-390"


def test_wrong_shares_are_found_and_named_and_the_sum_is_right_all_the_same() -> None:
    vectors = vectors_of(7)
    seen = run_protocol(vectors, 0.6)
    liar = sorted(seen.parties.shares)[0]
    seen.parties.shares[liar] = [secrets.token_bytes(SHARE_BYTES) for _ in seen.parties.senders]
    total = np.sum(list(seen.masked.values()), axis=0)
    assert seen.parties.unmask(total) == {liar: set(vectors)}
    assert np.array_equal(total, summed(vectors, set(vectors)))


def test_a_liar_among_twenty_does_not_close_the_sum() -> None:
    """Sets of shares are not tried in their order: the first would all hold the liar's."""
    vectors = vectors_of(20)
    seen = run_protocol(vectors, 0.67)
    liar = sorted(vectors)[0]
    seen.parties.shares[liar] = [secrets.token_bytes(SHARE_BYTES) for _ in seen.parties.senders]
    total = np.sum(list(seen.masked.values()), axis=0)
    assert seen.parties.unmask(total) == {liar: set(vectors)}
    assert np.array_equal(total, summed(vectors, set(vectors)))


def test_long_vectors_are_masked_by_several_threads_and_come_out_exact() -> None:
    vectors = vectors_of(5, LEAST_SHARED + 7)
    seen = run_protocol(vectors, 0.6, Dropouts(update=["site-4"]))
    assert np.array_equal(seen.opened, summed(vectors, set(vectors) - {"site-4"}))


def test_a_site_whose_shares_nobody_can_open_is_named() -> None:
    vectors = vectors_of(5)
    seen = run_protocol(vectors, 0.6)
    place = seen.parties.senders.index("site-3")
    for shares in seen.parties.shares.values():
        shares[place] = b""
    with pytest.raises(NetworkError) as caught:
        seen.parties.unmask(np.zeros(50, np.int64))
    assert (caught.value.code, caught.value.where) == ("MMF-390", "site-3")


def mask_less(seen: Transcript, name: str) -> Vector:
    """What the server can compute of one site's vector from all it saw: every opened seed taken off."""
    vector = seen.masked[name].copy()
    faults: dict[str, set[str]] = {}
    add_masks(vector, [Mask(seen.parties._secret(name, faults), negative=True)])
    for other in seen.parties.gone:
        secret = seen.parties._secret(other, faults)
        seed = mask_seed(seen.parties.masked, *agree(secret, [seen.parties.peers[name].masking]), other, name)
        add_masks(vector, [Mask(seed, negative=adds_mask(name, other))])
    return vector


def moved(vectors: dict[str, Vector]) -> dict[str, Vector]:
    """Other updates with the same sum: what one site has more, another has less."""
    change = np.full(50, 2**39, np.int64)
    return {**vectors, "site-1": vectors["site-1"] + change, "site-2": vectors["site-2"] - change}


def noisy_shares() -> dict[str, Vector]:
    """What five sites mask where they share the noise of their sum; its first numbers."""
    study = shared_study(training={**ONE_STEP, "stages": EVERYTHING})
    return {name: numbers(private_site(study, 40, name), 2.0, 2)[:50] for name in site_names(5)}


@pytest.mark.parametrize("made", [lambda: vectors_of(5), noisy_shares], ids=["updates", "noisy shares"])
def test_the_server_cannot_tell_two_runs_apart_that_have_the_same_sum(
    made: Callable[[], dict[str, Vector]],
) -> None:
    """Everything it saw, with every seed that was opened taken off: uniform in both runs, and alike.

    The other records (keys, sealed shares, tags, shares) are made before or without the updates.
    """
    vectors = made()
    runs = (vectors, moved(vectors))
    views: list[list[Vector]] = [[], []]
    for which, told in enumerate(runs):
        for _ in range(60):
            seen = run_protocol(told, 0.6, Dropouts(update=["site-4"]))
            assert np.array_equal(seen.opened, summed(vectors, set(vectors) - {"site-4"}))
            views[which].append(np.stack([mask_less(seen, f"site-{number}") for number in range(4)]))
    for which in (0, 1):
        seen_numbers = np.stack(views[which]).view(np.uint64)  # runs × sites × size
        for site in range(4):
            counts, _ = np.histogram((seen_numbers[:, site] >> 60).astype(int), bins=16, range=(0, 16))
            expected = counts.sum() / 16
            assert ((counts - expected) ** 2 / expected).sum() < 80  # χ², 15 degrees: p < 1e-10
        bits = np.unpackbits(seen_numbers.view(np.uint8))
        assert abs(bits.mean() - 0.5) < 7 * 0.5 / np.sqrt(bits.size)
    one, two = (np.stack(v).view(np.uint64).reshape(-1, 50) for v in views)
    first, second = np.sort(one.ravel()), np.sort(two.ravel())
    largest = np.abs(np.searchsorted(first, second) / first.size - np.arange(second.size) / second.size).max()
    assert largest < 3.3 * np.sqrt(2 / first.size)  # Kolmogorov–Smirnov, p about 1e-9


def test_all_else_that_the_server_sees_is_the_same_to_the_bit_whatever_the_updates() -> None:
    """The same secrets with two sets of updates: tags and shares, all that comes after them, are equal."""
    vectors = vectors_of(5)
    session, rule = new_session(), Aggregation(secure=True, secure_threshold=0.6)
    sites = {name: MaskingSession(session, name, enrolled(name), rule) for name in vectors}
    parties = Parties.of(session, [site.own for site in sites.values()], 0.6)
    listed, names = list(parties.peers.values()), sorted(vectors)
    parties.sealed = {name: site.share(listed, parties.threshold) for name, site in sites.items()}
    alive, seen = names[:4], []
    for told in (vectors, moved(vectors)):
        copies = copy.deepcopy(sites)
        masked = {name: vector.copy() for name, vector in told.items()}
        for name in names:
            copies[name].mask(names, parties.sealed_for(name), masked[name])
        tags = {name: copies[name].agree(alive, names[4:]) for name in alive}
        shares = {name: copies[name].open(alive, tags_for(name, alive, tags)) for name in alive}
        seen.append((masked, tags, shares))
    (first, *one), (second, *two) = seen
    assert one == two
    assert not np.array_equal(first["site-1"], second["site-1"])
    assert np.array_equal(summed(first, set(alive)), summed(second, set(alive)))


def test_that_test_can_fail() -> None:
    """With the masking keys of all its peers known as well, the same steps give a site's very update."""
    vectors = vectors_of(5)
    seen = run_protocol(vectors, 0.6, Dropouts(update=["site-4"]))
    vector = mask_less(seen, "site-0")
    for other in ("site-1", "site-2", "site-3"):
        assert not np.array_equal(vector, vectors["site-0"])
        public = seen.parties.peers["site-0"].masking
        seed = mask_seed(seen.parties.masked, *agree(seen.masking_keys[other], [public]), other, "site-0")
        add_masks(vector, [Mask(seed, negative=adds_mask("site-0", other))])
    assert np.array_equal(vector, vectors["site-0"])
