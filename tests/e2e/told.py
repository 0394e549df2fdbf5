"""What both ``status`` commands tell of an event, and how soon."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from tests.e2e.test_people import SECONDS

from mmfed_simulations.processes.federation import Federation
from mmfed_simulations.processes.programs import wait_until

TOLD_SECONDS = 60.0


class Told:
    """What both programs say, asked as a person asks, and how soon after the event."""

    def __init__(self, federation: Federation) -> None:
        self.federation = federation
        self.lines: list[str] = []
        self._began: dict[str, float] = {}

    def server(self) -> dict[str, Any]:
        return self._say("mmfed-server", "--dir", str(self.federation.home))

    def site(self, site: str) -> dict[str, Any]:
        return self._say("mmfed-client", "--home", str(self.federation.site_home(site)))

    def within(self, what: str, sees: Callable[[], str]) -> None:
        """Wait until something is told.

        Parameters
        ----------
        what
            ``EVENT, WHO TELLS``; the time counts from the first call about an event.
        sees
            Gives what was told, or nothing.
        """
        began, seen = self._began.setdefault(what.split(",")[0], time.monotonic()), ""
        while not seen:
            late = time.monotonic() - began > TOLD_SECONDS  # when it is asked
            seen = sees()
            assert seen or not late, (
                f"{what}: {self.server()}, {[self.site(s) for s in self.federation.sites]}"
            )
            time.sleep(0.0 if seen else 0.5)
        self.lines.append(f"{what}: {seen}, after {time.monotonic() - began:.0f} s")

    def _say(self, program: str, *words: str) -> dict[str, Any]:
        done = self.federation.call(program, "status", "--json", *words)
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))


def with_cause(status: dict[str, Any], *codes: str) -> str:
    """Code and state, when the code is one of these and a cause and a next step stand beside it."""
    told = status["code"] in codes and (status.get("cause") or status.get("reason")) and status["next_step"]
    return f"{status['code']} {status['state']}" if told else ""


def missing(status: dict[str, Any], site: str) -> str:
    """How the server names a site that is away, or that the round waits for."""
    reason = status["details"].get("refused", {}).get(site, "")
    return f"{status['state']}, {site}: {reason or 'missing'}" if reason or site in status["missing"] else ""


def goes_on(federation: Federation) -> None:
    """Wait until the run has committed a further round."""
    reached = federation.status()["round"]
    wait_until(lambda: federation.status()["round"] > reached, SECONDS, "a further round")
