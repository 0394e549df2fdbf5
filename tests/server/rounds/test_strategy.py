"""Flower's strategies behind ours, against averages and Adam steps worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord, Message
from torch import Tensor

from mmfed_common import messages as m
from mmfed_common.arrays import from_record, shapes_of, to_record
from mmfed_common.study import Aggregation, Stage
from mmfed_server.rounds.strategy import ChosenNodes, SiteStrategy, flower_strategy, update_content
from mmfed_simulations.backends.inprocess import FIRST_NODE, InProcessGrid

STAGE = Stage(level="clinical", rounds=5, learning_rate=1.0)
START = {"w": torch.tensor([1.0, -2.0]), "bias": torch.tensor(0.5)}
UPDATES = [
    ({"w": torch.tensor([2.0, 0.0]), "bias": torch.tensor(1.0)}, 10),
    ({"w": torch.tensor([0.0, -4.0]), "bias": torch.tensor(-1.0)}, 30),
]


def grid(nodes: int = 2) -> InProcessGrid:
    return InProcessGrid(nodes, lambda jobs, timeout: {})


def step(strategy: SiteStrategy, number: int, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """One round in which every site answers the same updates relative to the weights it was sent."""
    nodes = ChosenNodes(grid(), [FIRST_NODE, FIRST_NODE + 1])
    messages = strategy.configure_train(number, to_record(weights), ConfigRecord({m.ROUND: number}), nodes)
    replies = []
    for message, (update, patients) in zip(messages, UPDATES, strict=True):
        moved = {name: weights[name] + update[name] - START[name] for name in weights}
        replies.append(Message(update_content(to_record(moved), patients, 1.0), reply_to=message))
    arrays, metrics = strategy.aggregate_train(number, replies)
    assert arrays is not None
    assert metrics is not None
    assert metrics[m.LOSS] == pytest.approx(1.0)
    return from_record(arrays, shapes_of(weights))


@pytest.mark.parametrize("kind", ["fedavg", "fedprox"])
def test_the_average_is_weighted_by_patients(kind: str) -> None:
    result = step(SiteStrategy(flower_strategy(Aggregation(strategy=kind), STAGE)), 1, START)
    assert torch.allclose(result["w"], torch.tensor([0.5, -3.0]))
    assert torch.allclose(result["bias"], torch.tensor(-0.5))
    assert result["bias"].dtype == torch.float32


def test_fedprox_tells_the_sites_its_mu() -> None:
    strategy = SiteStrategy(flower_strategy(Aggregation(strategy="fedprox", proximal_mu=0.3), STAGE))
    nodes = ChosenNodes(grid(), [FIRST_NODE])
    (message,) = strategy.configure_train(1, to_record(START), ConfigRecord({}), nodes)
    assert message.content.config_records[m.CONFIG][m.PROXIMAL_MU] == 0.3


def test_fedadam_takes_adams_steps_from_the_first_on() -> None:
    """Kingma & Ba (2015), algorithm 1 in the form of the end of section 2, on the negative mean update."""
    rule = Aggregation(strategy="fedadam", server_learning_rate=0.1, beta_1=0.9, beta_2=0.99, tau=1e-6)
    strategy = SiteStrategy(flower_strategy(rule, STAGE))
    gradient = -np.array([-0.5, -1.0, -1.0])
    first, second, by_hand = np.zeros(3), np.zeros(3), np.array([1.0, -2.0, 0.5])
    weights = START
    for number in range(1, 5):
        weights = step(strategy, number, weights)
        first = 0.9 * first + 0.1 * gradient
        second = 0.99 * second + 0.01 * gradient**2
        rate = 0.1 * np.sqrt(1 - 0.99**number) / (1 - 0.9**number)
        by_hand = by_hand - rate * first / (np.sqrt(second) + 1e-6)
        np.testing.assert_allclose([*weights["w"].tolist(), weights["bias"].item()], by_hand, rtol=1e-5)


def test_moments_put_back_give_the_same_bits() -> None:
    rule = Aggregation(strategy="fedadam")
    whole, before = (SiteStrategy(flower_strategy(rule, STAGE)) for _ in range(2))
    expected = step(whole, 2, step(whole, 1, START))
    middle = step(before, 1, START)
    after = SiteStrategy(flower_strategy(rule, STAGE))
    after.set_moments(*before.moments())
    resumed = step(after, 2, middle)
    assert all(torch.equal(resumed[name], expected[name]) for name in expected)


def test_a_stage_may_have_its_own_server_learning_rate() -> None:
    stage = Stage(level="clinical", rounds=1, server_learning_rate=0.5)
    assert flower_strategy(Aggregation(strategy="fedadam"), stage).eta == 0.5


def test_only_the_chosen_nodes_are_addressed() -> None:
    strategy = SiteStrategy(flower_strategy(Aggregation(), STAGE))
    nodes = ChosenNodes(grid(5), [FIRST_NODE + 1, FIRST_NODE + 3])
    messages = strategy.configure_train(1, to_record(START), ConfigRecord({}), nodes)
    assert {message.metadata.dst_node_id for message in messages} == {FIRST_NODE + 1, FIRST_NODE + 3}
