"""Rounds over a large model, each committed: ``python -m …peak_memory SITES STRATEGY MEGABYTES ARRAYS``.

Prints the process's memory before there was any model, its peak, and the bytes of the model.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.app.metadata import Metadata
from tests.server.faulty_federation import StreamedGrid
from tests.simulations.small_federation import small_study, small_topology

from mmfed_common import messages as m
from mmfed_common.schedule import Place
from mmfed_server.database import open_database
from mmfed_server.plan import RunPlan
from mmfed_server.record.catalogue import RunCatalogue
from mmfed_server.record.database_record import DatabaseRecord
from mmfed_server.record.state import RunState
from mmfed_server.rounds.deadline import Deadlines
from mmfed_server.rounds.desk import Desk
from mmfed_server.rounds.heap import bound_heap
from mmfed_server.rounds.past import SitePasts
from mmfed_server.rounds.roster import Roster
from mmfed_server.rounds.strategy import SiteStrategy, flower_strategy
from mmfed_server.rounds.training_round import TrainingRound
from mmfed_simulations.backends.inprocess import FIRST_NODE

ROUNDS = 2


def numbers(seed: int, each: int, arrays: int) -> dict[str, torch.Tensor]:
    """A model of random numbers, which therefore lies in memory and not only in a promise of it."""
    draw = np.random.default_rng(seed)
    return {f"clinical.w{n}": torch.from_numpy(draw.standard_normal(each, np.float32)) for n in range(arrays)}


class Replying(StreamedGrid):
    """Makes each reply when it is asked for, as a server that reads it from its spool."""

    def __init__(self, names: tuple[str, ...], each: int, arrays: int) -> None:
        super().__init__(names, lambda jobs, timeout: {})
        self.each, self.arrays = each, arrays

    def stream(self, messages: Iterable[Message], timeout: float) -> Iterator[Message]:
        """Answer every message with new weights."""
        requests = []
        for number, message in enumerate(messages):
            message.metadata.__dict__["_message_id"] = f"message-{number}"
            requests.append((message.metadata, dict(message.content.config_records[m.CONFIG])))
        return self._answers(requests)

    def _answers(self, requests: list[tuple[Metadata, dict[str, object]]]) -> Iterator[Message]:
        for metadata, config in requests:
            seed = int(str(config[m.ROUND])) * 1000 + metadata.dst_node_id
            draw = np.random.default_rng(seed)
            arrays = ArrayRecord()
            for n in range(self.arrays):  # one by one: what a site sends comes in chunks, too
                arrays[f"clinical.w{n}"] = Array(draw.standard_normal(self.each, np.float32))
            about = {key: config[key] for key in (m.STUDY_HASH, m.ROUND)}
            site = ConfigRecord({**about, m.SITE: self.site_of(metadata.dst_node_id)})  # type: ignore[dict-item]
            metrics = MetricRecord({m.NUM_EXAMPLES: 20, m.LOSS: 0.5, m.SECONDS: 1.0})
            request = Message(RecordDict(), metadata.dst_node_id, m.TRAIN)
            request.metadata.__dict__["_message_id"] = metadata.message_id
            reply = Message(
                RecordDict({m.ARRAYS: arrays, m.METRICS: metrics, m.ABOUT: site}), reply_to=request
            )
            del arrays, request
            yield reply
            del reply


def memory(field: str) -> int:
    """Bytes that the process has (``VmRSS``) or had at most (``VmHWM``)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise LookupError(field)


def main(sites: int, strategy: str, megabytes: int, arrays: int) -> None:
    """Run some rounds, and commit each."""
    bound_heap()
    each = megabytes * 1_000_000 // 4 // arrays
    study = small_study(aggregation={"strategy": strategy})
    names = tuple(f"site-{n:02d}" for n in range(sites))
    folder = Path(tempfile.mkdtemp())
    desk = Desk(
        Replying(names, each, arrays),
        RunPlan(study, names, small_topology(study), folder),
        Deadlines(60.0),
    )
    roster = Roster(study, names)
    roster.refresh = lambda desk, number: []  # type: ignore[method-assign,misc,assignment]
    roster.node_of = {name: FIRST_NODE + n for n, name in enumerate(names)}
    roster.patients = dict.fromkeys(names, 20)
    engine = open_database(f"sqlite:///{folder / 'runs.sqlite'}")
    run = RunCatalogue(engine).begin(study)
    record = DatabaseRecord(engine, run, folder)
    record.rewind(None)
    past = SitePasts({}, {})
    strategy_of_stage = SiteStrategy(flower_strategy(study.aggregation, Place.of(study.training, 1).stage))
    before = memory("VmRSS")
    state = RunState(study.hash, 1, numbers(0, each, arrays))
    for number in range(1, ROUNDS + 1):
        training = TrainingRound(
            study,
            desk,
            roster,
            strategy_of_stage,
            Place.of(study.training, number),
            past,
            record.spool(),
            lambda name: "clinical",
            frozenset(),
            lambda attempt, refusals: None,
        )
        outcome = training.run(state.weights, {})
        assert len(outcome.accepted) == sites, outcome.refusals
        training.close()
        past.add(outcome.accepted)
        state.weights = outcome.weights
        del outcome
        state.first_moment, state.second_moment = strategy_of_stage.moments()
        state.next_round = number + 1
        record.commit(state)
    del state, training, strategy_of_stage  # who reads a state is a process that has just begun
    state_again = DatabaseRecord(engine, run, folder).load()
    assert state_again is not None
    print(before, memory("VmHWM"), each * 4 * arrays)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
