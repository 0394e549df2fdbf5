"""A round over a model of 64 MB: ``python -m …peak_memory SITES STRATEGY`` prints memory before and peak."""

from __future__ import annotations

import resource
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from tests.server.faulty_federation import StreamedGrid
from tests.simulations.small_federation import small_study, small_topology

from mmfed_common import messages as m
from mmfed_common.arrays import to_record
from mmfed_common.schedule import Place
from mmfed_server.plan import RunPlan
from mmfed_server.rounds.deadline import Deadlines
from mmfed_server.rounds.desk import Desk
from mmfed_server.rounds.past import SitePasts
from mmfed_server.rounds.roster import Roster
from mmfed_server.rounds.strategy import SiteStrategy, flower_strategy
from mmfed_server.rounds.training_round import TrainingRound
from mmfed_simulations.backends.inprocess import FIRST_NODE

ARRAYS = 16
NUMBERS = 1_000_000


class Replying(StreamedGrid):
    """Makes each reply when it is asked for, as a server that reads it from its spool."""

    def stream(self, messages: Iterable[Message], timeout: float) -> Iterator[Message]:
        """Answer every message with new weights."""
        requests = []
        for number, message in enumerate(messages):
            message.metadata.__dict__["_message_id"] = f"message-{number}"
            config = dict(message.content.config_records[m.CONFIG])
            requests.append((message.metadata, config))
            del message
        for metadata, config in requests:
            arrays = {f"clinical.w{n}": torch.randn(NUMBERS) for n in range(ARRAYS)}
            site = self.site_of(metadata.dst_node_id)
            about = {m.STUDY_HASH: config[m.STUDY_HASH], m.ROUND: config[m.ROUND], m.SITE: site}
            metrics = MetricRecord({m.NUM_EXAMPLES: 20, m.LOSS: 0.5, m.SECONDS: 1.0})
            content = {m.ARRAYS: to_record(arrays), m.METRICS: metrics, m.ABOUT: ConfigRecord(about)}
            del arrays
            request = Message(RecordDict(), metadata.dst_node_id, m.TRAIN)
            request.metadata.__dict__["_message_id"] = metadata.message_id
            reply = Message(RecordDict(content), reply_to=request)
            del content
            yield reply
            del reply


def main(sites: int, strategy: str) -> None:
    """Run one round and print the peak of the process's memory in bytes, and that before the round."""
    study = small_study(aggregation={"strategy": strategy})
    names = tuple(f"site-{n:02d}" for n in range(sites))
    grid = Replying(names, lambda jobs, timeout: {})
    folder = Path(tempfile.mkdtemp())
    desk = Desk(grid, RunPlan(study, names, small_topology(study), folder), Deadlines(60.0))
    roster = Roster(study, names)
    roster.node_of = {name: FIRST_NODE + n for n, name in enumerate(names)}
    roster.patients = dict.fromkeys(names, 20)
    place = Place.of(study.training, 1)
    weights = {f"clinical.w{n}": torch.zeros(NUMBERS) for n in range(ARRAYS)}
    flower = SiteStrategy(flower_strategy(study.aggregation, place.stage))
    past = SitePasts({}, {})
    training = TrainingRound(
        study,
        desk,
        roster,
        flower,
        place,
        past,
        folder,
        lambda name: "clinical",
        lambda attempt, refusals: None,
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    outcome = training.run(weights, {})
    training.close()
    print(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, len(outcome.accepted))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
