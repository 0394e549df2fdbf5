"""Keeps the server in step with its folder: who may speak, who is there, which certificate is shown."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol

from mmfed_common.errors import MmfedError
from mmfed_common.names import utc_now
from mmfed_server.coordinator.board import Board
from mmfed_server.federation import Federation, SiteRecord, SiteRegistry
from mmfed_server.logs import tell
from mmfed_server.monitoring import Metrics

TICK_SECONDS = 1.0
CERTIFICATE_SECONDS = 20.0
SEEN_SECONDS = 60.0
END_SECONDS = 10.0
"""How long the end waits for a look; one that a disk or a database holds up must not hold up the end."""


class Port(Protocol):
    """What is kept in step; :class:`mmfed_server.link.Link` is one."""

    def set_sites(self, sites: Mapping[str, bytes]) -> None:
        """Say who may speak: site → public key PEM."""

    def online(self) -> dict[str, int]:
        """Site → node of those that are there."""

    def reload_certificates(self) -> bool:
        """Show the certificate that is now in its file; tells whether it is another."""


class Keeper:
    """A thread that looks once a second; use as a context manager.

    Parameters
    ----------
    federation, registry
        What is to hold.
    port
        What is kept in step.
    board, metrics
        Where what was seen is told.
    """

    def __init__(
        self, federation: Federation, registry: SiteRegistry, port: Port, board: Board, metrics: Metrics
    ) -> None:
        self.federation, self.registry, self.port = federation, registry, port
        self.board, self.metrics = board, metrics
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="keeper", daemon=True)
        self._keys: dict[str, bytes] = {}
        self._active: frozenset[str] = frozenset()
        self._invited: frozenset[str] = frozenset()
        self._online: frozenset[str] = frozenset()
        self._software: dict[str, list[str]] = {}
        self._certificate_due = 0.0
        self._warned: list[str] = []
        self._seen_due = 0.0
        self._trouble = ""

    def __enter__(self) -> Keeper:
        """Look once, so that sites can speak at once, then begin to watch.

        Raises
        ------
        MmfedError
            When the registry or the certificates cannot be read.
        """
        self.look()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join(END_SECONDS)

    def expected(self) -> frozenset[str]:
        """Sites to wait for a little before a run begins: those that may take part, and those invited."""
        return self._active | self._invited

    def note_software(self, site: str, differences: list[str]) -> None:
        """Keep how a site's software differs from ours, and say so once."""
        if differences and self._software.get(site) != differences:
            tell("software differs", logging.WARNING, site=site, differences=differences)
        self._software[site] = differences

    def look(self) -> None:
        """Look once.

        Raises
        ------
        MmfedError, OSError
            When something cannot be read or written.
        """
        records = self.registry.all()
        self._apply_keys({r.name: r.public_key for r in records if r.state == "enrolled" and r.public_key})
        self._active = frozenset(name for name in self._keys if not _quarantined(records, name))
        self._invited = frozenset(record.name for record in records if record.state == "invited")
        self._apply_online(frozenset(self.port.online()) & set(self._keys))
        self.metrics.set_sites(self._keys, self._online)
        self.board.note(sites=[self._row(record) for record in records])
        if time.monotonic() >= self._certificate_due:
            self._look_at_certificates()
            self._certificate_due = time.monotonic() + CERTIFICATE_SECONDS
        if self.port.reload_certificates():  # whoever wrote it
            tell("server certificate reloaded")
        self.board.write()

    def _loop(self) -> None:
        while not self._end.wait(TICK_SECONDS):
            try:
                self.look()
            except (MmfedError, OSError) as error:
                self._tell_trouble(f"{type(error).__name__}: {error}".splitlines()[0])
            except Exception:  # the thread must outlive a defect; the log has the traceback
                logging.getLogger(__name__).exception("the keeper met a defect")
            else:
                self._tell_trouble("")

    def _tell_trouble(self, trouble: str) -> None:
        if trouble != self._trouble:
            tell("keeper", logging.ERROR if trouble else logging.INFO, trouble=trouble or "over")
        self._trouble = trouble

    def _apply_keys(self, keys: dict[str, bytes]) -> None:
        if keys == self._keys:
            return
        self.port.set_sites(keys)
        for site in sorted(keys.keys() | self._keys.keys()):
            if site not in self._keys:
                tell("site may speak", site=site)
            elif site not in keys:
                tell("site may no longer speak", logging.WARNING, site=site)
            elif keys[site] != self._keys[site]:
                tell("site has another key", site=site)
        self._keys = keys

    def _apply_online(self, online: frozenset[str]) -> None:
        for site in sorted(online - self._online):
            tell("site is there", site=site)
        for site in sorted(self._online - online):
            tell("site is gone", logging.WARNING, site=site)
        due = time.monotonic() >= self._seen_due
        for site in sorted(online if due else online ^ self._online):
            self.registry.note_seen(site)
        if due:
            self._seen_due = time.monotonic() + SEEN_SECONDS
        self._online = online

    def _row(self, record: SiteRecord) -> dict[str, Any]:
        return {
            "site": record.name,
            "state": record.state,
            "online": record.name in self._online,
            "quarantined": record.quarantined_code or "",
            "refused": record.refused_code or "" if record.refusals_in_row else "",
            "refusals_in_row": record.refusals_in_row,
            "software": self._software.get(record.name, []),
        }

    def _look_at_certificates(self) -> None:
        now = utc_now()
        warnings = []
        try:
            if self.federation.renew_if_due(now):
                tell("server certificate renewed")
        except MmfedError as error:
            warnings.append(f"The server's certificate could not be renewed: {error.code} {error.what}.")
        warnings += self.federation.certificate_warnings(now)
        for warning in warnings:
            if warning not in self._warned:
                tell("certificate", logging.WARNING, warning=warning)
        self._warned = warnings
        left = self.federation.server_certificate.not_valid_after_utc - now
        self.metrics.set_certificate_days(left.total_seconds() / 86400)
        self.board.note(warnings=warnings)


def _quarantined(records: list[SiteRecord], name: str) -> bool:
    return any(record.name == name and record.quarantined_code for record in records)
