"""Secret randomness and Gaussian noise on a lattice.

**Where randomness comes from.** Every draw is ChaCha20 keystream under a key that only the site can make:
HMAC-SHA256 of what the draw is for, with the site's secret. So what is repeated after a crash has the same
noise, and a coordinator, who knows all else, can predict none of it.

**Floating-point noise leaks** (Mironov, "On significance of the least significant bits for differential
privacy", CCS 2012): of the numbers that a sum of floats can give, some are reached from one data set only.
Here the clipped sum is rounded to whole multiples of ``clipping · 2⁻³⁰`` first, the noise is rounded to
whole multiples of the same, and the two are added as integers. As a whole number ``k`` and a real ``N``
satisfy ``k + round(N) = round(k + N)``, the result is what comes of rounding the ideal Gaussian mechanism: no
value betrays by its last bits. Rounding the sum lengthens one patient's part by at most
``clipping · 2⁻³⁰ · √parameters``, for which clipping leaves room (see ``gradients.MARGIN``). What is left is
that the normal deviates come of 64-bit uniforms: their distance from ideal ones is below 2⁻⁵⁰ for each, and
none is longer than 9.4 deviations.
"""

from __future__ import annotations

import hmac
import math
from hashlib import sha256

import numpy as np
import numpy.typing as npt
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from torch import Tensor

LATTICE_BITS = 30
"""The lattice's step is ``clipping · 2⁻³⁰``."""

MOST_UNITS = 2.0**62
"""Beyond this, whole numbers of 64 bits would overflow."""

WORD = 2.0**64

LONGEST_DEVIATE = math.sqrt(2.0 * 64.0 * math.log(2.0))
"""No normal deviate is longer: they come of uniform numbers of 64 bits."""


class SecretStream:
    """A stream of random numbers that is a function of a secret key.

    Parameters
    ----------
    key
        32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        self._cipher = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor()

    @staticmethod
    def of(secret: bytes, *purpose: str | int | bytes) -> SecretStream:
        """Derive the stream of one purpose, e.g. ``(study hash, site, "step", round, step, inputs)``."""
        return SecretStream(keyed_digest(secret, *purpose))

    def words(self, count: int) -> npt.NDArray[np.uint64]:
        """Give ``(count,)`` independent uniform whole numbers of 64 bits."""
        return np.frombuffer(self._cipher.update(bytes(8 * count)), dtype="<u8")

    def seed(self) -> int:
        """Give a seed of 63 bits, for what draws by torch's generators: dropout."""
        return int(self.words(1)[0]) >> 1

    def chosen(self, count: int, rate: float) -> npt.NDArray[np.bool_]:
        """Draw ``(count,)`` independent yes or no, yes with probability ``rate``: Poisson sampling."""
        words = self.words(count)
        if rate >= 1.0:
            return np.ones(count, dtype=np.bool_)
        return words < np.uint64(int(rate * WORD))

    def normal(self, count: int) -> npt.NDArray[np.float64]:
        """Draw ``(count,)`` standard normal deviates by Box and Muller's formula."""
        half = (count + 1) // 2
        words = self.words(2 * half)
        radius = np.sqrt(-2.0 * np.log((words[:half].astype(np.float64) + 1.0) / WORD))
        angle = words[half:].astype(np.float64) * (2.0 * np.pi / WORD)
        return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]


def keyed_digest(secret: bytes, *parts: str | int | bytes) -> bytes:
    """HMAC-SHA256 over parts, each with its length before it, so that no two lists of parts are alike."""
    mac = hmac.new(secret, digestmod=sha256)
    for part in parts:
        content = part if isinstance(part, bytes) else str(part).encode()
        mac.update(len(content).to_bytes(8, "big") + content)
    return mac.digest()


def noised(total: Tensor, sensitivity: float, sigma: float, stream: SecretStream) -> Tensor:
    """Add Gaussian noise of deviation ``sigma · sensitivity`` to each number of a sum, on the lattice.

    Parameters
    ----------
    total
        ``(numbers,)`` a sum over patients, each of whom adds a vector no longer than ``sensitivity``.

    Returns
    -------
    ``(numbers,)`` float64 on the CPU.

    Raises
    ------
    ValueError
        When the numbers are too large for the lattice, or not finite: clipped sums never are.
    """
    unit = sensitivity * 2.0**-LATTICE_BITS
    whole = noised_units(total, unit, sigma * 2.0**LATTICE_BITS, stream)
    return torch.from_numpy(whole.astype(np.float64) * unit)


def noised_units(total: Tensor, unit: float, spread: float, stream: SecretStream) -> npt.NDArray[np.int64]:
    """Round a sum to whole multiples of ``unit``, and add noise of deviation ``spread``, rounded as well.

    Returns
    -------
    ``(numbers,)`` how many units.

    Raises
    ------
    ValueError
        As :func:`noised`.
    """
    exact = np.rint(total.detach().cpu().double().numpy() / unit)
    drawn = np.rint(stream.normal(exact.size) * spread)
    if not bool((np.abs(exact) < MOST_UNITS).all() and (np.abs(drawn) < MOST_UNITS).all()):
        raise ValueError("a clipped sum, or its noise, is too large")
    return exact.astype(np.int64) + drawn.astype(np.int64)
