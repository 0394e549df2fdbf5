"""Random kills of the processes of a running federation, and what each cost."""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass, field

from mmfed_simulations.processes.federation import Federation
from mmfed_simulations.processes.programs import wait_until

BACK_SECONDS = 180.0
LONGEST_WAIT = 1.0
"""Seconds from the return of all to the next kill: about a round, so that every part of a round is hit."""
TARGETS = ("server", "site", "both")


@dataclass
class Kills:
    """What was done to one run.

    Attributes
    ----------
    done
        Who was killed and in which round, in order.
    repeated
        How often a round was trained once more, by the site where that was most often.
    """

    done: list[tuple[str, int]] = field(default_factory=list)
    repeated: int = 0


def kill_at_random(federation: Federation, kills: int, seed: int) -> Kills:
    """Kill the server, a site, or both, at random moments; restart at once, as systemd would; go on.

    Each kill waits until the run has committed a round since the last one, so that every kill meets a
    running federation. Ends when the run has, or after so many kills.
    """
    draw = random.Random(seed)
    record = Kills()
    reached = 0
    while len(record.done) < kills:
        wait_until(lambda: _moved(federation, reached), BACK_SECONDS, "the next round")  # noqa: B023
        time.sleep(draw.uniform(0.0, LONGEST_WAIT))
        status = federation.status()
        if status["state"] == "finished":
            break
        target = TARGETS[len(record.done) % len(TARGETS)]
        site = draw.choice(sorted(federation.sites))
        reached = int(status["round"])
        if target in ("server", "both") and federation.server is not None:
            federation.server.kill()
        if target in ("site", "both"):
            federation.sites[site].kill()
        record.done.append((target if target == "server" else f"{target} ({site})", reached + 1))
        if target in ("server", "both"):
            federation.start_server()
        if target in ("site", "both"):
            federation.start_site(site)
    return record


def repeats(federation: Federation) -> int:
    """How often a round was trained once more, at the site where that happened most."""
    most = 0
    for site in federation.cohorts:
        trained = Counter(
            entry.body["round"]
            for entry in federation.ledger(site)
            if entry.kind == "receipt" and entry.body["kind"] == "train" and "error" not in entry.body
        )
        most = max(most, sum(count - 1 for count in trained.values()))
    return most


def _moved(federation: Federation, reached: int) -> bool:
    status = federation.status()
    return bool(status["state"] == "finished" or (status["served"] and status["round"] > reached))
