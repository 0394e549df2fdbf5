"""A site's home as enrolment leaves it, studies signed for it, and messages as a coordinator sends them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.task_identity import TaskIdentity
from tests.simulations.small_federation import small_sites

from mmfed_client.app import make_client_app
from mmfed_client.approval import Guardian, approve
from mmfed_client.gate import Exit
from mmfed_client.home import SiteHome
from mmfed_client.ledger import Ledger
from mmfed_client.training import LocalSite
from mmfed_common import messages as m
from mmfed_common.arrays import to_record
from mmfed_common.scaling import Scaling
from mmfed_common.schedule import Place, used_parameters
from mmfed_common.signed_study import SignedStudy
from mmfed_common.signing import CoordinatorKey, SiteKey
from mmfed_common.study import Study

NOON = datetime(2026, 5, 6, 12, tzinfo=UTC)
OPEN = "require_privacy = false\n"


@dataclass
class SmallHome:
    """A home with its keys, its ledger and a clock that tests set."""

    home: SiteHome
    coordinator: CoordinatorKey
    key: SiteKey
    ledger: Ledger
    now: datetime = NOON

    @staticmethod
    def make(path: Path, policy: str = OPEN) -> SmallHome:
        """Make the files that ``join`` makes."""
        home = SiteHome(path / "home")
        home.make_folders()
        coordinator, key = CoordinatorKey.generate(), SiteKey.generate()
        home.config_file.write_text('site = "site-0"\nfederation = "lab"\naddress = "127.0.0.1:1"\n')
        home.coordinator_file.write_text(coordinator.public.hex())
        home.policy_file.write_text(policy)
        key.save(home.key_file)
        return SmallHome(home, coordinator, key, Ledger(home.ledger_file))

    def policy(self, text: str) -> None:
        """Write another policy."""
        self.home.policy_file.write_text(text)

    def signed(self, study: Study, days: int = 30) -> SignedStudy:
        """Sign a study for this federation."""
        return SignedStudy.sign(study, self.coordinator, "lab", days, self.now)

    def approve(self, study: Study, person: str = "Ada") -> None:
        """Sign and approve."""
        approve(self.home, self.ledger, self.signed(study), person, now=self.now)

    def guardian(self) -> Guardian:
        """A guardian that looks at this home's clock."""
        return Guardian(self.home, self.ledger, lambda: self.now)

    def way_out(self) -> Exit:
        """The exit of this home."""
        return Exit(self.guardian(), self.ledger, self.key)

    def app(self, site: LocalSite) -> ClientApp:
        """The site's app as a node has it."""
        return make_client_app(lambda _: site, self.way_out())

    def kinds(self) -> list[str]:
        """Kinds of the ledger's entries."""
        return [entry.kind for entry in self.ledger.entries()]


def local_site(study: Study, size: int = 40) -> LocalSite:
    """The first small site."""
    return LocalSite(study, small_sites(study, (size,))[0])


def question(kind: str, study_hash: str, number: int = 1, **records: Any) -> Message:
    """A coordinator's message."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
    config = ConfigRecord({m.STUDY_HASH: study_hash, m.ROUND: number})
    message = Message(RecordDict({m.CONFIG: config, **records}), 100, kind)
    message.metadata.__dict__["_message_id"] = f"question-{number}"
    return message


def weights_of(site: LocalSite, number: int = 1) -> dict[str, ArrayRecord]:
    """The records of weights and scaling that go with a round."""
    stage = Place.of(site.study.training, number).stage
    names = used_parameters(site.shapes, site.model.block_of, stage)
    state: Mapping[str, torch.Tensor] = site.model.state_dict()
    records = {m.ARRAYS: to_record({name: state[name] for name in names})}
    if site.study.contract.normalisation == "federated":
        scaling = Scaling.from_moments(site.moments(), site.study.contract, site.topology)
        records[m.SCALING] = to_record(scaling.to_arrays())
    return records


def every_question(site: LocalSite) -> list[Message]:
    """One message of each kind."""
    study = site.study.hash
    return [
        question(m.HELLO, study, 0),
        question(m.MOMENTS, study, 0),
        question(m.TRAIN, study, 1, **weights_of(site)),
        question(m.EVALUATE_VALIDATION, study, 1, **weights_of(site)),
        question(m.EVALUATE_HELD_OUT, study, 1, **weights_of(site)),
    ]


def context() -> Context:
    """A context that says nothing."""
    return Context(1, 100, {}, RecordDict(), {})
