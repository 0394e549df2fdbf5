"""A run is trained again without some sites, from the last state that holds nothing of them.

The sites that stay train anew: an update of theirs from after that state rests on weights that the others had
changed, so it cannot be used. The old run stays as it is, and is marked as replaced.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine

from mmfed_common.errors import StudyError
from mmfed_server.record.catalogue import RunCatalogue, RunSummary
from mmfed_server.record.database_record import DatabaseRecord
from mmfed_server.record.state import RunState
from mmfed_server.studies.queue import StudyQueue
from mmfed_server.withdrawal.register import Withdrawals


@dataclass(frozen=True)
class Replay:
    """A run that is ready to be trained again.

    Attributes
    ----------
    run, replaces
        Its name, and that of the run that it replaces.
    without
        Sites that it does without.
    from_round
        The first round that is trained again; those before it are taken over.
    """

    run: str
    replaces: str
    without: tuple[str, ...]
    from_round: int


def prepare_replay(engine: Engine, run: str, without: Collection[str], folder: Path) -> Replay:
    """Make a run that goes on where the last state without some sites ends, and mark the old one as replaced.

    Sites that have withdrawn from the study, and those that the old run did without, are left out, too. A
    server that is at work on the old run can commit nothing more to it; one that is at work on another study
    comes to it in its turn.

    Parameters
    ----------
    folder
        For a state on its way.

    Raises
    ------
    StudyError
        ``MMF-532`` when there is no such run, ``MMF-564`` when it is replaced already, ``MMF-562`` when it
        holds nothing of the sites, ``MMF-509`` when no state of it is whole.
    """
    catalogue = RunCatalogue(engine)
    old = catalogue.run(run)
    if old.superseded_by:
        raise StudyError("MMF-564", f"it is {old.superseded_by}", run)
    old_record = DatabaseRecord(engine, run, folder)
    state = old_record.load()
    left = sorted({*without, *old.without, *Withdrawals(engine).of(old.study_hash)})
    refuse_unneeded(old, state, left)
    study = catalogue.study(run)
    kept = old_record.load_without(left)
    from_round = 1 if kept is None else kept.next_round
    new = catalogue.begin(study, run, left, from_round)
    if kept is not None:
        record = DatabaseRecord(engine, new, folder)
        record.rewind(None)
        record.commit(_without_totals(kept, left))
    catalogue.make_ready(new)
    StudyQueue(engine).put_last(study)
    return Replay(new, run, tuple(left), from_round)


def refuse_unneeded(old: RunSummary, state: RunState | None, without: Collection[str]) -> None:
    """Raise ``MMF-562`` unless a run holds something of some sites."""
    contributed = set() if state is None else contributors_of(state)
    if not contributed & set(without):
        raise StudyError("MMF-562", f"nothing of {', '.join(without) or 'any site'} is in it", old.run)


def contributors_of(state: RunState) -> set[str]:
    """Sites of which anything is in a state."""
    return {*state.contributors, *(site for site, totals in state.sites.items() if totals.rounds)}


def _without_totals(state: RunState, sites: Collection[str]) -> RunState:
    """Forget the names and counts of sites of which nothing else is in a state."""
    for site in sites:
        state.sites.pop(site, None)
        state.norms.pop(site, None)
        state.digests.pop(site, None)
    return state
