"""What a person can see of a federation, served or not: one reading for every display."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from mmfed_common.error_codes import CODES
from mmfed_common.errors import MmfedError
from mmfed_common.names import is_sha256, parse_time, utc_now
from mmfed_common.signed_study import SignedStudy
from mmfed_server.coordinator.board import read_board
from mmfed_server.coordinator.lock import is_served
from mmfed_server.database import open_database
from mmfed_server.federation import Federation, SiteRecord, SiteRegistry
from mmfed_server.record.catalogue import RunCatalogue
from mmfed_server.studies.queue import StudyQueue
from mmfed_server.withdrawal.register import Withdrawals

ENDED_SILENTLY = "MMF-555"
STUDY_ENDED = "MMF-415"
SIGNS_ANEW = "start the server again: it signs it anew, and sites go on by themselves."
SHOWN_ROUNDS = 5
ACTIVE = ("idle", "waiting", "running")


@dataclass(frozen=True)
class FederationView:
    """How a federation stands.

    Attributes
    ----------
    federation, address
        Its name, and where sites reach it.
    served
        Whether a process serves it.
    state
        ``never started``, ``idle``, ``waiting``, ``running``, ``finished``, ``failed``, ``stopped``, or
        ``gone`` when a process ended without saying so.
    code, reason, next_step
        Why, and what to do about it; empty where there is nothing to say.
    since
        Since when (UTC).
    details
        More about the state, e.g. which sites are missing.
    study, run, round, rounds
        What runs, and how far it is.
    sites
        One entry a site: ``site``, ``state``, ``online``, ``quarantined``, ``refused``, and of the run
        ``patients``, ``rounds``, ``refusals``, ``last_refusal``; ``withdrawn``, since when it has left the
        study.
    waiting
        The studies that run after this one, in their order: ``study``, ``name``, ``submitted``.
    last_rounds
        The last rounds of the run, the newest last.
    warnings
        About certificates, the study's signature and metrics.
    """

    federation: str
    address: str
    served: bool
    state: str
    code: str = ""
    reason: str = ""
    next_step: str = ""
    since: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    study: dict[str, str] = field(default_factory=dict)
    run: str = ""
    round: int = 0
    rounds: int = 0
    sites: list[dict[str, Any]] = field(default_factory=list)
    waiting: list[dict[str, str]] = field(default_factory=list)
    last_rounds: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def missing(self) -> list[str]:
        """Enrolled sites that are not there and have not left the study."""
        there = [site for site in self.sites if site["state"] == "enrolled" and not site["withdrawn"]]
        return [site["site"] for site in there if not site["online"]]

    def to_json(self) -> dict[str, Any]:
        """Everything, for machines."""
        return {**asdict(self), "missing": self.missing}


def view_of(federation: Federation, rounds: int = SHOWN_ROUNDS) -> FederationView:
    """Look at a federation.

    Parameters
    ----------
    rounds
        How many of the last rounds.

    Raises
    ------
    MmfedError
        When the database cannot be used.
    """
    served = is_served(federation.path)
    board = read_board(federation.path)
    engine = open_database(federation.database_url)
    try:
        records = SiteRegistry(engine).all()
        catalogue = RunCatalogue(engine)
        run = str(board.get("run", ""))
        known = any(found.run == run for found in catalogue.runs())
        entries = catalogue.rounds(run)[-rounds:] if known and rounds else []
        totals = {entry["site"]: entry for entry in catalogue.sites(run)} if known else {}
        done = catalogue.run(run).next_round - 1 if known else 0
        left = Withdrawals(engine).of(str(board.get("study", {}).get("hash", "")))
        queue = StudyQueue(engine).entries()
    finally:
        engine.dispose()
    noted = {entry["site"]: entry for entry in board.get("sites", [])} if served else {}
    metrics = str(board.get("metrics", ""))
    return FederationView(
        federation=federation.name,
        address=federation.address,
        served=served,
        **_state(board, served=served),
        details=board.get("details", {}) if served else {},
        study=board.get("study", {}),
        run=run,
        round=done,
        rounds=int(board.get("rounds", 0)),
        sites=[
            {
                **_site(record, noted.get(record.name, {}), totals.get(record.name, {})),
                "withdrawn": left[record.name].time if record.name in left else "",
            }
            for record in records
        ],
        waiting=[
            {"study": entry.study_hash, "name": entry.study_name, "submitted": entry.submitted}
            for entry in queue
            if entry.study_hash != board.get("study", {}).get("hash", "")
        ],
        last_rounds=entries,
        warnings=[
            *board.get("warnings", []),
            *_signature(federation, str(board.get("study", {}).get("hash", ""))),
            *([metrics] if metrics.startswith("MMF-") else []),
        ],
    )


def _signature(federation: Federation, study_hash: str) -> list[str]:
    """What is wrong with the signature of the study that sites are offered: they work only while it holds."""
    if not is_sha256(study_hash):
        return []
    try:
        signed = SignedStudy.from_json(federation.study_file(study_hash).read_bytes())
        if utc_now() < parse_time(signed.expires):
            return []
    except (OSError, ValueError, MmfedError):  # it is kept for the next start only, which says what is wrong
        return []
    return [f"{STUDY_ENDED} The study's signature ended at {signed.expires}; {SIGNS_ANEW}"]


def _state(board: dict[str, Any], *, served: bool) -> dict[str, str]:
    if not board:
        return {"state": "idle" if served else "never started"}
    state = str(board["state"])
    if not served and state in ACTIVE:
        text = CODES[ENDED_SILENTLY]
        return {
            "state": "gone",
            "code": ENDED_SILENTLY,
            "reason": text.meaning,
            "next_step": text.next_step,
            "since": str(board.get("updated", "")),
        }
    return {
        "state": state,
        **{key: str(board.get(key, "")) for key in ("code", "reason", "next_step", "since")},
    }


def _site(record: SiteRecord, noted: dict[str, Any], totals: dict[str, Any]) -> dict[str, Any]:
    last_seen = record.last_seen.isoformat(timespec="seconds") if record.last_seen else ""
    return {
        "site": record.name,
        "state": record.state,
        "online": bool(noted.get("online", False)),
        "quarantined": record.quarantined_code or "",
        "refused": (record.refused_code or "") if record.refusals_in_row else "",
        "last_seen": last_seen,
        "software": noted.get("software", []),
        **{key: totals.get(key, 0) for key in ("patients", "rounds", "refusals", "bytes_up", "bytes_down")},
        "below_floor": bool(totals.get("below_floor", False)),
        "last_refusal": totals.get("last_refusal", ""),
    }
