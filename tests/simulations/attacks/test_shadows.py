"""Shadow models: who trains them, and that nobody else does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.simulations.attacks.overfitted import STUDY, patients

from mmfed_common.study import Study
from mmfed_simulations.attacks.shadows import (
    Measured,
    Patients,
    Training,
    halves,
    measure,
    train_all,
    train_and_measure,
    train_model,
)

SHORT = STUDY.with_changes(
    training={"stages": [{"level": "clinical", "rounds": 2, "learning_rate": 0.1}], "local_epochs": 1}
)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(4, 12))
def test_every_patient_is_in_half_and_every_site_is_halved(sizes: list[int], pairs: int) -> None:
    inside = halves(sizes, 2 * pairs, 3)
    assert (inside.sum(axis=0) == pairs).all()
    assert (inside[0::2] ^ inside[1::2]).all()
    for site in np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1]):
        assert set(inside[:, site].sum(axis=1)) <= {len(site) // 2, (len(site) + 1) // 2}


def test_who_is_outside_leaves_no_trace(everybody: Patients) -> None:
    """Other outcomes and values of a patient who is outside change nothing that is said of the others."""
    inside = halves(everybody.sizes, 2, 0)[0]
    outside = int(np.flatnonzero(~inside)[0])
    first = train_and_measure(everybody, Training(SHORT, inside))
    assert (first.inside == inside).all()
    order = [p for part in everybody.cohort.by_site().values() for p in part.patients.patient_ids]
    place = everybody.cohort.patients.patient_ids.index(order[outside])
    outcomes = everybody.cohort.patients.outcomes
    response = outcomes.response.clone()
    response[place] = (response[place] + 1) % 3
    changed = replace(everybody.cohort.patients, outcomes=replace(outcomes, response=response))
    second = train_and_measure(
        replace(everybody, cohort=replace(everybody.cohort, patients=changed)), Training(SHORT, inside)
    )
    others = np.arange(len(inside)) != outside
    np.testing.assert_array_equal(first.loss[others], second.loss[others])
    assert first.loss[outside, 1] != second.loss[outside, 1]


def test_losses_are_those_of_training(everybody: Patients) -> None:
    study = SHORT.with_changes(evaluation={"rule": "hash", "fraction": 0.5})
    training = Training(study, None)
    state, scaling = train_model(everybody, training)
    found = measure(study, everybody.sites(study), state, scaling)
    assert found.loss.shape == (150, 2)
    assert 40 < found.inside.sum() < 110
    again = train_and_measure(everybody, training)
    np.testing.assert_array_equal(found.loss, again.loss)
    held_out = np.concatenate([site.held_out for site in everybody.sites(study)])
    np.testing.assert_array_equal(found.inside, ~held_out)


def test_who_only_stops_training_is_neither_member_nor_stranger(everybody: Patients) -> None:
    study = SHORT.with_changes(training={"validation_fraction": 0.3, "patience": 2})
    found = train_and_measure(everybody, Training(study, halves(everybody.sizes, 2, 0)[0]))
    assert found.unclear.any()
    assert not (found.unclear & found.inside).any()


def test_a_site_below_the_floor_trains_nobody() -> None:
    small = patients(n=60)
    study = SHORT.with_changes(aggregation={"minimum_patients": 11})
    inside = np.ones(60, dtype=bool)
    inside[:12] = False  # of the first site's 20, 8 are left
    found = train_and_measure(small, Training(study, inside))
    assert not found.inside[:20].any()
    assert found.unclear[12:20].all()
    assert found.inside[20:].all()


def test_finished_models_are_kept_for_the_same_patients_only(everybody: Patients, tmp_path: Path) -> None:
    trainings = [Training(SHORT, row) for row in halves(everybody.sizes, 2, 0)]
    told: list[tuple[int, int]] = []
    first = train_all(everybody, trainings, tmp_path, 1, lambda done, total: told.append((done, total)))
    assert told == [(0, 2), (1, 2), (2, 2)]
    told.clear()
    again = train_all(everybody, trainings, tmp_path, 1, lambda done, total: told.append((done, total)))
    assert told == [(2, 2)]
    assert_same(first, again)
    told.clear()
    train_all(patients(seed=1), trainings, tmp_path, 1, lambda done, total: told.append((done, total)))
    assert told[0] == (0, 2)


def assert_same(first: list[Measured], second: list[Measured]) -> None:
    """Equal to the bit."""
    for one, two in zip(first, second, strict=True):
        for name in ("loss", "inside", "unclear"):
            np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


@pytest.mark.slow
def test_worker_processes_give_the_same(everybody: Patients, tmp_path: Path) -> None:
    trainings = [Training(SHORT, row) for row in halves(everybody.sizes, 2, 0)]
    here = [train_and_measure(everybody, training) for training in trainings]
    assert_same(here, train_all(everybody, trainings, tmp_path, 2))
    assert torch.get_num_threads() >= 1


def test_another_study_has_another_key() -> None:
    inside = np.ones(4, dtype=bool)
    other: Study = SHORT.with_changes(study={"seed": 12})
    keys = {
        Training(SHORT, None).key,
        Training(SHORT, inside).key,
        Training(SHORT, ~inside).key,
        Training(other, inside).key,
    }
    assert len(keys) == 4
