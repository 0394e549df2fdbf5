"""Secret randomness: reproducible, uniform, normal; and noise on the lattice."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from mmfed_client.privacy.noise import LATTICE_BITS, SecretStream, keyed_digest, noised

SECRET = bytes(range(32))
ALPHA = 1e-4
"""Seeds are fixed, so that a test that passes passes always."""


def test_a_stream_is_a_function_of_secret_and_purpose() -> None:
    first, second = SecretStream.of(SECRET, "step", 3), SecretStream.of(SECRET, "step", 3)
    assert np.array_equal(first.words(100), np.concatenate([second.words(40), second.words(60)]))
    start = SecretStream.of(SECRET, "step", 3).words(100)
    for secret, purpose in ((SECRET, ("step", 4)), (bytes(32), ("step", 3)), (SECRET, ("ste", "p3"))):
        other = SecretStream.of(secret, *purpose).words(100)
        assert not np.intersect1d(start, other).size


def test_no_two_lists_of_parts_have_one_digest() -> None:
    parts = [("ab", "c"), ("a", "bc"), ("abc",), ("abc", ""), ("", "abc"), (b"ab", b"c", "")]
    assert len({keyed_digest(SECRET, *each) for each in parts}) == len(parts)


def test_the_keystream_is_chacha20() -> None:
    """RFC 8439, section 2.3.2 uses a nonce and a counter; with all zero: appendix A.1, test vector 1."""
    expected = "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
    assert SecretStream(bytes(32)).words(4).tobytes().hex() == expected


@pytest.mark.parametrize("rate", [0.01, 0.3, 0.97])
def test_each_patient_is_drawn_with_the_rate_and_on_his_own(rate: float) -> None:
    drawn = np.array([SecretStream.of(SECRET, "draw", step).chosen(200, rate) for step in range(500)])
    assert stats.binomtest(int(drawn.sum()), drawn.size, rate).pvalue > ALPHA
    sizes = drawn.sum(axis=1)
    spread = 200 * rate * (1 - rate)
    assert stats.chi2(499).sf(499 * sizes.var(ddof=1) / spread) > ALPHA
    assert stats.chi2(499).cdf(499 * sizes.var(ddof=1) / spread) > ALPHA


def test_rates_of_one_and_of_nearly_nothing() -> None:
    assert SecretStream(SECRET).chosen(1000, 1.0).all()
    assert not SecretStream(SECRET).chosen(1000, 1e-12).any()


def test_deviates_are_normal_also_in_the_tails() -> None:
    deviates = SecretStream.of(SECRET, "normal").normal(2_000_001)
    assert deviates.shape == (2_000_001,)
    assert stats.kstest(deviates, "norm").pvalue > ALPHA
    for limit in (2.0, 3.0, 4.0, 4.75):
        beyond = int((np.abs(deviates) > limit).sum())
        assert stats.binomtest(beyond, deviates.size, 2 * stats.norm.sf(limit)).pvalue > ALPHA
    halves = deviates[:1_000_000], deviates[1_000_001:]
    assert abs(np.corrcoef(*halves)[0, 1]) < 5e-3


def test_noise_has_the_deviation_asked_for_around_the_sum() -> None:
    total = torch.linspace(-3, 3, 50_001, dtype=torch.float64)
    noisy = noised(total, sensitivity=0.5, sigma=2.0, stream=SecretStream.of(SECRET, "noise"))
    assert stats.kstest((noisy - total).numpy(), "norm", args=(0.0, 1.0)).pvalue > ALPHA


def test_every_noisy_number_lies_on_the_lattice() -> None:
    """So no last bit tells from which sum it came (Mironov, CCS 2012)."""
    unit = 0.7 * 2.0**-LATTICE_BITS
    noisy = noised(torch.randn(10_000, dtype=torch.float64), 0.7, 1.3, SecretStream(SECRET)).numpy()
    whole = np.rint(noisy / unit)
    assert np.array_equal(whole * unit, noisy)


def test_sums_that_differ_by_a_step_of_the_lattice_give_results_that_differ_by_it() -> None:
    """The noise does not depend on the sum: the results are one set, moved."""
    unit = 2.0**-LATTICE_BITS
    drawn = torch.randn(5_000, dtype=torch.float64)
    total = (drawn / unit).round() * unit  # half a step would be rounded up or down
    first = noised(total, 1.0, 1.5, SecretStream(SECRET))
    second = noised(total + 3 * unit, 1.0, 1.5, SecretStream(SECRET))
    assert torch.equal(((second - first) / unit).round(), torch.full_like(total, 3.0))


@pytest.mark.parametrize("total", [float("nan"), float("inf"), 1e30])
def test_sums_that_no_clipping_gives_are_refused(total: float) -> None:
    with pytest.raises(ValueError, match="too large"):
        noised(torch.tensor([total]), 1.0, 1.0, SecretStream(SECRET))
