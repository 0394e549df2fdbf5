"""The supervisor: one process that lives as long as the site takes part, and holds one node at a time.

It starts the node when someone approved the study that is offered, starts it again for ever when it dies,
and ends it within seconds when approval, policy, key or study no longer allow it. It never trains itself.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from mmfed_client.home import SiteHome
from mmfed_client.logs import LogFile, about
from mmfed_client.node import reports as r
from mmfed_client.status import State, Status, StatusFile
from mmfed_client.supervisor.backoff import Backoff
from mmfed_client.supervisor.child import NodeProcess
from mmfed_client.supervisor.lock import NodeLock
from mmfed_client.supervisor.offers import INTERVAL_SECONDS, SLOW_SECONDS, Answer, OfferWatch
from mmfed_client.supervisor.patience import Patience
from mmfed_client.supervisor.permission import Decision, Permission, Stamp
from mmfed_client.supervisor.reading import after_answer, after_report, begun
from mmfed_common.errors import MachineError, MmfedError
from mmfed_common.signed_study import SignedStudy

logger = logging.getLogger(__name__)

TICK_SECONDS = 0.25
LIVED_SECONDS = 10.0
"""A node that was connected and lived so long is started again at once when it dies."""

ERRORS_FILE = "node.err"

OF_ANOTHER_STUDY = ("MMF-332", "MMF-405")
"""How a node refuses a message about another study than its own: the coordinator may have gone on to it."""

Listener = Callable[[Status], None]
Event = Answer | tuple[int, dict[str, Any] | None]


@dataclass(frozen=True)
class Settings:
    """What the supervisor is started with.

    Attributes
    ----------
    passphrase
        Of the site's key.
    tick
        Seconds between two looks at what is allowed.
    """

    passphrase: str | None = None
    tick: float = TICK_SECONDS


class Supervisor:
    """Keeps a site taking part.

    Parameters
    ----------
    home
        A home that has joined.
    ask
        Asks the coordinator which study it offers.
    listener
        Called with every new status, e.g. to print it or to show it as metrics.
    """

    def __init__(
        self,
        home: SiteHome,
        ask: Callable[[], SignedStudy | None],
        settings: Settings | None = None,
        listener: Listener | None = None,
    ) -> None:
        self.home = home
        self.settings = settings or Settings()
        config = home.config
        self._status = Status(config.site, config.federation)
        self._file = StatusFile(home.status_file)
        self._listener = listener
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._offers = OfferWatch(ask, self._events.put, INTERVAL_SECONDS)
        self._permission = Permission(home, self.settings.passphrase)
        self._backoff = Backoff()
        self._node: NodeProcess | None = None
        self._patience = Patience(0.0)
        self._grounds: Stamp = ()
        self._connected = False
        self._explained = False
        self._try_at = 0.0
        self._stop = threading.Event()

    def stop(self) -> None:
        """Ask the supervisor to end; may be called from a signal handler."""
        self._stop.set()

    def run(self) -> None:
        """Take part until :meth:`stop`.

        Raises
        ------
        MachineError
            ``MMF-110`` when a node of this home runs already, ``MMF-112`` when the home cannot be written.
        """
        with NodeLock(self.home.lock_file) as lock:
            log = LogFile(self.home.log_file)
            log.take_over()
            self._log = log
            self._lock = lock
            logger.info("the site's program begins")
            self._offers.start()
            try:
                while not self._stop.is_set():
                    self._consider()
                    self._wait()
            finally:
                self._offers.end()
                self._end_node("the program ends")
                self._show(self._status.entered(State.stopped, node_pid=0, doing=""))
                logger.info("the site's program ends")
                log.close()

    def _consider(self) -> None:
        """Compare what runs with what may run."""
        decision = self._permission.decide()
        if self._node is not None:
            if decision.study is None:
                self._end_node(decision.code)
            elif (decision.study_hash, decision.grounds) != (self._node.study_hash, self._grounds):
                self._end_node("the study, the key or site.toml is another now")
            else:
                self._kill_if_hung(self._node)
        if decision.study is None:
            self._show(self._described(decision).entered(decision.state, decision.code, decision.cause))
        elif self._node is None and time.monotonic() >= self._try_at:
            self._start_node(decision)
        self._offers.interval = SLOW_SECONDS if self._connected else INTERVAL_SECONDS

    def _wait(self) -> None:
        """Take every event that is there; wait for one, but not longer than a tick."""
        try:
            event = self._events.get(timeout=self.settings.tick)
            while True:
                self._take(event)
                event = self._events.get_nowait()
        except queue.Empty:
            return

    def _take(self, event: Event) -> None:
        if isinstance(event, Answer):
            self._permission.offered(event)
            self._show(after_answer(self._status, event.error))
            return
        pid, report = event
        if self._node is None or pid != self._node.pid:
            self._keep_log(report)
            return
        self._patience.heard()
        if report is None:
            self._node_ended(self._node)
        elif report["event"] == r.LOG:
            self._keep_log(report)
        else:
            self._connected |= report["event"] == r.CONNECTED
            if report["event"] == r.REFUSED and report.get("code") in OF_ANOTHER_STUDY:
                self._offers.ask_now()
            self._explained |= report["event"] == r.ENDED
            self._show(after_report(self._status, report))

    def _start_node(self, decision: Decision) -> None:
        assert decision.study is not None
        self._connected = self._explained = False
        restarts = self._status.restarts + 1 if self._status.node_pid else self._status.restarts
        try:
            self._node = NodeProcess(
                self.home.path,
                decision.study_hash,
                self.settings.passphrase,
                self.home.state / ERRORS_FILE,
                self._lock.descriptor,
                lambda pid, report: self._events.put((pid, report)),
            )
        except OSError as error:
            what = f"the node's process cannot be started: {error.strerror}"
            self._failed(MachineError("MMF-112", what, str(self.home.state)))
            return
        self._grounds = decision.grounds
        self._patience = Patience(decision.study.aggregation.deadline_seconds)
        logger.info("the node starts", extra=about(study=decision.study_hash, process=self._node.pid))
        status = self._described(decision)
        self._show(begun(status, State.opening, node_pid=self._node.pid, restarts=restarts))

    def _kill_if_hung(self, node: NodeProcess) -> None:
        silent = self._patience.exhausted(self._status.state)
        if silent:
            node.kill()
            self._node = None
            self._failed(MachineError("MMF-120", f"nothing was heard of it for {silent:.0f} s"))

    def _end_node(self, why: str) -> None:
        if self._node is None:
            return
        logger.info("the node is ended: %s", why, extra=about(process=self._node.pid))
        self._node.stop()
        self._node = None
        self._connected = False
        self._try_at = 0.0

    def _node_ended(self, node: NodeProcess) -> None:
        """The node ended by itself: say why, and when it is tried again."""
        code = node.kill()
        self._node = None
        if self._connected and time.monotonic() - node.started >= LIVED_SECONDS:
            self._backoff.worked()
        self._connected = False
        if self._explained:
            self._failed(None)
            return
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        self._failed(MachineError("MMF-111", f"it ended with {how}", str(self.home.state / ERRORS_FILE)))

    def _failed(self, error: MmfedError | None) -> None:
        seconds = self._backoff.failed()
        self._try_at = time.monotonic() + seconds
        status = self._status
        if error is not None:
            status = status.troubled(State.trying_again, error)
        attempts = self._backoff.failures
        self._show(status.entered(State.trying_again, status.code, status.cause, attempts=attempts, doing=""))
        text = "the node ended; it is started again in %.0f s"
        logger.warning(text, seconds, extra=about(code=status.code, attempt=attempts))

    def _described(self, decision: Decision) -> Status:
        """The status, about the study that was looked at."""
        status, same = self._status, decision.study_hash == self._status.study_hash
        return replace(
            status,
            study=decision.name or (status.study if same else ""),
            study_hash=decision.study_hash,
            offered=decision.offered,
            round=status.round if same else 0,
            rounds=decision.study.training.rounds if decision.study else status.rounds if same else 0,
            doing="",
            node_pid=self._status.node_pid if self._node is not None else 0,
        )

    def _keep_log(self, report: dict[str, Any] | None) -> None:
        if report is not None and isinstance(report.get("entry"), dict):
            self._log.add(report["entry"])

    def _show(self, status: Status) -> None:
        if (status.state, status.code) != (self._status.state, self._status.code):
            logger.info("%s", status.state.value, extra=about(state=status.state.name, code=status.code))
        self._status = replace(status, pid=os.getpid())
        self._file.write(self._status)
        if self._listener is not None:
            self._listener(self._status)
