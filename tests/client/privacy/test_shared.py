"""A site's share of a noisy sum: the noise of the opened sum, what one patient moves, what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats
from tests.client.privacy.private_sites import private_site
from tests.client.privacy.shared_sites import (
    EVERYTHING,
    ONE_STEP,
    layout_of,
    numbers,
    share_of,
    shared_study,
    signal_of,
)
from tests.server.masking.protocol import Dropouts, run_protocol

from mmfed_client.privacy.noise import LONGEST_DEVIATE
from mmfed_client.privacy.shared import refuse_inexact
from mmfed_client.training import LocalSite
from mmfed_common.errors import PrivacyError
from mmfed_common.masking.layout import HEAD, Layout
from mmfed_common.masking.shared_noise import MOST_PARAMETERS, RANGE, honest_sites
from mmfed_common.masking.stream import Vector
from mmfed_common.privacy import PrivacyPlan
from mmfed_common.schedule import Place
from mmfed_common.study import Study

SIGMA, CLIPPING = 2.0, 0.7
STUDY = shared_study(training={**ONE_STEP, "stages": EVERYTHING}, privacy={"clipping": CLIPPING})
NAMES = tuple(f"site-{number}" for number in range(7))


@pytest.fixture(scope="module")
def sites() -> dict[str, LocalSite]:
    return {name: private_site(STUDY, 40 + 3 * number, name) for number, name in enumerate(NAMES)}


@pytest.fixture(scope="module")
def signals(sites: dict[str, LocalSite]) -> dict[str, np.ndarray[Any, Any]]:
    return {name: signal_of(site) for name, site in sites.items()}


def gradients(total: Vector) -> np.ndarray[Any, Any]:
    """The sum of gradients in a vector: its changes over minus the learning rate."""
    step = RANGE * CLIPPING * 2.0**-29
    return -total[HEAD:].astype(np.float64) * step


@pytest.mark.parametrize("gone", [(), ("site-2",), ("site-0", "site-4")])
def test_the_noise_of_an_opened_sum_is_what_the_account_says(
    gone: tuple[str, ...], sites: dict[str, LocalSite], signals: dict[str, np.ndarray[Any, Any]]
) -> None:
    """Seven sites of which five must be left, down to the threshold; some hundred thousand numbers."""
    left = [name for name in NAMES if name not in gone]
    honest = honest_sites(STUDY, 7, 5)
    assert honest == 4
    exact = np.sum([signals[name] for name in left], axis=0)
    drawn = []
    for attempt in range(12):
        told = {name: numbers(site, SIGMA, honest, bytes([attempt])) for name, site in sites.items()}
        seen = run_protocol(told, 0.67, Dropouts(update=gone), minimum_sites=3)
        assert seen.opened is not None
        assert seen.opened[0] == sum(len(sites[name].fit) for name in left)
        assert seen.opened[1] == 0
        drawn.append(gradients(seen.opened) - exact)
    noise = np.concatenate(drawn) / (SIGMA * CLIPPING)
    expected = np.sqrt(len(left) / honest)
    assert expected > 1.0  # never less than the account says, with one site on the coordinator's side too
    assert noise.std() == pytest.approx(expected, rel=4.5 / np.sqrt(2 * noise.size))
    assert abs(noise.mean()) < 4.5 * expected / np.sqrt(noise.size)
    assert stats.kstest(noise / expected, "norm").pvalue > 1e-4
    by_attempt = np.corrcoef(np.stack(drawn))
    assert np.abs(by_attempt - np.eye(12)).max() < 6 / np.sqrt(drawn[0].size)


def test_noise_that_falls_short_is_seen_by_that_test(sites: dict[str, LocalSite]) -> None:
    """Of four shares one is missing: 13 % less, far beyond the bound above."""
    signal = signal_of(sites["site-1"])
    noise = (gradients(numbers(sites["site-1"], SIGMA, 4)) - signal) / (SIGMA * CLIPPING)
    assert noise.std() == pytest.approx(0.5, rel=0.1)
    assert noise.std() < np.sqrt(3 / 4)


def test_one_patient_moves_the_opened_sum_by_clipping_at_most(sites: dict[str, LocalSite]) -> None:
    """The removal test on the very numbers that are masked, without noise."""
    whole = {name: numbers(site, 1e-12, 2) for name, site in list(sites.items())[:4]}
    before = gradients(run_protocol(whole, 0.67).opened)  # type: ignore[arg-type]
    lengths = []
    for patient in range(len(sites["site-1"].fit)):
        less = private_site(STUDY, 43, "site-1")
        less.fit = np.delete(less.fit, patient)
        after = gradients(run_protocol({**whole, "site-1": numbers(less, 1e-12, 2)}, 0.67).opened)  # type: ignore[arg-type]
        lengths.append(float(np.linalg.norm(before - after)))
    assert max(lengths) <= CLIPPING * (1 + 1e-5)
    assert max(lengths) > 0.9 * CLIPPING  # some are clipped, so the bound is tried


def test_the_numbers_are_whole_multiples_of_what_the_server_decodes(sites: dict[str, LocalSite]) -> None:
    """The change of one step of gradient descent times the patients, to half a step of the layout."""
    site, layout = sites["site-3"], layout_of(sites["site-3"])
    rate = EVERYTHING[0]["learning_rate"]
    told = layout.changes.decode(numbers(site, 1e-12, 2)[HEAD:])
    assert np.abs(told + rate * signal_of(site)).max() <= layout.changes.step  # type: ignore[operator]
    assert layout.changes.largest == RANGE * CLIPPING * rate  # type: ignore[operator]
    assert STUDY.aggregation.secure_largest_change == 1.0


def test_the_steps_follow_the_learning_rate_of_the_round() -> None:
    study = shared_study(training={"schedule": "cosine"})
    sizes = [Layout.of({}, study, Place.of(study.training, number)).changes.largest for number in (1, 2, 3)]
    rates = [Place.of(study.training, number).learning_rate(study.training, 0) for number in (1, 2, 3)]
    assert sizes == [RANGE * rate for rate in rates]
    plain = study.with_changes(privacy={"noise": "site"})
    assert Layout.of({}, plain, Place.of(study.training, 1)).changes.largest == 1.0


def test_another_attempt_has_other_noise_and_is_paid_anew(sites: dict[str, LocalSite]) -> None:
    site = sites["site-0"]
    first, same, other = (share_of(site, SIGMA, 4, name).changes for name in (b"one", b"one", b"two"))
    assert np.array_equal(first, same)
    difference = (first - other) * 2.0**-26 / SIGMA
    assert difference.std() == pytest.approx(np.sqrt(2 / 4), rel=0.1)


def plan_of(study: Study, patients: int, **changes: Any) -> PrivacyPlan:
    return replace(PrivacyPlan.of(study, patients), honest_sites=2, **changes)


@pytest.mark.parametrize(
    ("changes", "parameters", "named"),
    [
        ({}, MOST_PARAMETERS + 1, "numbers move"),
        ({"sigma": 8 * 60 * np.sqrt(2) / LONGEST_DEVIATE}, 100, "may be larger"),
        ({"epsilon": 30.0}, 10**6, "ideal"),
        ({"delta": 1e-12}, 10**6, "ideal"),
    ],
)
def test_what_cannot_be_added_exactly_is_refused(
    changes: dict[str, Any], parameters: int, named: str
) -> None:
    with pytest.raises(PrivacyError, match=named) as caught:
        refuse_inexact(plan_of(STUDY, 60, **changes), parameters, "a")
    assert caught.value.code == "MMF-398"
    refuse_inexact(plan_of(STUDY, 60), MOST_PARAMETERS, "a")


def test_numbers_stay_within_what_the_server_takes_for_possible(sites: dict[str, LocalSite]) -> None:
    site = sites["site-0"]
    most = (RANGE - 1) * len(site.fit) * np.sqrt(2) / LONGEST_DEVIATE
    drawn = numbers(site, most, 2)
    assert layout_of(site).is_possible(drawn, 1, 1)
