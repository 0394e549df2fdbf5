"""Sites of a round are the same whenever they are drawn again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.simulations.small_federation import small_study

from mmfed_server.rounds.roster import sample_sites

SITES = tuple(f"site-{n:02d}" for n in range(12))


@given(st.permutations(SITES), st.integers(1, 50), st.integers(0, 2))
def test_the_draw_does_not_depend_on_the_order_of_arrival(
    order: list[str], number: int, attempt: int
) -> None:
    study = small_study(aggregation={"fraction": 0.5, "minimum_sites": 2})
    chosen = sample_sites(study, order, number, attempt)
    assert chosen == sample_sites(study, SITES, number, attempt)
    assert len(set(chosen)) == 6
    assert list(chosen) == sorted(chosen)


def test_rounds_and_attempts_draw_differently() -> None:
    study = small_study(aggregation={"fraction": 0.5, "minimum_sites": 2})
    draws = {sample_sites(study, SITES, number, attempt) for number in range(1, 9) for attempt in (0, 1)}
    assert len(draws) > 12


def test_never_fewer_than_the_minimum() -> None:
    study = small_study(aggregation={"fraction": 0.1, "minimum_sites": 5})
    assert len(sample_sites(study, SITES, 1, 0)) == 5


def test_all_sites_with_fraction_one() -> None:
    assert sample_sites(small_study(), SITES, 1, 0) == SITES
