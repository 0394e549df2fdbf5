"""The one way out of a site refuses what the study does not allow."""

from __future__ import annotations

import pytest
import torch
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from tests.simulations.small_federation import small_study

from mmfed_client.gate import Gate, error_reply
from mmfed_client.training import LocalUpdate, LossSum
from mmfed_common import messages as m
from mmfed_common.errors import DataError, MmfedError

ALLOWED = {"w": ((2,), torch.float32)}


@pytest.fixture
def gate() -> Gate:
    study = small_study(aggregation={"minimum_patients": 5}, evaluation={"minimum_cell": 10})
    return Gate.for_simulation(study, "a")


def asked(kind: str) -> Message:
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
    config = ConfigRecord({m.STUDY_HASH: "0" * 64, m.ROUND: 2})
    return Message(RecordDict({m.CONFIG: config}), 100, kind)


def test_an_update_holds_what_was_allowed_and_no_more(gate: Gate) -> None:
    update = LocalUpdate({"w": torch.ones(2)}, 7, -0.5)
    reply = gate.update(asked(m.TRAIN), update, 1.5, ALLOWED)
    assert set(reply.content) == {m.ARRAYS, m.METRICS, m.ABOUT}
    assert dict(reply.content.metric_records[m.METRICS]) == {
        m.NUM_EXAMPLES: 7,
        m.LOSS: -0.5,
        m.SECONDS: 1.5,
    }
    assert reply.content.config_records[m.ABOUT][m.SITE] == "a"
    assert reply.content.config_records[m.ABOUT][m.ROUND] == 2


@pytest.mark.parametrize(
    "trained",
    [
        {"w": torch.ones(3)},
        {"w": torch.ones(2, dtype=torch.float64)},
        {"w": torch.tensor([1.0, float("nan")])},
        {"w": torch.ones(2), "patients": torch.ones(9)},
        {"v": torch.ones(2)},
    ],
)
def test_other_arrays_do_not_leave(gate: Gate, trained: dict[str, torch.Tensor]) -> None:
    with pytest.raises(MmfedError) as caught:
        gate.update(asked(m.TRAIN), LocalUpdate(trained, 7, 0.5), 1.0, ALLOWED)
    assert caught.value.code == "MMF-407"


def test_an_update_of_few_patients_does_not_leave(gate: Gate) -> None:
    with pytest.raises(MmfedError) as caught:
        gate.update(asked(m.TRAIN), LocalUpdate({"w": torch.ones(2)}, 4, 0.5), 1.0, ALLOWED)
    assert caught.value.code == "MMF-406"


def test_a_metric_that_is_not_finite_does_not_leave(gate: Gate) -> None:
    with pytest.raises(MmfedError) as caught:
        gate.evaluation(asked(m.EVALUATE_HELD_OUT), LossSum(float("nan"), 20), 30)
    assert caught.value.code == "MMF-407"


@pytest.mark.parametrize(("patients", "told"), [(9, (0, 0.0)), (10, (10, 3.0))])
def test_small_cells_are_not_told(gate: Gate, patients: int, told: tuple[int, float]) -> None:
    reply = gate.evaluation(asked(m.EVALUATE_HELD_OUT), LossSum(3.0, patients), 30)
    metrics = reply.content.metric_records[m.METRICS]
    assert (metrics[m.NUM_EXAMPLES], metrics[m.LOSS]) == told


@pytest.mark.parametrize(("training", "told"), [(4, 0), (5, 20)])
def test_below_the_floor_of_an_update_no_loss_leaves_either(gate: Gate, training: int, told: int) -> None:
    reply = gate.evaluation(asked(m.EVALUATE_HELD_OUT), LossSum(3.0, 20), training)
    assert reply.content.metric_records[m.METRICS][m.NUM_EXAMPLES] == told


@pytest.mark.parametrize(("patients", "told"), [(4, 0), (5, 5)])
def test_a_site_below_the_floor_does_not_tell_its_size(gate: Gate, patients: int, told: int) -> None:
    reply = gate.hello(asked(m.HELLO), patients)
    assert reply.content.metric_records[m.METRICS][m.NUM_EXAMPLES] == told


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (DataError("MMF-206", "patient Jane Doe has age 512", "row 7"), "MMF-206 "),
        (KeyError("Jane Doe"), "KeyError"),
    ],
)
def test_an_error_carries_no_data(error: Exception, text: str) -> None:
    reason = error_reply(asked(m.TRAIN), error).error.reason
    assert reason is not None
    assert reason.startswith(text)
    assert "Jane" not in reason
