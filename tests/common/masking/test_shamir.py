"""Shares: enough of them give the secret back, fewer say nothing, wrong ones are found."""

from __future__ import annotations

import secrets
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmfed_common.masking.shamir import PRIME, SHARE_BYTES, combine, recover, split


@given(st.binary(min_size=32, max_size=32), st.integers(1, 8), st.integers(0, 6), st.randoms())
@settings(max_examples=60, deadline=None)
def test_any_threshold_of_shares_gives_the_secret(
    secret: bytes, threshold: int, more: int, draw: object
) -> None:
    shares = dict(enumerate(split(secret, threshold, threshold + more), start=1))
    chosen = draw.sample(sorted(shares), threshold)  # type: ignore[attr-defined]
    assert combine({point: shares[point] for point in chosen}) == secret


def test_the_modulus_is_the_smallest_prime_above_all_secrets() -> None:
    assert 2**256 - 1 < PRIME < 2 ** (8 * SHARE_BYTES)
    assert all(pow(base, PRIME - 1, PRIME) == 1 for base in (2, 3, 5, 7, 11, 13))
    assert not any(pow(3, n - 1, n) == 1 for n in range(2**256 + 1, PRIME, 2))


def test_fewer_shares_fit_every_secret_equally_well() -> None:
    """For two shares of a threshold of three, any secret has exactly one polynomial through them."""
    shares = split(bytes(32), 3, 5)
    for other in (1, 2**200, PRIME - 1):
        x1, y1, x2, y2 = 1, int.from_bytes(shares[0]), 2, int.from_bytes(shares[1])
        # a + b·x + c·x² through (0, other), (x1, y1), (x2, y2) exists and is unique: solve for b and c.
        r1, r2 = (y1 - other) % PRIME, (y2 - other) % PRIME
        det = (x1 * x2 * x2 - x2 * x1 * x1) % PRIME
        inverse = pow(det, -1, PRIME)
        b, c = (r1 * x2 * x2 - r2 * x1 * x1) * inverse % PRIME, (x1 * r2 - x2 * r1) * inverse % PRIME
        assert (other + b * x1 + c * x1 * x1) % PRIME == y1
        assert (other + b * x2 + c * x2 * x2) % PRIME == y2


def test_the_first_byte_of_a_share_is_spread_evenly_whatever_the_secret() -> None:
    for secret in (bytes(32), b"\xff" * 32):
        high = [split(secret, 2, 2)[0][1] >= 128 for _ in range(2000)]
        assert 850 < sum(high) < 1150  # 6.7 deviations either way


@pytest.mark.parametrize("wrong", list(combinations(range(1, 8), 2)))
def test_two_wrong_shares_of_seven_are_found(wrong: tuple[int, int]) -> None:
    secret = secrets.token_bytes(32)
    shares = dict(enumerate(split(secret, 4, 7), start=1))
    for point in wrong:
        shares[point] = secrets.token_bytes(SHARE_BYTES)
    found = recover(shares, 4, lambda s: s == secret)
    assert found is not None
    assert found.secret == secret
    first_four_are_right = all(point > 4 for point in wrong)
    assert found.wrong == (() if first_four_are_right else wrong)


def test_a_share_of_another_length_is_wrong_and_too_few_give_nothing() -> None:
    secret = secrets.token_bytes(32)
    shares = dict(enumerate(split(secret, 3, 4), start=1))
    found = recover({**shares, 1: b"short"}, 3, lambda s: s == secret)
    assert found is not None
    assert (found.secret, found.wrong) == (secret, (1,))
    assert recover({1: shares[1], 2: shares[2]}, 3, lambda s: True) is None
    assert recover({**shares, 1: b"", 2: b""}, 3, lambda s: True) is None


@pytest.mark.parametrize(("length", "threshold", "count"), [(31, 2, 3), (32, 0, 3), (32, 4, 3)])
def test_what_cannot_be_shared_is_an_error(length: int, threshold: int, count: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        split(bytes(length), threshold, count)
