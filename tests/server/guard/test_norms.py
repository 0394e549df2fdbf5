"""An update that would drown the others is found; honest differences are not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmfed_common.study import Training
from mmfed_server.guard.norms import LEAST_PAST, UpdateNorm, steps_of, suspicious_norms


def updates(*norms: float, steps: int = 3) -> list[UpdateNorm]:
    return [UpdateNorm(f"s{i}", norm, steps) for i, norm in enumerate(norms)]


@given(st.lists(st.floats(0.4, 2.0), min_size=3, max_size=12), st.integers(0, 11), st.floats(60, 1e30))
def test_the_one_that_is_far_larger_is_named_and_no_other(norms: list[float], at: int, factor: float) -> None:
    bad = at % len(norms)
    norms[bad] *= factor
    assert {s: code for s, (code, _) in suspicious_norms(updates(*norms), {}).items()} == {
        f"s{bad}": "MMF-459"
    }


@given(st.lists(st.floats(0.5, 4.0), min_size=1, max_size=12))
def test_honest_differences_pass(norms: list[float]) -> None:
    assert suspicious_norms(updates(*norms), {}) == {}


def test_a_site_with_more_steps_may_change_more() -> None:
    small, large = updates(1.0, 1.0, steps=1), UpdateNorm("large", 60.0, 30)
    assert suspicious_norms([*small, large], {}) == {}
    assert set(suspicious_norms([*small, UpdateNorm("large", 60.0, 1)], {})) == {"large"}


def test_of_two_sites_neither_is_blamed() -> None:
    assert suspicious_norms(updates(1.0, 1000.0), {}) == {}


@pytest.mark.parametrize(("rounds", "named"), [(LEAST_PAST - 1, False), (LEAST_PAST, True)])
def test_a_site_is_compared_with_its_own_past(rounds: int, named: bool) -> None:
    found = suspicious_norms(updates(1.0, 1000.0), {"s1": [1.0] * rounds})
    assert {site: code for site, (code, _) in found.items()} == ({"s1": "MMF-460"} if named else {})


def test_updates_of_nothing_bound_nobody() -> None:
    assert suspicious_norms(updates(0.0, 0.0, 0.0, 5.0), {"s3": [0.0] * 5}) == {}


@pytest.mark.parametrize(
    ("batch", "epochs", "patients", "steps"), [(32, 2, 65, 6), (0, 3, 65, 3), (32, 1, 0, 1), (8, 1, 8, 1)]
)
def test_steps_follow_from_the_patients(batch: int, epochs: int, patients: int, steps: int) -> None:
    stages = [{"level": "clinical", "rounds": 1}]
    training = Training.model_validate({"stages": stages, "batch": batch, "local_epochs": epochs})
    assert steps_of(training, patients) == steps
