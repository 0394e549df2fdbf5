"""A coordinator that asks again and again, or asks what no study says, to draw single patients out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from flwr.app import ConfigRecord, Message
from tests.client.small_home import OPEN, SmallHome, context, local_site, question, weights_of
from tests.simulations.small_federation import small_study

from mmfed_client.ledger import Ledger
from mmfed_client.training import LocalSite
from mmfed_common import messages as m
from mmfed_common.arrays import to_record

TWICE = f"{OPEN}most_answers_per_round = 2\nminimum_cell = 1\n"
STUDY = small_study(training={"validation_fraction": 0.3})


@pytest.fixture
def site() -> LocalSite:
    return local_site(STUDY)


@pytest.fixture
def small(tmp_path: Path) -> SmallHome:
    found = SmallHome.make(tmp_path, TWICE)
    found.approve(STUDY)
    return found


def code_of(answer: Message) -> str:
    """The code of an answer; empty when it holds content."""
    return (answer.error.reason or "")[:7] if answer.has_error() else ""


def configured(asked: Message, **values: int | float | str | bool) -> Message:
    """A question whose configuration says something else."""
    config = dict(asked.content.config_records[m.CONFIG])
    config |= {key.replace("_", "-"): value for key, value in values.items()}
    asked.content[m.CONFIG] = ConfigRecord(config)
    return asked


def loud(site: LocalSite, kind: str) -> Message:
    """A question with weights at which the loss overflows."""
    records = weights_of(site)
    weights = {n: torch.full_like(torch.from_numpy(a.numpy()), 3e38) for n, a in records[m.ARRAYS].items()}
    return question(kind, STUDY.hash, 1, **{**records, m.ARRAYS: to_record(weights)})


@pytest.mark.parametrize("kind", [m.TRAIN, m.EVALUATE_HELD_OUT, m.EVALUATE_VALIDATION])
def test_a_round_that_is_true_is_not_round_1_uncounted(small: SmallHome, site: LocalSite, kind: str) -> None:
    asked = configured(question(kind, STUDY.hash, 1, **weights_of(site)), round=True)
    assert code_of(small.app(site)(asked, context())) == "MMF-405"


@pytest.mark.parametrize("number", [1, -1, 2**31, True])
def test_sums_of_features_belong_to_no_round(small: SmallHome, site: LocalSite, number: int) -> None:
    asked = configured(question(m.MOMENTS, STUDY.hash, 0), round=number)
    assert code_of(small.app(site)(asked, context())) == "MMF-405"


def test_sums_over_other_patients_do_not_leave_a_second_time(tmp_path: Path) -> None:
    """The difference of the two would be the values of whoever was added."""
    small = SmallHome.make(tmp_path)
    small.approve(STUDY)
    asked = question(m.MOMENTS, STUDY.hash, 0)
    assert not small.app(local_site(STUDY, 40))(asked, context()).has_error()
    assert not small.app(local_site(STUDY, 40))(asked, context()).has_error()
    small.ledger = Ledger(small.home.ledger_file)  # as after a restart
    assert code_of(small.app(local_site(STUDY, 41))(asked, context())) == "MMF-344"
    other = STUDY.with_changes(study={"name": "other"})
    small.approve(other)
    anew = question(m.MOMENTS, other.hash, 0)
    assert not small.app(local_site(other, 41))(anew, context()).has_error()


@pytest.mark.parametrize(("kind", "code"), [(m.TRAIN, "MMF-604"), (m.EVALUATE_HELD_OUT, "MMF-407")])
def test_failures_that_tell_something_are_counted(
    small: SmallHome, site: LocalSite, kind: str, code: str
) -> None:
    """Whether it overflows says whether somebody has a value: a question like any other."""
    for _ in range(2):
        assert code_of(small.app(site)(loud(site, kind), context())) == code
    for ledger in (small.ledger, Ledger(small.home.ledger_file)):
        small.ledger = ledger
        assert code_of(small.app(site)(loud(site, kind), context())) == "MMF-343"


def test_failures_that_tell_nothing_are_not_counted(small: SmallHome, site: LocalSite) -> None:
    small.policy(f"{TWICE}minimum_patients = 1000\n")
    right = question(m.TRAIN, STUDY.hash, 1, **weights_of(site))
    for _ in range(4):
        assert code_of(small.app(site)(right, context())) == "MMF-323"
    small.policy(TWICE)
    assert code_of(small.app(site)(right, context())) == ""


@pytest.mark.parametrize("mu", [1.0, float("inf"), float("nan"), -1.0, True, "1"])
def test_a_pull_that_is_not_the_studys(small: SmallHome, site: LocalSite, mu: float | str) -> None:
    asked = configured(question(m.TRAIN, STUDY.hash, 1, **weights_of(site)), proximal_mu=mu)
    assert code_of(small.app(site)(asked, context())) == "MMF-402"


def test_the_studys_own_pull_is_taken(tmp_path: Path) -> None:
    study = small_study(aggregation={"strategy": "fedprox", "proximal_mu": 0.25})
    small, site = SmallHome.make(tmp_path), local_site(study)
    small.approve(study)

    def asked(**config: float) -> Message:
        return configured(question(m.TRAIN, study.hash, 1, **weights_of(site)), **config)

    assert code_of(small.app(site)(asked(proximal_mu=0.25), context())) == ""
    assert code_of(small.app(site)(asked(), context())) == "MMF-402"


@pytest.mark.parametrize("deviation", [0.0, 1e-30, -1.0])
def test_a_scale_that_magnifies_one_value(small: SmallHome, site: LocalSite, deviation: float) -> None:
    records = weights_of(site)
    scaling = {n: torch.from_numpy(a.numpy()).clone() for n, a in records[m.SCALING].items()}
    scaling["deviation.clinical_feature"].fill_(deviation)
    asked = question(m.EVALUATE_HELD_OUT, STUDY.hash, 1, **{**records, m.SCALING: to_record(scaling)})
    assert code_of(small.app(site)(asked, context())) == "MMF-605"


def test_nobody_fills_the_disk_with_greetings(small: SmallHome, site: LocalSite) -> None:
    app: Callable[..., Message] = small.app(site)
    asked = question(m.HELLO, STUDY.hash, 0)
    answers = [code_of(app(asked, context())) for _ in range(65)]
    assert answers == [""] * 60 + ["MMF-342"] * 5
