"""A site that sends, round after round, what it is told to: ``PLAN start --home DIR``.

PLAN is a file of names of :data:`tests.e2e.hostile_deeds.DEEDS`, one a line; an empty line is a good update,
and so is all that comes after the last. What was sent in which round is written beside it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.e2e.changed_node import run_changed, start_changed

if TYPE_CHECKING:
    from mmfed_simulations.processes.federation import Federation

MODULE = "tests.e2e.hostile_site"


@dataclass(frozen=True)
class Sent:
    """What was sent in a round, and the code that the question named: why the last update was refused."""

    round: int
    deed: str
    heard: str


class Plan:
    """What is to be sent, and what was."""

    def __init__(self, file: Path) -> None:
        self.file, self._sent = file, file.with_suffix(".sent")

    def write(self, deeds: Sequence[str]) -> None:
        """Say what to send; an empty name is a good update."""
        self.file.write_text("".join(f"{deed}\n" for deed in deeds), encoding="utf-8")

    def sent(self) -> list[Sent]:
        """Everything that was sent, in order."""
        if not self._sent.exists():
            return []
        lines = self._sent.read_text(encoding="utf-8").splitlines()
        return [Sent(**json.loads(line)) for line in lines]

    def next(self) -> str:
        """What to send now."""
        deeds, done = self.file.read_text(encoding="utf-8").splitlines(), len(self.sent())
        return deeds[done] if done < len(deeds) else ""

    def note(self, sent: Sent) -> None:
        """Write down what was sent."""
        with open(self._sent, "a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(sent)) + "\n")


def start_hostile(federation: Federation, site: str, plan: Plan) -> None:
    """Start a site that follows a plan."""
    start_changed(federation, site, MODULE, str(plan.file))


def follow(plan: Plan) -> None:
    """Let the node of this process follow a plan in its answers to training."""
    from flwr.app import Message
    from tests.e2e.hostile_deeds import DEEDS, Sending

    from mmfed_client.fleet.connection import FleetConnection, Incoming
    from mmfed_client.node import reports as r
    from mmfed_client.node import serve
    from mmfed_common import messages as m

    class HostileNode(serve.Node):
        earlier: Message

        def _answer(self, link: FleetConnection, incoming: Incoming) -> None:
            if incoming.message.metadata.message_type != m.TRAIN:
                super()._answer(link, incoming)
                return
            deed, config = plan.next(), incoming.message.content.config_records[m.CONFIG]
            sent = Sent(int(str(config[m.ROUND])), deed, str(config.get(m.NOTICE, "")))
            reply = self._reply(link, incoming)
            if deed:
                DEEDS[deed].send(Sending(link, incoming, reply, self._prepared.key, self.earlier))
            else:
                self.earlier = reply
                link.send(incoming, reply)
            plan.note(sent)
            self._reports.tell(r.HEARTBEAT)

    serve.Node = HostileNode  # type: ignore[misc]


if __name__ == "__main__":
    own = sys.argv[1:2]
    run_changed(MODULE, own, lambda: follow(Plan(Path(own[0]))))
