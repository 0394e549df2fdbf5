"""What a node needs before it may speak: approval, policy, key, knowledge pack, cohort."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from mmfed_client.approval import Guardian, verify_offer
from mmfed_client.enrolment import PortalClient
from mmfed_client.gate import Exit
from mmfed_client.home import SiteHome
from mmfed_client.ledger import Ledger
from mmfed_client.opening import open_site
from mmfed_client.signed_files import read_signed
from mmfed_client.training import LocalSite
from mmfed_common.errors import MachineError, NetworkError
from mmfed_common.signing import SiteKey
from mmfed_common.study import Study


@dataclass(frozen=True)
class Prepared:
    """A site that may take part.

    Attributes
    ----------
    site
        Its patients and its model, for the one study.
    way_out
        Policy, ledger and key, through which everything passes that leaves.
    address, ca
        Where the server is, and by which authority it is known.
    """

    site: LocalSite
    way_out: Exit
    address: str
    ca: Path

    @property
    def key(self) -> SiteKey:
        """The site's key."""
        return self.way_out.key


def prepare(home: SiteHome, study_hash: str, passphrase: str | None) -> Prepared:
    """Check again everything that allows this site to take part, then open its cohort.

    The study comes from nowhere but the home, where only what the coordinator signed is kept; nothing is read
    from the site's tables before somebody approved it.

    Raises
    ------
    MmfedError
        What forbids it, as :mod:`mmfed_client.approval`, :mod:`mmfed_client.policy` and
        :func:`mmfed_client.opening.open_site` say; ``MMF-113`` without a cohort.
    """
    config = home.config
    key = home.key(passphrase)
    guardian = Guardian(home, ledger := Ledger(home.ledger_file))
    signed = read_signed(home.study_file(study_hash))
    study = verify_offer(home, signed)
    if study.hash != study_hash:
        raise NetworkError("MMF-418", "the file holds another study than its name says", str(home.studies))
    guardian.refuse_unapproved(study_hash)
    policy = guardian.allow(study)
    if home.cohort_file is None:
        raise MachineError("MMF-113", "there is no key `cohort`", str(home.config_file))
    if torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(policy.gpu_memory)
    data = open_site(study, config.site, home.cohort_file, _pack(home, study, passphrase))
    site = LocalSite(study, data, kept=home.feedback(study_hash))
    guardian.allow(study, len(site.fit))
    assert site.shapes  # builds the model now, not when the first message waits
    return Prepared(site, Exit(guardian, ledger, key), config.address, home.ca_file)


def _pack(home: SiteHome, study: Study, passphrase: str | None) -> Path | None:
    """The study's knowledge pack; fetched from the coordinator if it is not in the home yet."""
    reference = study.contract.knowledge
    if reference is None:
        return None
    path = home.pack_file(reference.sha256)
    return path if path.is_file() else PortalClient(home, passphrase).fetch_pack(reference.sha256)
