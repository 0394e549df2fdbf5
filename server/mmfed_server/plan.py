"""What a run is: the study, the enrolled sites, where its record lies and who wants to hear of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from mmfed_common.seal import SealCheck
from mmfed_common.study import Study
from mmfed_common.topology import Topology
from mmfed_server.record.record import RunRecord


@dataclass(frozen=True)
class RoundReport:
    """What a person wants to know about a round when it ends.

    Attributes
    ----------
    round, rounds
        Its number, counted from 1, and how many the study has.
    stage
        Level of the model that is trained.
    seconds
        How long it took, evaluation included.
    metrics
        ``train_loss`` and, where they were asked for, ``validation_loss`` and ``held_out_loss``: means over
        patients.
    sites
        Names of the sites whose updates were taken.
    refused
        Site → reason, with its code.
    """

    round: int
    rounds: int
    stage: str
    seconds: float
    metrics: Mapping[str, float]
    sites: tuple[str, ...]
    refused: Mapping[str, str]


OnRefusal = Callable[[str, str, str], None]
"""Site, code, reason: called when an answer of an enrolled site was refused, once a round.

Not when none came, nor when the site itself said that it failed: that is no fault of its updates.
"""

OnSuccess = Callable[[str], None]
"""Site: called when an update of it was taken."""


LedgerKnown = Callable[[str], int]
"""Site: gives how many entries its ledger had when it was last heard; asked before each request to it."""


Quarantined = Callable[[], Mapping[str, str]]
"""Gives site → code of those that are in quarantine at this moment."""


class StopSign(Protocol):
    """Says whether a run is to end; a :class:`threading.Event` is one."""

    def is_set(self) -> bool:
        """Whether it is to end now."""


@dataclass(frozen=True)
class RunPlan:
    """Everything that the server needs to run a study.

    Attributes
    ----------
    study
        The study.
    sites
        Names of the enrolled sites; an answer from any other is refused.
    topology
        The shared graph, for the names and shapes of the weights.
    folder
        The run's folder; without another ``record`` the record goes to ``state/`` and ``events.jsonl`` in it.
    resume
        Whether to go on from a record that is there.
    progress
        Called after each round.
    seals
        Checks that an answer was signed by the site that it names; None where nothing is signed.
    ledger_known
        What each request says about the site's own ledger, so that the site shows that it still has that
        past; None where sites keep no ledger.
    on_refusal, on_success
        Told of each answer that was refused, as it happens, and of each update that was taken, at the end of
        its round; they count towards quarantine. The refused site's next request carries the code.
    record
        Keeps the run; None: the folder.
    wait_for_sites
        ``"deadline"``: the run ends when too few sites come before the study's deadline. ``"patient"``: it
        goes on waiting, and its status says so and who is missing.
    sites_now
        Gives the names of the sites that are enrolled at this moment; None: always ``sites``.
    keys_now
        Gives the public key (PEM) of each of them; None where sites have none.
    quarantined
        Gives those that are in quarantine, and why; asked before each exchange. They are told once and asked
        nothing until it is lifted. None: there is no quarantine.
    bundle
        Folder of the released model that the study starts from; None where it starts from none.
    stop
        When it is set, the run ends before its next exchange with ``MMF-521``, to be gone on with later.
    """

    study: Study
    sites: tuple[str, ...]
    topology: Topology
    folder: Path
    resume: bool = False
    progress: Callable[[RoundReport], None] | None = field(default=None, compare=False)
    seals: SealCheck | None = field(default=None, compare=False)
    ledger_known: LedgerKnown | None = field(default=None, compare=False)
    on_refusal: OnRefusal | None = field(default=None, compare=False)
    on_success: OnSuccess | None = field(default=None, compare=False)
    record: RunRecord | None = field(default=None, compare=False)
    wait_for_sites: Literal["deadline", "patient"] = "deadline"
    sites_now: Callable[[], Collection[str]] | None = field(default=None, compare=False)
    keys_now: Callable[[], Mapping[str, bytes]] | None = field(default=None, compare=False)
    quarantined: Quarantined | None = field(default=None, compare=False)
    bundle: Path | None = None
    stop: StopSign | None = field(default=None, compare=False)
