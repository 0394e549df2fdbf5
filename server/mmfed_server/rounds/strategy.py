"""Flower's strategies, wrapped: Flower does the arithmetic, the node choice is ours.

The wrapper is itself a Flower strategy and holds one, so that another wrapper can stand around or inside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAdam, FedAvg, FedProx, Strategy
from flwr.serverapp.strategy.fedopt import FedOpt
from flwr.supercore.run import Run
from numpy.typing import NDArray
from torch import Tensor

from mmfed_common import messages as m
from mmfed_common.study import Aggregation, Stage
from mmfed_server.rounds.spool import Piece

PART_BYTES = 1024 * 1024
"""How much of a model Flower's strategy is given at a time, at least; FedAdam takes several times that."""


def flower_strategy(rule: Aggregation, stage: Stage) -> FedAvg:
    """Build Flower's own strategy for one stage."""
    if rule.strategy == "fedprox":
        return FedProx(proximal_mu=rule.proximal_mu, min_train_nodes=1, min_available_nodes=1)
    if rule.strategy == "fedadam":
        eta = stage.server_learning_rate or rule.server_learning_rate
        return FedAdam(
            eta=eta,
            eta_l=stage.learning_rate,
            beta_1=rule.beta_1,
            beta_2=rule.beta_2,
            tau=rule.tau,
            min_train_nodes=1,
            min_available_nodes=1,
        )
    return FedAvg(min_train_nodes=1, min_available_nodes=1)


class ChosenNodes(Grid):
    """A grid on which only some nodes are seen, so that Flower's strategies address exactly those."""

    def __init__(self, grid: Grid, nodes: Sequence[int]) -> None:
        self.grid = grid
        self.nodes = list(nodes)

    def set_run(self, run: Run) -> None:
        """Pass on."""
        self.grid.set_run(run)

    @property
    def run(self) -> Run:
        """Pass on."""
        return self.grid.run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Make a message."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Give the chosen nodes."""
        return list(self.nodes)

    def get_nodes(self) -> Iterable[NodeInfo]:
        """Describe the chosen nodes."""
        return [node for node in self.grid.get_nodes() if node.node_id in self.nodes]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Pass on."""
        return self.grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Pass on."""
        return self.grid.pull_messages(message_ids)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Pass on."""
        return self.grid.send_and_receive(messages, timeout=timeout)


class SiteStrategy(Strategy):
    """Holds a Flower strategy for one stage.

    The ``server_round`` of Flower's interface is the round within the stage, counted from 1, because the
    moments of a stage start at its first round. Flower's FedAdam corrects its bias with ``server_round + 1``;
    it is given one less, so that its first step is Adam's first step (Kingma & Ba, 2015).

    Parameters
    ----------
    inner
        Flower's strategy.
    """

    def __init__(self, inner: FedAvg) -> None:
        self.inner = inner
        self._types: dict[str, np.dtype[np.generic]] = {}

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Make the messages for all nodes of ``grid``; see :class:`ChosenNodes`."""
        self._types = {name: np.dtype(array.dtype) for name, array in arrays.items()}
        return list(self.inner.configure_train(server_round - 1, arrays, config, grid))

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Aggregate, and give each array the type that it was sent with."""
        arrays, metrics = self.inner.aggregate_train(server_round - 1, list(replies))
        if arrays is None:
            return None, metrics
        typed = {name: np.asarray(a.numpy(), dtype=self._types[name]) for name, a in arrays.items()}
        return ArrayRecord({name: Array(values) for name, values in typed.items()}), metrics

    def messages(self, server_round: int, config: ConfigRecord, grid: Grid) -> list[Message]:
        """Make the messages as :meth:`configure_train` does, but without the arrays.

        The caller adds them: of what they are given, Flower's adaptive strategies keep a copy.
        """
        return list(self.configure_train(server_round, ArrayRecord(), config, grid))

    def aggregate_mean(
        self, server_round: int, mean: Iterable[Piece], patients: int, sent: Mapping[str, Tensor]
    ) -> Iterator[Piece]:
        """Aggregate updates of which the mean is known, some numbers at a time; the bits are the same.

        Flower is given the mean as if it were the only update: its share is then 1. FedAvg and FedProx would
        give it back as it is, and are spared it. Everything that other strategies do after the mean is done
        number by number, so that it can be done for some of them at a time, with the moments of just those.
        The moments are replaced in place; when a round fails in the middle of this, the strategy is of no use
        any more.

        Parameters
        ----------
        mean
            See :func:`mmfed_server.rounds.spool.mean_of`.
        patients
            Over how many.
        sent
            The weights that the sites were sent.
        """
        if type(self.inner).aggregate_train is FedAvg.aggregate_train:  # of one update the mean is itself
            for piece in mean:
                yield replace(piece, values=np.asarray(piece.values, sent[piece.name].numpy().dtype))
            return
        moments = _Moments.of(self.inner)
        for part in _parts(mean):
            moments.show(self.inner, part, sent)
            keyed = {_key(piece): piece for piece in part}
            arrays = ArrayRecord({key: Array(piece.values) for key, piece in keyed.items()})
            content = update_content(arrays, patients, 0.0)
            after, _ = self.inner.aggregate_train(server_round - 1, [Message(content, 0, m.TRAIN)])
            arrays.clear()  # Flower's records lie in cycles and would outlast the part
            moments.take(self.inner, part)
            for key, array in (after or {}).items():
                kind = sent[keyed[key].name].numpy().dtype
                yield replace(keyed[key], values=np.asarray(array.numpy(), dtype=kind))
            if after is not None:
                after.clear()
        moments.give(self.inner)

    def mean_loss(self, losses: Iterable[tuple[float, int]]) -> float:
        """The mean of (loss, patients) pairs, by Flower's rule for metrics."""
        records = [RecordDict({m.METRICS: MetricRecord({m.NUM_EXAMPLES: n, m.LOSS: x})}) for x, n in losses]
        mean = self.inner.train_metrics_aggr_fn(records, self.inner.weighted_by_key)[m.LOSS]
        return float(mean) if not isinstance(mean, list) else float("nan")

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Pass on."""
        return self.inner.configure_evaluate(server_round, arrays, config, grid)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Pass on."""
        return self.inner.aggregate_evaluate(server_round, replies)

    def summary(self) -> None:
        """Pass on."""
        self.inner.summary()

    def moments(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Flower's ``m_t`` and ``v_t``; empty where the strategy has none or has not stepped yet."""
        if not isinstance(self.inner, FedOpt):
            return {}, {}
        return _tensors(self.inner.m_t), _tensors(self.inner.v_t)

    def set_moments(self, first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> None:
        """Put moments back, as after a resume."""
        if isinstance(self.inner, FedOpt) and first:
            self.inner.m_t = {name: tensor.numpy() for name, tensor in first.items()}
            self.inner.v_t = {name: tensor.numpy() for name, tensor in second.items()}


def update_content(tensors: ArrayRecord, num_examples: int, loss: float) -> RecordDict:
    """The part of an update that Flower's strategies aggregate."""
    metrics = MetricRecord({m.NUM_EXAMPLES: num_examples, m.LOSS: loss})
    return RecordDict({m.ARRAYS: tensors, m.METRICS: metrics})


def _tensors(arrays: Mapping[str, NDArray[Any]] | None) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.asarray(value)) for name, value in (arrays or {}).items()}


def _parts(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    part: list[Piece] = []
    size = 0
    for piece in pieces:
        part.append(piece)
        size += piece.values.nbytes
        if size >= PART_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def _key(piece: Piece) -> str:
    return piece.name if piece.start is None else f"{piece.name}[{piece.start}]"


@dataclass(frozen=True)
class _Moments:
    """The moments of Flower's adaptive strategies, of which the strategy is shown some numbers at a time."""

    first: dict[str, NDArray[Any]]
    second: dict[str, NDArray[Any]]

    @staticmethod
    def of(inner: FedAvg) -> _Moments:
        if not isinstance(inner, FedOpt):
            return _Moments({}, {})
        return _Moments(dict(inner.m_t or {}), dict(inner.v_t or {}))

    def show(self, inner: FedAvg, part: list[Piece], sent: Mapping[str, Tensor]) -> None:
        """Give the strategy the sent weights and the moments of a part, without copying them."""
        if isinstance(inner, FedOpt):
            inner.current_arrays = {_key(piece): piece.of(sent[piece.name].numpy()) for piece in part}
            inner.m_t, inner.v_t = _shown(self.first, part, sent), _shown(self.second, part, sent)

    def take(self, inner: FedAvg, part: list[Piece]) -> None:
        """Take over the moments that the strategy has now for a part."""
        if isinstance(inner, FedOpt):
            for held, found in ((self.first, inner.m_t or {}), (self.second, inner.v_t or {})):
                for piece in part:
                    piece.of(held[piece.name])[...] = found[_key(piece)]

    def give(self, inner: FedAvg) -> None:
        """Leave the strategy with the whole moments, and without the weights."""
        if isinstance(inner, FedOpt):
            inner.current_arrays, inner.m_t, inner.v_t = None, self.first, self.second


def _shown(
    held: dict[str, NDArray[Any]], part: list[Piece], sent: Mapping[str, Tensor]
) -> dict[str, NDArray[Any]]:
    """Moments of a part; they begin as zeros of the mean's type, as Flower's do."""
    for piece in part:
        if piece.name not in held:
            held[piece.name] = np.zeros(tuple(sent[piece.name].shape), piece.values.dtype)
    return {_key(piece): piece.of(held[piece.name]) for piece in part}
