"""The Flower apps of the comparison: the arrays of the model go down, come back changed, and are averaged.

Nothing is trained, so that a round's whole time is what the platform takes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

client_app = ClientApp()
server_app = ServerApp()


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """Answer with changed arrays."""
    arrays = message.content.array_records["arrays"].to_numpy_ndarrays()
    step = np.float32(1e-3 * (1 + context.node_id % 997))  # equal arrays would be sent once for all sites
    content = RecordDict(
        {
            "arrays": ArrayRecord([array + step for array in arrays]),
            "metrics": MetricRecord({"loss": 1.0, "num-examples": 20}),
        }
    )
    return Message(content, reply_to=message)


class TimedFedAvg(FedAvg):
    """Flower's FedAvg that notes when each round was aggregated."""

    times: list[float]

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Aggregate and note the time."""
        result: tuple[ArrayRecord | None, MetricRecord | None] = super().aggregate_train(
            server_round, replies
        )
        self.times.append(time.time())
        return result


@server_app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds and write the time of each aggregation to the file that the run names."""
    config = context.run_config
    shapes: list[list[int]] = json.loads(Path(str(config["shapes"])).read_text())
    generator = np.random.default_rng(1)
    arrays = [generator.standard_normal(tuple(shape), dtype=np.float32) for shape in shapes]
    sites = int(config["sites"])
    strategy = TimedFedAvg(fraction_evaluate=0.0, min_train_nodes=sites, min_available_nodes=sites)
    strategy.times = [time.time()]
    strategy.start(grid, ArrayRecord(arrays), num_rounds=int(config["rounds"]), timeout=600)
    Path(str(config["times"])).write_text(json.dumps(strategy.times))
