"""A server that is killed once a sum was opened goes on with the very sites of it, who else may be back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message
from sqlalchemy import Engine
from tests.server.faulty_federation import federation, reference_contract, run
from tests.simulations.small_federation import small_sites, small_study

from mmfed_common import messages as m
from mmfed_common.study import Study
from mmfed_server.database import open_database
from mmfed_server.plan import RunPlan
from mmfed_server.record.catalogue import RunCatalogue
from mmfed_server.record.database_record import DatabaseRecord
from mmfed_server.record.folder import FolderRecord
from mmfed_server.record.record import RunRecord
from mmfed_server.record.state import RunState
from mmfed_server.rounds import run_rounds

SIZES = (20, 24, 30, 26, 22)
STAYED = tuple(f"site-{number}" for number in range(4))


class KilledError(BaseException):
    """Stands for ``kill -9``: nothing of the server's may run after it."""


class Accident:
    """One site's answer is lost once, and the server is killed while the others open the sum without it."""

    def __init__(self, kind: str) -> None:
        self.kind, self.opening, self.over = kind, 0, False

    def __call__(self, site: str, request: Message, reply: Message) -> Message | None:
        kind = request.metadata.message_type
        if self.over:
            return reply
        if kind == self.kind and site == "site-4":
            return None
        self.opening += kind == m.MASK_OPEN
        if self.opening == len(STAYED):
            self.over = True
            raise KilledError
        return reply


def masked_study(normalisation: str) -> Study:
    contract = {**reference_contract(), "normalisation": normalisation}
    rule = {"minimum_sites": 3, "secure": True, "secure_threshold": 0.6}
    return small_study(contract=contract, aggregation=rule, evaluation={"every": 0, "rule": "none"})


@pytest.mark.parametrize("where", ["folder", "database"])
@pytest.mark.parametrize(("kind", "normalisation"), [(m.TRAIN, "reference"), (m.MOMENTS, "federated")])
def test_a_killed_server_goes_on_with_the_sites_of_the_opened_sum(
    kind: str, normalisation: str, where: str, tmp_path: Path
) -> None:
    study = masked_study(normalisation)
    sites = small_sites(study, SIZES)
    names = tuple(site.name for site in sites)
    grid = federation(study, sites, Accident(kind))
    engine: Engine | None = None
    if where == "database":
        engine = open_database(f"sqlite:///{tmp_path / 'runs.sqlite'}")
        name = RunCatalogue(engine).begin(study)

    def server(**plan: Any) -> RunState:
        record: RunRecord = FolderRecord(tmp_path)
        if engine is not None:
            record = DatabaseRecord(engine, name, tmp_path / "spool")
        return run_rounds(grid, RunPlan(study, names, sites[0].topology, tmp_path, record=record, **plan))

    with pytest.raises(KilledError):
        server()
    state = server(resume=True)
    assert state.finished
    if kind == m.TRAIN:
        assert [entry["sites"] for entry in state.history] == [4, 5, 5]
        assert state.contributors == {**dict.fromkeys(STAYED, 1), "site-4": 2}
    else:
        without = run(study, sites[:4], tmp_path / "without")
        assert all((state.scaling[name] == without.scaling[name]).all() for name in without.scaling)
    if engine is not None:
        engine.dispose()


def test_what_was_opened_outlives_rewinding_and_is_the_studys(tmp_path: Path) -> None:
    study = masked_study("reference")
    engine = open_database(f"sqlite:///{tmp_path / 'runs.sqlite'}")
    runs = [RunCatalogue(engine).begin(study) for _ in range(2)]
    records: list[RunRecord] = [FolderRecord(tmp_path)]
    records += [DatabaseRecord(engine, name, tmp_path / name) for name in runs]
    for record in records[:2]:
        assert record.opened(1) == ()
        record.note_opened(0, names := ("a", "b", "c"))
        record.note_opened(1, ("a", "b", "d"))
        record.note_opened(1, names)
        record.rewind(None)
        assert record.opened(1) == names
        assert record.opened(2) == ()
    assert records[2].opened(1) == names
    engine.dispose()
