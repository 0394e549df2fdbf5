"""What every reader of one cohort needs: its description, the study's contract, open tables, the patients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmfed_client.cohort.description import CohortDescription
from mmfed_client.cohort.roster import Roster, check_identifiers, stray_patients
from mmfed_client.cohort.tables import Table
from mmfed_common.contract import Contract
from mmfed_common.errors import Fault
from mmfed_common.topology import Topology


@dataclass(frozen=True)
class Reading:
    """One cohort being read for one study.

    Attributes
    ----------
    everybody
        All patients of the patient table.
    roster
        Those with a known outcome, for whom measurements are read.
    """

    description: CohortDescription
    contract: Contract
    topology: Topology
    tables: Mapping[str, Table]
    everybody: Roster
    roster: Roster

    def empty(self, node_type: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Give values and masks of which nothing is present: ``(patients, nodes, channels)``."""
        nodes, channels = self.topology.nodes[node_type], self.topology.channels[node_type]
        shape = (len(self.roster), len(nodes), len(channels))
        return np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.bool_)

    def owners(self, table: Table, *, unique: bool = True) -> tuple[npt.NDArray[np.int64], list[Fault]]:
        """Give the patient of each row of a table, and the faults of its identifiers."""
        ids = table.ids()
        faults: list[Fault] = []
        if table.name != self.description.patient_table:
            faults += check_identifiers(ids, table, unique=unique)
            faults += stray_patients(self.everybody, ids, table, self.description.patient_table)
        return self.roster.rows_of(ids), faults

    def feature_columns(self, table: Table) -> tuple[str, ...]:
        """Columns that may be measurements: all but those that cohort.toml gives another meaning."""
        identity, outcome = self.description.cohort, self.description.outcome
        spoken_for = {table.id_column, identity.site_column, identity.fold_column}
        if outcome.survival is not None:
            spoken_for |= {outcome.survival.time, outcome.survival.event}
        if outcome.response is not None:
            spoken_for.add(outcome.response.column)
        if outcome.toxicity is not None:
            spoken_for |= set(outcome.toxicity.mapping.values())
        spoken_for |= {column for _, column in self.description.feature_sources().values()}
        return tuple(column for column in table.columns if column not in spoken_for)
