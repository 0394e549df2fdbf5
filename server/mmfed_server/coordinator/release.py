"""A run's model becomes a bundle."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from mmfed_common.bundle import Bundle, save_bundle
from mmfed_common.errors import StudyError
from mmfed_common.model_card import ModelFacts
from mmfed_common.privacy import told_epsilon
from mmfed_common.scaling import Scaling
from mmfed_common.study import Study
from mmfed_server.database import open_database
from mmfed_server.federation import Federation
from mmfed_server.record.catalogue import RunCatalogue, RunSummary
from mmfed_server.record.database_record import DatabaseRecord
from mmfed_server.record.state import RunState
from mmfed_server.studies.shelf import StudyShelf
from mmfed_server.withdrawal.register import Withdrawals
from mmfed_server.withdrawal.replay import contributors_of

LATEST = "latest"
HOLDS_LEFT = "MMF-563"
"""The model holds what a site contributed that has withdrawn since."""
REPLACED = "MMF-564"
"""Another run was trained again in the place of this one."""


def release(federation: Federation, run: str, out: Path, *, unfinished: bool = False) -> tuple[Bundle, str]:
    """Write the bundle of a run; gives it and the run's name.

    Parameters
    ----------
    run
        A run's name, or ``latest`` for the newest that is finished (with ``unfinished``: the newest).
    out
        The bundle's folder.
    unfinished
        Accept a run that has not come to its last round.

    Raises
    ------
    StudyError
        ``MMF-532`` when there is no such run, ``MMF-552`` when it has no model yet, ``MMF-509`` when its
        state is damaged, ``MMF-508`` when the bundle cannot be written, ``MMF-564`` when ``latest`` is a run
        that another is to replace.
    ModelError
        ``MMF-606`` when ``out`` is something else than a bundle; ``MMF-601`` … ``MMF-603`` when the study's
        knowledge pack is not kept any more.
    """
    engine = open_database(federation.database_url)
    try:
        catalogue = RunCatalogue(engine)
        name = _named(catalogue, run, unfinished=unfinished)
        study, summary = catalogue.study(name), catalogue.run(name)
        left = Withdrawals(engine).of(study.hash)
        state = DatabaseRecord(engine, name, federation.spool / "export").load()
    finally:
        engine.dispose()
    if state is None or not (state.finished or unfinished):
        done = 0 if state is None else state.next_round - 1
        raise StudyError("MMF-552", f"{done} of {study.training.rounds} rounds are done", name)
    facts = _facts(study, state, warnings_of(summary, state, left))
    scaling = Scaling.from_arrays(state.scaling) if state.scaling else None
    topology = StudyShelf(federation).topology(study)
    try:
        return save_bundle(out, study, state.weights, scaling, facts, topology), name
    except OSError as error:
        raise StudyError("MMF-508", f"cannot be written: {error.strerror}", str(out)) from None


def _named(catalogue: RunCatalogue, run: str, *, unfinished: bool) -> str:
    if run != LATEST:
        return catalogue.run(run).run
    found = next((entry for entry in catalogue.runs() if entry.finished or unfinished), None)
    if found is None:
        raise StudyError("MMF-552", "no run is finished")
    if found.superseded_by:
        raise StudyError("MMF-564", f"{found.superseded_by} replaces it and is not finished", found.run)
    return found.run


def warnings_of(summary: RunSummary, state: RunState, left: Collection[str]) -> list[str]:
    """Say what became of sites of which a run's model holds something, or that it was trained without.

    Parameters
    ----------
    left
        Sites that have withdrawn from the study.

    Returns
    -------
    Sentences for the model card; the first word of a warning is its code.
    """
    found = []
    if summary.superseded_by:
        found.append(f"{REPLACED} This run was replaced by {summary.superseded_by}: do not use this model.")
    if still := sorted(contributors_of(state) & set(left)):
        found.append(
            f"{HOLDS_LEFT} {', '.join(still)} withdrew from the study; this model still holds what was "
            "contributed before."
        )
    if summary.replaces:
        names = ", ".join(summary.without)
        found.append(f"Trained again without {names}; it replaces run {summary.replaces}.")
    return found


def warnings_about(federation: Federation, run: str) -> list[str]:
    """The warnings with a code of :func:`warnings_of`, of a run by its name."""
    engine = open_database(federation.database_url)
    try:
        summary = RunCatalogue(engine).run(run)
        state = DatabaseRecord(engine, run, federation.spool / "export").load()
        left = Withdrawals(engine).of(summary.study_hash)
    finally:
        engine.dispose()
    found = [] if state is None else warnings_of(summary, state, left)
    return [warning for warning in found if warning.startswith("MMF-")]


def _facts(study: Study, state: RunState, remarks: Sequence[str]) -> ModelFacts:
    sites: list[dict[str, Any]] = [
        {
            "site": name,
            "patients": "–",
            "train": totals.patients,
            "test": "–",
            "rounds": totals.rounds,
            "epsilon": told_epsilon(study, totals.patients, state.next_round - 1),
        }
        for name, totals in sorted(state.sites.items())
        if totals.rounds
    ]
    losses = {entry["round"]: entry["held_out_loss"] for entry in state.history if "held_out_loss" in entry}
    metrics: dict[str, Any] = {}
    if losses:
        loss = {"estimate": losses[max(losses)], "low": None, "high": None, "n": None, "events": None}
        metrics = {"federated": {"all": {"held_out_loss": loss}}}
    notes = list(remarks)
    if not state.finished:
        done = state.next_round - 1
        notes.append(f"Released before its end: {done} of {study.training.rounds} rounds.")
    return ModelFacts(metrics, sites, _held_out(study, state, max(losses, default=0)), notes)


def _held_out(study: Study, state: RunState, measured: int) -> str:
    """Say over whom the model was measured, after which round, and what that does not tell."""
    if study.evaluation.rule == "none":
        return "No patient was held out."
    stay = "The held-out patients stay at their sites"
    if measured:
        return (
            f"{stay}, which measured the mean loss of the model over them after round {measured} and nothing "
            "else. A loss compares models of this study; it says nothing about discrimination or calibration."
        )
    if not state.finished:
        return f"{stay}; nothing had been measured over them when the model was released."
    cell = study.evaluation.minimum_cell
    return (
        f"{stay}; no site told a loss over them: where they are fewer than {cell}, or the site's policy "
        "keeps it back, nothing is told."
    )
