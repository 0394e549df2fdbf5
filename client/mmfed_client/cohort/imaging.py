"""Imaging features: one row a patient, or several tiles or slices with coordinates."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from mmfed_client.cohort.cells import numbers
from mmfed_client.cohort.checks import filled_check, number_checks, validate
from mmfed_client.cohort.description import ImagingTable
from mmfed_client.cohort.measurements import Findings, transformed
from mmfed_client.cohort.panels import match_names
from mmfed_client.cohort.reading import Reading
from mmfed_client.cohort.roster import NOBODY
from mmfed_client.cohort.tables import Table
from mmfed_common.errors import Fault
from mmfed_common.graph.neighbours import knn_neighbours
from mmfed_common.patients import NodeTensors
from mmfed_common.randomness import numpy_generator

Index = npt.NDArray[np.int64]


def read_imaging(reading: Reading) -> tuple[NodeTensors, list[Fault]]:
    """Read imaging as ``(patients, tiles, features)`` with ``(patients, tiles, k)`` spatial neighbours.

    The rows of a patient fill the tile slots in file order. Where there are more rows than slots, a fixed
    random selection, which depends only on the patient's identifier, is taken.
    """
    imaging, section = reading.contract.imaging, reading.description.imaging
    assert imaging is not None
    values, present = reading.empty("imaging_feature")
    shape = (*values.shape[:2], imaging.neighbours)
    neighbours = torch.full(shape, -1, dtype=torch.int64)
    faults: list[Fault] = []
    if section is not None and section.table in reading.tables:
        table = reading.tables[section.table]
        owners, faults = reading.owners(table, unique=False)
        slots, crowded = tile_slots(owners, reading.roster.patient_ids, values.shape[1])
        if crowded:
            what = f"{crowded} patient(s) have more than {values.shape[1]} rows; so many of each are used"
            faults.append(Fault("MMF-224", what, table.name, None, "", crowded, "warning"))
        faults += _fill(reading, section, table, owners, slots, values, present)
        faults += _place(section, table, owners, slots, neighbours)
    return NodeTensors(torch.from_numpy(values), torch.from_numpy(present), neighbours), faults


def tile_slots(owners: Index, patient_ids: tuple[str, ...], most: int) -> tuple[Index, int]:
    """Give each row its tile slot, ``NOBODY`` where it is left out, and how many patients have too many."""
    slots = np.full(owners.size, NOBODY, dtype=np.int64)
    order = np.argsort(owners, kind="stable")
    kept = order[owners[order] != NOBODY]
    starts = np.flatnonzero(np.diff(owners[kept], prepend=NOBODY))
    crowded = 0
    for rows in np.split(kept, starts[1:]) if kept.size else []:
        if rows.size > most:
            crowded += 1
            generator = numpy_generator(0, "tiles", patient_ids[int(owners[rows[0]])])
            rows = rows[np.sort(generator.choice(rows.size, most, replace=False))]
        slots[rows] = np.arange(rows.size)
    return slots, crowded


def _fill(
    reading: Reading,
    section: ImagingTable,
    table: Table,
    owners: Index,
    slots: Index,
    values: npt.NDArray[np.float32],
    present: npt.NDArray[np.bool_],
) -> list[Fault]:
    imaging = reading.contract.imaging
    assert imaging is not None
    match = match_names(imaging.features, table.columns, section.columns)
    lacking = [f for node, f in enumerate(imaging.features) if node not in set(match.nodes)]
    faults: list[Fault] = []
    if lacking:
        what = f"{len(lacking)} imaging feature(s) of the contract are missing, e.g. {lacking[0]!r}"
        faults.append(Fault("MMF-214", what, table.name, None, lacking[0], len(lacking)))
    findings, features = Findings(match.columns, imaging.layer), np.array(match.nodes, dtype=np.int64)
    measured = False
    for block in table.blocks(match.columns):
        findings.look(block)
        rows = slice(block.first_row, block.first_row + block.values.shape[0])
        used = np.flatnonzero(slots[rows] != NOBODY)
        cells = transformed(block.values[used], imaging.layer)
        columns = features[block.first_column : block.first_column + cells.shape[1]]
        target = (owners[rows][used][:, None], slots[rows][used][:, None], columns[None, :])
        known = ~np.isnan(cells)
        present[target] = known
        values[target] = np.where(known, cells, 0.0)
        measured |= bool(known.any())
    faults += findings.faults(table.name)
    if not measured:
        faults.append(Fault("MMF-212", "no patient has a value of any imaging feature", table.name))
    return faults


def _place(
    section: ImagingTable, table: Table, owners: Index, slots: Index, neighbours: torch.Tensor
) -> list[Fault]:
    """Write the spatial neighbours of each patient's tiles."""
    named = list(section.coordinates)
    if not named:
        return []
    have = [column for column in named if column in table.columns]
    frame = table.cells(have)
    checks = {
        c: [*number_checks(), filled_check("MMF-206", "is empty; a tile needs its place")] for c in named
    }
    faults = validate(frame, checks, table)
    if faults:
        return faults
    places = np.stack([numbers(frame[column]) for column in named], axis=1).astype(np.float32)
    used = np.flatnonzero(slots != NOBODY)
    for patient in np.unique(owners[used]):
        rows = used[owners[used] == patient]
        rows = rows[np.argsort(slots[rows])]
        found = knn_neighbours(torch.from_numpy(places[rows]), neighbours.shape[2])
        neighbours[int(patient), : rows.size] = found
    return []
