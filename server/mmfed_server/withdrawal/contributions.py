"""What a site contributed to the runs of a federation, and whether its own ledger says the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine

from mmfed_common.ledger import Entry
from mmfed_common.messages import TRAIN
from mmfed_server.record.catalogue import RunCatalogue, RunSummary
from mmfed_server.record.database_record import DatabaseRecord
from mmfed_server.withdrawal.register import Withdrawals

RECEIPT = "receipt"


@dataclass(frozen=True)
class Contribution:
    """What one run holds of a site.

    Attributes
    ----------
    run, study_name, study_hash, status
        Which run, of which study, and how it stands.
    first_round
        The first round in which anything of the site went into the run; 0: its sums of features.
    rounds
        The rounds whose weights hold an update of it.
    patients
        How many patients it counted.
    bytes_up
        Bytes of arrays that it sent in those rounds.
    withdrawn
        Since when it has left the study (UTC); empty while it has not.
    superseded_by
        The run that replaces this one; empty without one.
    """

    run: str
    study_name: str
    study_hash: str
    status: str
    first_round: int
    rounds: tuple[int, ...]
    patients: int
    bytes_up: int
    withdrawn: str
    superseded_by: str


def contributions_of(engine: Engine, site: str, folder: Path) -> list[Contribution]:
    """List the runs that hold something of a site, the newest first.

    Parameters
    ----------
    folder
        For a state on its way.

    Raises
    ------
    StudyError
        ``MMF-509`` when a run has no whole state.
    """
    catalogue = RunCatalogue(engine)
    register = Withdrawals(engine)
    found = []
    for run in catalogue.runs():
        contribution = _of_run(engine, catalogue, run, site, folder)
        if contribution is None:
            continue
        left = register.of(run.study_hash).get(site)
        found.append(_with_withdrawal(contribution, "" if left is None else left.time))
    return found


def missing_receipts(contributions: Iterable[Contribution], entries: Iterable[Entry]) -> dict[str, list[int]]:
    """Compare with a site's ledger: every update that a run counts must have its receipt there.

    One receipt of a round is enough for all runs of a study that count it: a run may have taken it over from
    the one that it replaces.

    Returns
    -------
    Study hash → rounds without a receipt; empty when all have one.
    """
    receipts: Counter[tuple[str, int]] = Counter()
    for entry in entries:
        if entry.kind == RECEIPT and entry.body.get("kind") == TRAIN and "error" not in entry.body:
            receipts[str(entry.body.get("study")), int(entry.body.get("round", -1))] += 1
    missing: dict[str, list[int]] = {}
    for contribution in contributions:
        for number in contribution.rounds:
            if not receipts[contribution.study_hash, number]:
                missing.setdefault(contribution.study_hash, []).append(number)
    return {study: sorted(set(rounds)) for study, rounds in missing.items()}


def _of_run(
    engine: Engine, catalogue: RunCatalogue, run: RunSummary, site: str, folder: Path
) -> Contribution | None:
    totals = next((entry for entry in catalogue.sites(run.run) if entry["site"] == site), None)
    if totals is None:
        return None
    state = DatabaseRecord(engine, run.run, folder).load()
    first = None if state is None else state.contributors.get(site)
    if first is None and not totals["rounds"]:
        return None
    rounds = tuple(e["round"] for e in catalogue.rounds(run.run) if site in e.get("taken", ()))
    return Contribution(
        run.run,
        run.study_name,
        run.study_hash,
        run.status,
        0 if first is None else first,
        rounds,
        totals["patients"],
        totals["bytes_up"],
        "",
        run.superseded_by,
    )


def _with_withdrawal(contribution: Contribution, since: str) -> Contribution:
    return Contribution(**{**vars(contribution), "withdrawn": since})
