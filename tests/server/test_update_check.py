"""A reply is compared with what was asked for before anything of it is used."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict

from mmfed_common import messages as m
from mmfed_common.arrays import shapes_of, to_record
from mmfed_common.errors import NetworkError
from mmfed_server.exchange import request
from mmfed_server.update_check import Expected, check_reply
from mmfed_simulations.backends.inprocess import InProcessGrid

WEIGHTS = {"w": torch.tensor([1.0, 2.0])}
EXPECTED = Expected("a", "hash", 3, (m.LOSS,), shapes_of(WEIGHTS), 12)


def reply(**changes: Any) -> Message:
    """A good reply, with some of its parts changed."""
    parts = {
        "tensors": WEIGHTS,
        "metrics": {m.NUM_EXAMPLES: 12, m.LOSS: 0.5},
        "about": {m.STUDY_HASH: "hash", m.ROUND: 3, m.SITE: "a"},
        "extra": {},
    } | changes
    InProcessGrid(1, lambda jobs, timeout: {})
    content = RecordDict(
        {
            m.ARRAYS: to_record(parts["tensors"]),
            m.METRICS: MetricRecord(parts["metrics"]),
            m.ABOUT: ConfigRecord(parts["about"]),
            **parts["extra"],
        }
    )
    return Message(content, reply_to=request(m.TRAIN, 100, "hash", 3))


def test_a_good_reply_passes_with_its_values() -> None:
    checked = check_reply(reply(), EXPECTED)
    assert torch.equal(checked.tensors["w"], WEIGHTS["w"])
    assert checked.metrics == {m.LOSS: 0.5}
    assert checked.num_examples == 12


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tensors": {"w": torch.tensor([1.0, float("nan")])}}, "not finite"),
        ({"tensors": {"w": torch.zeros(3)}}, "shape"),
        ({"tensors": {"w": torch.zeros(2, dtype=torch.float64)}}, "type"),
        ({"tensors": {"w": torch.zeros(2), "x": torch.zeros(1)}}, "unknown"),
        ({"metrics": {m.NUM_EXAMPLES: 10**9, m.LOSS: 0.5}}, "plausible"),
        ({"metrics": {m.NUM_EXAMPLES: -5, m.LOSS: 0.5}}, "plausible"),
        ({"metrics": {m.NUM_EXAMPLES: 12.0, m.LOSS: 0.5}}, "plausible"),
        ({"metrics": {m.NUM_EXAMPLES: 500, m.LOSS: 0.5}}, "announced 12"),
        ({"metrics": {m.NUM_EXAMPLES: 12, m.LOSS: float("inf")}}, "finite"),
        ({"metrics": {m.NUM_EXAMPLES: 12, m.LOSS: [0.5]}}, "finite"),
        ({"metrics": {m.NUM_EXAMPLES: 12}}, "metrics"),
        ({"metrics": {m.NUM_EXAMPLES: 12, m.LOSS: 0.5, "c_index": 0.9}}, "metrics"),
        ({"about": {m.STUDY_HASH: "other", m.ROUND: 3, m.SITE: "a"}}, "another study"),
        ({"about": {m.STUDY_HASH: "hash", m.ROUND: 2, m.SITE: "a"}}, "not of round 3"),
        ({"about": {m.STUDY_HASH: "hash", m.ROUND: 3, m.SITE: "b"}}, "another site"),
        ({"extra": {"more": MetricRecord({"x": 1})}}, "records"),
        ({"extra": {m.METRICS: ConfigRecord({"x": 1})}}, "wrong kind"),
    ],
)
def test_a_wrong_reply_is_refused_with_the_reason(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(NetworkError, match=said) as caught:
        check_reply(reply(**changes), EXPECTED)
    assert caught.value.code == "MMF-402"
    assert caught.value.where == "a"
