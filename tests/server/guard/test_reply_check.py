"""A reply is compared with what was asked for before anything of it is used."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from torch import Tensor

from mmfed_common import messages as m
from mmfed_common.arrays import shapes_of, to_record
from mmfed_common.errors import NetworkError
from mmfed_server.guard import Checked, Expected, check_reply, each_array
from mmfed_server.rounds.exchange import request
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


def read(message: Message) -> tuple[Checked, dict[str, Tensor]]:
    return check_reply(message, EXPECTED), dict(each_array(message, EXPECTED))


def test_a_good_reply_passes_with_its_values() -> None:
    checked, tensors = read(reply())
    assert torch.equal(tensors["w"], WEIGHTS["w"])
    assert checked.metrics == {m.LOSS: 0.5}
    assert checked.num_examples == 12


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"tensors": {"w": torch.tensor([1.0, float("nan")])}}, "MMF-453", "not finite"),
        ({"tensors": {"w": torch.zeros(3)}}, "MMF-452", "shape"),
        ({"tensors": {"w": torch.zeros(2, dtype=torch.float64)}}, "MMF-452", "type"),
        ({"tensors": {"w": torch.zeros(2), "x": torch.zeros(1)}}, "MMF-451", "unknown"),
        ({"metrics": {m.NUM_EXAMPLES: 10**9, m.LOSS: 0.5}}, "MMF-454", "plausible"),
        ({"metrics": {m.NUM_EXAMPLES: -5, m.LOSS: 0.5}}, "MMF-454", "plausible"),
        ({"metrics": {m.NUM_EXAMPLES: 12.0, m.LOSS: 0.5}}, "MMF-454", "plausible"),
        ({"metrics": {m.NUM_EXAMPLES: 500, m.LOSS: 0.5}}, "MMF-454", "announced 12"),
        ({"metrics": {m.NUM_EXAMPLES: 12, m.LOSS: float("inf")}}, "MMF-453", "finite"),
        ({"metrics": {m.NUM_EXAMPLES: 12, m.LOSS: [0.5]}}, "MMF-453", "finite"),
        ({"metrics": {m.NUM_EXAMPLES: 12}}, "MMF-451", "metrics"),
        ({"metrics": {m.NUM_EXAMPLES: 12, m.LOSS: 0.5, "c_index": 0.9}}, "MMF-451", "metrics"),
        ({"about": {m.STUDY_HASH: "other", m.ROUND: 3, m.SITE: "a"}}, "MMF-455", "another study"),
        ({"about": {m.STUDY_HASH: "hash", m.ROUND: 2, m.SITE: "a"}}, "MMF-456", "not of round 3"),
        ({"about": {m.STUDY_HASH: "hash", m.ROUND: 3, m.SITE: "b"}}, "MMF-457", "another site"),
        ({"extra": {"more": MetricRecord({"x": 1})}}, "MMF-451", "records"),
        ({"extra": {m.METRICS: ConfigRecord({"x": 1})}}, "MMF-451", "wrong kind"),
    ],
)
def test_a_wrong_reply_is_refused_with_the_reason(changes: dict[str, Any], code: str, said: str) -> None:
    with pytest.raises(NetworkError, match=said) as caught:
        read(reply(**changes))
    assert caught.value.code == code
    assert caught.value.where == "a"
