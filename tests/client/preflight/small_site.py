"""A site of a real federation over real TLS on loopback, whole and clean until a test spoils it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp
from tests.client.cohort.conftest import CONTRACT, SmallCohort

from mmfed_client.approval import approve
from mmfed_client.enrolment import join
from mmfed_client.home import SiteHome
from mmfed_client.ledger import Ledger
from mmfed_client.preflight import Finding, Limits, State, Subject, all_findings, check_site
from mmfed_common.names import utc_now
from mmfed_common.signed_study import SignedStudy
from mmfed_common.study import Study
from mmfed_server.federation import Federation, Offers, SiteRegistry

STUDY: dict[str, Any] = {
    "study": {"name": "small", "seed": 7},
    "contract": CONTRACT,
    "model": {"hidden": 8, "heads": 2, "layers": 1, "fusion_layers": 1},
    "training": {
        "stages": [
            {"level": "clinical", "rounds": 2},
            {"level": "full", "rounds": 2, "learning_rate": 0.005},
        ],
        "batch": 8,
        "local_epochs": 2,
    },
}
POLICY = "require_privacy = false\n"
SITE = "south"


@dataclass
class Coordinator:
    """A coordinator whose portal answers; `wrap` may be set to stand between the portal and a site."""

    federation: Federation
    registry: SiteRegistry
    offers: Offers
    wrap: Callable[[ASGIApp], ASGIApp] = field(default=lambda app: app)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.federation.address.rpartition(":")[2])

    def sign(self, study: Study, days: int = 90, now: datetime | None = None) -> SignedStudy:
        """Sign a study."""
        federation = self.federation
        return SignedStudy.sign(study, federation.coordinator_key, federation.name, days, now)


@dataclass
class Site:
    """A site that is ready; tests change its files, its environment or the server and check again."""

    home: SiteHome
    cohort: SmallCohort
    coordinator: Coordinator
    content: dict[str, Any] = field(default_factory=lambda: json.loads(json.dumps(STUDY)))
    limits: Limits = field(default_factory=lambda: Limits(connect_seconds=15.0))
    ahead: timedelta = timedelta(0)
    given: Path | None = None
    offered: bool = False

    @staticmethod
    def joined(folder: Path, coordinator: Coordinator, name: str = SITE) -> Site:
        """Join and write the cohort."""
        folder.mkdir(parents=True, exist_ok=True)
        tables = folder / "tables"
        tables.mkdir()
        known = {record.name for record in coordinator.registry.all()}
        if name in known:
            coordinator.registry.revoke(name)
        kit = coordinator.federation.write_kit(
            coordinator.federation.kit(coordinator.registry.invite(name)), folder / "site.kit"
        )
        site = Site(SiteHome(folder / "home"), SmallCohort(tables), coordinator)
        join(kit, site.home, tables / "cohort.toml")
        site.home.policy_file.write_text(POLICY)
        site.home.policy_file.chmod(0o600)
        return site

    @property
    def study(self) -> Study:
        """The study as its content stands now."""
        return Study.from_content(self.content)

    def write(self) -> Site:
        """Write the tables."""
        self.cohort.write()
        return self

    def approve(self, days: int = 90, now: datetime | None = None) -> SignedStudy:
        """Let the coordinator sign the study and the site approve it."""
        signed = self.put_study(days, now)
        approve(self.home, Ledger(self.home.ledger_file), signed, "Ann Able", now=now)
        return signed

    def put_study(self, days: int = 90, now: datetime | None = None) -> SignedStudy:
        """Let the coordinator sign the study, and keep it at the site."""
        signed = self.coordinator.sign(self.study, days, now)
        self.home.study_file(signed.hash).write_text(signed.to_json())
        self.home.study_file(signed.hash).chmod(0o600)
        return signed

    def edit_config(self, **values: str) -> None:
        """Change keys of site.toml."""
        content = self.home.config.model_dump() | values
        text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in content.items())
        self.home.config_file.write_text(text)

    def check(self, *only: str, isolate: bool = False, seconds: float = 55.0) -> list[Finding]:
        """Check the site."""
        subject = Subject(self.home, self.given, self.limits, lambda: utc_now() + self.ahead)
        return all_findings(check_site(subject, only, seconds, isolate=isolate))


def alarms(findings: list[Finding]) -> list[Finding]:
    """Findings that ask somebody to do something."""
    return [found for found in findings if found.state in (State.WARNING, State.FAULT)]


def as_text(findings: list[Finding]) -> str:
    """Findings as a failed assertion should show them."""
    return "\n".join(f"{f.state} {f.name}: {f.code} {f.what} [{f.where}] {f.repair}" for f in findings)


def has_root() -> bool:
    """Whether permissions do not bind this process."""
    return os.geteuid() == 0
