"""Shamir's secret sharing (1979) of 32-byte secrets over a prime field.

The points of a polynomial are 1, 2, … in the order of the peers; fewer than ``threshold`` shares say nothing
about the secret, whatever computer looks at them.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from math import comb

PRIME = 2**256 + 297
"""The smallest prime above all 32-byte secrets."""
SECRET_BYTES = 32
SHARE_BYTES = 33
MOST_TRIALS = 500
"""How many sets of shares are tried when some of them are wrong."""


@dataclass(frozen=True)
class Recovered:
    """A secret, and the points whose shares were found not to belong to it."""

    secret: bytes
    wrong: tuple[int, ...] = ()


def split(secret: bytes, threshold: int, count: int) -> list[bytes]:
    """Share a secret.

    Parameters
    ----------
    secret
        32 bytes.
    threshold
        How many shares give it back.
    count
        How many shares to make.

    Returns
    -------
    shares
        Share ``i`` is that of point ``i + 1``; 33 bytes each.

    Raises
    ------
    ValueError
        When the secret has another length, or ``threshold`` is not within 1 … ``count``.
    """
    if len(secret) != SECRET_BYTES or not 1 <= threshold <= count:
        raise ValueError("a secret of 32 bytes and a threshold within 1 … count are needed")
    coefficients = [int.from_bytes(secret), *(secrets.randbelow(PRIME) for _ in range(threshold - 1))]
    return [_value(coefficients, point).to_bytes(SHARE_BYTES) for point in range(1, count + 1)]


def combine(shares: Mapping[int, bytes]) -> bytes | None:
    """Give back the secret of exactly as many shares as the threshold; point → share.

    Returns
    -------
    None when the shares belong to no 32-byte secret.
    """
    points = tuple(sorted(shares))
    value = _interpolated(points, [shares[point] for point in points], 0)
    return value.to_bytes(SECRET_BYTES) if value.bit_length() <= 8 * SECRET_BYTES else None


def recover(
    shares: Mapping[int, bytes],
    threshold: int,
    is_secret: Callable[[bytes], bool],
    distrusted: Collection[int] = (),
) -> Recovered | None:
    """Give back a secret although some shares may be wrong, and find which ones are.

    Parameters
    ----------
    shares
        Point → share; those of another length count as wrong.
    is_secret
        Tells the secret from anything else.
    distrusted
        Points that gave wrong shares of other secrets: asked last, and always looked at.

    Returns
    -------
    None when too few shares are there, or no set that was tried gives the secret.
    """
    usable = {point: share for point, share in shares.items() if len(share) == SHARE_BYTES}
    order = sorted(usable, key=lambda point: (point in distrusted, point))
    for trial, chosen in enumerate(_sets(order, threshold)):
        secret = combine({point: usable[point] for point in chosen})
        if secret is None or not is_secret(secret):
            continue
        good = [usable[point] for point in chosen]
        wrong = set(shares) - set(usable)
        doubtful = usable if trial else usable.keys() & set(distrusted)
        wrong |= {p for p in doubtful if _interpolated(chosen, good, p) != int.from_bytes(usable[p])}
        return Recovered(secret, tuple(sorted(wrong)))
    return None


def _sets(points: Sequence[int], threshold: int) -> Iterator[tuple[int, ...]]:
    """Sets of points to try: all of them where they are few, else the first and then some by chance.

    Not the first few hundred in their order: those have the first point in common, and it may be wrong.
    """
    if comb(len(points), threshold) <= MOST_TRIALS:
        yield from combinations(points, threshold)
        return
    yield tuple(points[:threshold])
    draw = random.Random(0)  # which sets are tried is no secret
    for _ in range(MOST_TRIALS - 1):
        yield tuple(draw.sample(points, threshold))


def _value(coefficients: Sequence[int], point: int) -> int:
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * point + coefficient) % PRIME
    return value


def _interpolated(points: tuple[int, ...], shares: Sequence[bytes], at: int) -> int:
    weights = _weights(points, at)
    terms = (int.from_bytes(share) * weight for share, weight in zip(shares, weights, strict=True))
    return sum(terms) % PRIME


@lru_cache(maxsize=1024)
def _weights(points: tuple[int, ...], at: int) -> tuple[int, ...]:
    """Lagrange's weights of some points for the polynomial's value at another."""
    weights = []
    for own in points:
        over, under = 1, 1
        for other in points:
            if other != own:
                over = over * (at - other) % PRIME
                under = under * (own - other) % PRIME
        weights.append(over * pow(under, -1, PRIME) % PRIME)
    return tuple(weights)
