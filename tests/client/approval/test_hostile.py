"""Hostile studies and coordinators: no update leaves, and the reason stands in the site's ledger."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message
from tests.client.approval.hostile_offers import OFFERS
from tests.client.small_home import NOON, SmallHome, context, local_site, question, weights_of
from tests.simulations.small_federation import small_study

from mmfed_client.approval import approve, record_refusal, revoke
from mmfed_client.training import LocalSite
from mmfed_common import messages as m
from mmfed_common.arrays import to_record
from mmfed_common.errors import MmfedError, NetworkError
from mmfed_common.signed_study import SignedStudy

POLICY = 'require_privacy = false\nmost_rounds = 500\nstrategies = ["fedavg", "fedprox"]\n'
STUDY = small_study()


def test_there_are_enough() -> None:
    assert len(OFFERS) + len(MESSAGES) >= 40


@pytest.mark.parametrize("name", OFFERS)
def test_a_hostile_offer_is_refused_and_recorded(tmp_path: Path, name: str) -> None:
    make, code = OFFERS[name]
    small = SmallHome.make(tmp_path, POLICY)
    offer = make(small)
    with pytest.raises(MmfedError) as caught:
        approve(small.home, small.ledger, offer, "Ada", now=NOON)
    assert caught.value.code == code
    record_refusal(small.ledger, offer.hash, caught.value, NOON)
    entries = list(small.ledger.entries())
    assert [(e.kind, e.body["code"], e.body["study"]) for e in entries] == [("refusal", code, offer.hash)]
    site = local_site(STUDY, 20)
    answer = small.app(site)(question(m.HELLO, offer.hash, 0), context())
    assert answer.error.reason[:7] == "MMF-332"


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": 2}', "[" * 100_000, "\x80\x04", '{"document": 1}', "null"]
)
def test_a_hostile_file_is_no_signed_study(text: str) -> None:
    with pytest.raises(NetworkError) as caught:
        SignedStudy.from_json(text)
    assert caught.value.code == "MMF-418"


def with_weights(site: LocalSite, change: Callable[[dict[str, torch.Tensor]], object]) -> Message:
    """A round whose weights were changed."""
    records = weights_of(site)
    weights = {n: torch.from_numpy(a.numpy()).clone() for n, a in records[m.ARRAYS].items()}
    change(weights)
    return question(m.TRAIN, STUDY.hash, 1, **{**records, m.ARRAYS: to_record(weights)})


def with_config(site: LocalSite, kind: str = m.TRAIN, **values: object) -> Message:
    """A round whose configuration was changed; a key with the value None is left out."""
    message = question(kind, STUDY.hash, 1, **weights_of(site))
    config = {**message.content.config_records[m.CONFIG]}
    for key, value in values.items():
        config[key.replace("_", "-")] = value
    message.content[m.CONFIG] = ConfigRecord({k: v for k, v in config.items() if v is not None})
    return message


def sent_twice(site: LocalSite) -> Message:
    records = weights_of(site)
    return question(m.TRAIN, STUDY.hash, 1, **{**records, m.FROZEN: weights_of(site)[m.ARRAYS]})


def lying_header(site: LocalSite) -> Message:
    """An array whose header is Python that NumPy's own reader would evaluate."""
    records = weights_of(site)
    arrays = dict(records[m.ARRAYS].items())
    first = next(iter(arrays))
    data = arrays[first].data
    arrays[first].data = data[:10] + b"__import__('os').abort()".ljust(len(data) - 10)
    return question(m.TRAIN, STUDY.hash, 1, **{**records, m.ARRAYS: ArrayRecord(arrays)})


def first_of(weights: dict[str, torch.Tensor]) -> str:
    return next(iter(weights))


MESSAGES: dict[str, tuple[Callable[[LocalSite], Message], str]] = {
    "no study named": (lambda site: with_config(site, study_hash=None), "MMF-405"),
    "a study that is no hash": (lambda site: with_config(site, study_hash="../x"), "MMF-405"),
    "a study that was never approved": (lambda site: with_config(site, study_hash="a" * 64), "MMF-332"),
    "round 0": (lambda site: with_config(site, round=0), "MMF-405"),
    "a round after the last": (lambda site: with_config(site, round=4), "MMF-405"),
    "a round that is text": (lambda site: with_config(site, round="1"), "MMF-405"),
    "no round": (lambda site: with_config(site, round=None), "MMF-405"),
    "a pull to minus infinity": (lambda site: with_config(site, proximal_mu=-1e9), "MMF-402"),
    "a pull that is text": (lambda site: with_config(site, proximal_mu="1"), "MMF-402"),
    "extra weights": (lambda site: with_weights(site, lambda w: w.update(x=torch.ones(1))), "MMF-605"),
    "too few weights": (lambda site: with_weights(site, lambda w: w.pop(first_of(w))), "MMF-605"),
    "weights of another shape": (
        lambda site: with_weights(site, lambda w: w.update({first_of(w): torch.ones(3, 3, 3)})),
        "MMF-605",
    ),
    "weights of another type": (
        lambda site: with_weights(site, lambda w: w.update({first_of(w): w[first_of(w)].double()})),
        "MMF-605",
    ),
    "weights that are no numbers": (
        lambda site: with_weights(site, lambda w: w[first_of(w)].fill_(float("nan"))),
        "MMF-605",
    ),
    "weights sent twice": (sent_twice, "MMF-605"),
    "a header that is a program": (lying_header, "MMF-605"),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_a_hostile_message_draws_out_a_code_only(tmp_path: Path, name: str) -> None:
    make, code = MESSAGES[name]
    small = SmallHome.make(tmp_path, POLICY)
    small.approve(STUDY)
    site = local_site(STUDY, 30)
    answer = small.app(site)(make(site), context())
    assert not answer.has_content()
    assert answer.error.reason[:7] == code
    *_, receipt = small.ledger.entries()
    assert receipt.body["error"][:7] == code


def test_a_message_for_the_site_after_its_withdrawal(tmp_path: Path) -> None:
    small = SmallHome.make(tmp_path, POLICY)
    small.approve(STUDY)
    revoke(small.ledger, "Ada", STUDY.hash, NOON)
    site = local_site(STUDY, 30)
    answer = small.app(site)(question(m.TRAIN, STUDY.hash, 1, **weights_of(site)), context())
    assert answer.error.reason[:7] == "MMF-332"


def test_what_a_message_asks_for_besides_changes_nothing(tmp_path: Path) -> None:
    small = SmallHome.make(tmp_path, POLICY)
    small.approve(STUDY)
    site = local_site(STUDY, 30)
    usual = with_config(site)
    asked = with_config(site, send="patients", code="import os", minimum_patients=0)
    plain = small.app(site)(usual, context())
    asked.content["patients"] = ConfigRecord({"please": True})
    greedy = small.app(site)(asked, context())
    assert set(greedy.content) == {m.ARRAYS, m.METRICS, m.ABOUT}
    for name, array in plain.content.array_records[m.ARRAYS].items():
        assert greedy.content.array_records[m.ARRAYS][name].data == array.data
    assert set(greedy.content.config_records[m.ABOUT]) == set(plain.content.config_records[m.ABOUT])
