"""A coordinator that holds every key of its federation and says what it likes, and a real site before it."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from flwr.app import Message
from starlette.types import Receive, Scope, Send

from mmfed_client.approval import approve
from mmfed_client.enrolment import join
from mmfed_client.home import SiteHome
from mmfed_client.ledger import Entry, Ledger
from mmfed_client.signed_files import keep_signed
from mmfed_common.portal_protocol import OFFER_PATH
from mmfed_common.signed_study import SignedStudy
from mmfed_common.study import Study
from mmfed_server.database import open_database
from mmfed_server.federation import Federation, Offers, SiteRegistry
from mmfed_server.link.grid import LinkGrid
from mmfed_server.link.http import answer
from mmfed_server.link.link import Link
from mmfed_server.portal import make_portal
from mmfed_simulations.processes.programs import Program, free_port, wait_until

FEDERATION, SITE = "lab", "north"
POLICY = 'require_privacy = false\nmost_rounds = 500\nstrategies = ["fedavg", "fedprox"]\n'
SECONDS = 90.0


class HostileCoordinator:
    """Serves one federation on loopback, over its own certificate; use as a context manager.

    Attributes
    ----------
    offer
        The bytes that answer a question for the study on offer; None: what an honest portal says.
    asked
        How often they were given since they were set.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        address = f"127.0.0.1:{self.port}"
        self.federation = Federation.create(folder / "federation", FEDERATION, address, listen=address)
        self.offer: bytes | None = None
        self.asked = 0
        self._stack = ExitStack()

    def __enter__(self) -> HostileCoordinator:
        engine = open_database(self.federation.database_url)
        self._stack.callback(engine.dispose)
        self.registry = SiteRegistry(engine)
        self._portal = make_portal(self.federation, self.registry, Offers(self.federation))
        listen, held = self.federation.listen, self.federation.certificates
        self.link = self._stack.enter_context(Link(listen, held, self.federation.spool, self._answer))
        self.grid: LinkGrid = self.link.grid()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.offer is None or scope["path"] != OFFER_PATH:
            await self._portal(scope, receive, send)
            return
        self.asked += 1
        await answer(send, 200, self.offer, "application/json")

    def sign(self, study: Study, days: int = 30) -> SignedStudy:
        """Sign a study as an honest coordinator would."""
        return SignedStudy.sign(study, self.federation.coordinator_key, FEDERATION, days)

    def site(self, cohort: Path | None = None) -> HostedSite:
        """Let a site join over the network, as an honest coordinator would, and let its key in."""
        kit = self.federation.write_kit(self.federation.kit(self.registry.invite(SITE)))
        home = SiteHome(self.folder / "home")
        join(kit, home, cohort)
        home.policy_file.write_text(POLICY)
        self.link.set_sites(self.registry.keys())
        return self._stack.enter_context(HostedSite(home))

    def ask(self, message: Message, seconds: float = SECONDS) -> Message | None:
        """Send a message to the site; its answer, or None when there was none in time."""
        message.metadata.__dict__["_dst_node_id"] = self.node
        return next(iter(self.grid.stream([message], seconds)), None)

    @property
    def node(self) -> int:
        """The number of the site's node; waits until it is connected."""
        wait_until(lambda: SITE in self.link.online(), SECONDS, "the site's coming")
        return self.link.online()[SITE]


class HostedSite:
    """A real site's program beside its home."""

    def __init__(self, home: SiteHome) -> None:
        self.home = home
        self._program: Program | None = None

    def __enter__(self) -> HostedSite:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._program is not None:
            self._program.stop()

    def start(self) -> None:
        """Start the program that takes part."""
        words = [sys.executable, str(Path(__file__).with_name("impatient_site.py")), str(self.home.path)]
        self._program = Program(words, self.home.path / "program.log", {"OMP_NUM_THREADS": "1"})

    def approve(self, signed: SignedStudy) -> None:
        """Approve a study, as a person would."""
        keep_signed(self.home, signed)
        approve(self.home, Ledger(self.home.ledger_file), signed, "Ada")

    def entries(self, kind: str = "") -> list[Entry]:
        """What stands in the ledger."""
        found = Ledger(self.home.ledger_file).entries() if self.home.ledger_file.exists() else ()
        return [entry for entry in found if kind in ("", entry.kind)]

    def updates(self) -> list[Entry]:
        """Receipts of everything that left and was no error."""
        return [entry for entry in self.entries("receipt") if "error" not in entry.body]

    def status(self) -> dict[str, Any]:
        """What the program says about itself."""
        try:
            return dict(json.loads(self.home.status_file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return {}

    def log(self) -> list[dict[str, Any]]:
        """The entries of its log."""
        text = self.home.log_file.read_text(encoding="utf-8") if self.home.log_file.exists() else ""
        return [json.loads(line) for line in text.splitlines()]
