"""Tables of measurements (genes, proteins, metabolites) as tensors, block by block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd
import pandera.pandas as pa
import torch
from pandera.errors import SchemaErrors

from mmfed_client.cohort.checks import span
from mmfed_client.cohort.description import Measurements
from mmfed_client.cohort.panels import PanelMatch, coverage_fault, match_genes, match_names, unknown_symbols
from mmfed_client.cohort.reading import Reading
from mmfed_client.cohort.roster import NOBODY
from mmfed_client.cohort.tables import Block, Table
from mmfed_common.contract import Layer, Panel
from mmfed_common.errors import Fault
from mmfed_common.knowledge.symbols import SymbolTable
from mmfed_common.patients import NodeTensors

Float = npt.NDArray[np.float32]
Index = npt.NDArray[np.int64]


@dataclass
class Findings:
    """What is wrong with the cells of one table, by column; the first offending row of each."""

    columns: Sequence[str]
    layer: Layer
    text: dict[int, tuple[int, int, str]] = field(default_factory=dict)
    infinite: dict[int, tuple[int, int]] = field(default_factory=dict)
    outside: dict[int, tuple[int, int]] = field(default_factory=dict)

    def look(self, block: Block) -> None:
        """Count text, infinite values and values out of the contract's range in one block."""
        for cells in block.text:
            count, row, example = self.text.get(cells.column, (0, cells.row, cells.example))
            self.text[cells.column] = (count + cells.count, row, example)
        with np.errstate(invalid="ignore"):
            infinite = np.isinf(block.values)
            outside = np.zeros_like(infinite)
            if self.layer.minimum is not None:
                outside |= block.values < self.layer.minimum
            if self.layer.maximum is not None:
                outside |= block.values > self.layer.maximum
            if self.layer.transform == "log1p":
                outside |= block.values <= -1
        _count(infinite, block, self.infinite)
        _count(outside & ~infinite, block, self.outside)

    def faults(self, table: str) -> list[Fault]:
        """Validate the counts, one row for each column, and give one fault for each kind."""
        nothing = (0, 0)
        frame = pd.DataFrame(
            {
                "text": [self.text.get(i, (0, 0, ""))[0] for i in range(len(self.columns))],
                "infinite": [self.infinite.get(i, nothing)[0] for i in range(len(self.columns))],
                "outside": [self.outside.get(i, nothing)[0] for i in range(len(self.columns))],
            }
        )
        schema = pa.DataFrameSchema({name: pa.Column(int, pa.Check.eq(0)) for name in frame.columns})
        try:
            schema.validate(frame, lazy=True)
        except SchemaErrors as failed:
            return [
                self._fault(str(n), g["index"], frame, table)
                for n, g in failed.failure_cases.groupby("column")
            ]
        return []

    def _fault(self, kind: str, failing: pd.Series, frame: pd.DataFrame, table: str) -> Fault:
        first = int(failing.min())
        count = int(frame.loc[failing.astype(int), kind].sum())
        where = f"{count} cell(s) in {len(failing)} column(s)"
        if kind == "text":
            _, row, example = self.text[first]
            return Fault(
                "MMF-205",
                f"{where} are not numbers, e.g. {example!r}",
                table,
                row,
                self.columns[first],
                count,
            )
        if kind == "infinite":
            what, row = f"{where} are infinite or too large", self.infinite[first][1]
        else:
            low, high = self.layer.minimum, self.layer.maximum
            allowed = "above -1, to have a logarithm" if low is None and high is None else span(low, high)
            what = f"{where} are impossible: values must be {allowed} {self.layer.unit}".strip()
            row = self.outside[first][1]
        return Fault("MMF-206", what, table, row, self.columns[first], count)


def _count(wrong: npt.NDArray[np.bool_], block: Block, into: dict[int, tuple[int, int]]) -> None:
    if not wrong.any():
        return
    for column in np.flatnonzero(wrong.any(axis=0)):
        rows = np.flatnonzero(wrong[:, column])
        count, row = into.get(block.first_column + int(column), (0, block.first_row + int(rows[0])))
        into[block.first_column + int(column)] = (count + rows.size, row)


def transformed(values: Float, layer: Layer) -> Float:
    """Apply a layer's transform and clipping in place; NaN where the result is not finite."""
    values[~np.isfinite(values)] = np.nan
    if layer.transform == "log1p":
        values[values <= -1] = np.nan
        np.log1p(values, out=values)
    elif layer.transform == "signed_log1p":
        np.copyto(values, np.copysign(np.log1p(np.abs(values)), values))
    if layer.clip is not None:
        np.clip(values, -layer.clip, layer.clip, out=values)
    return values


def fill(
    table: Table,
    match: PanelMatch,
    layer: Layer,
    patients: Index,
    values: Float,
    present: npt.NDArray[np.bool_],
) -> list[Fault]:
    """Copy a table into ``(patients, nodes)`` views, block by block.

    ``patients`` gives the patient of each row of the table, :data:`roster.NOBODY` where the row is left out.
    """
    nodes = np.array(match.nodes, dtype=np.int64)
    findings = Findings(match.columns, layer)
    measured = False
    for block in table.blocks(match.columns):
        findings.look(block)
        rows, columns = block.values.shape
        owner = patients[block.first_row : block.first_row + rows]
        kept = np.flatnonzero(owner != NOBODY)
        cells = transformed(block.values if kept.size == rows else block.values[kept], layer)
        target = np.ix_(owner[kept], nodes[block.first_column : block.first_column + columns])
        known = ~np.isnan(cells)
        present[target] = known
        values[target] = np.nan_to_num(cells, copy=False, nan=0.0)
        measured |= bool(known.any())
    faults = findings.faults(table.name)
    if not measured:
        faults.append(Fault("MMF-212", "no patient has a value in the columns of the panel", table.name))
    return faults


def read_genes(reading: Reading, symbols: SymbolTable | None) -> tuple[NodeTensors, list[Fault]]:
    """Read the gene layers as ``(patients, genes, layers)``; layers that the site lacks are absent."""
    genes = reading.contract.gene
    assert genes is not None
    panel, channels = reading.topology.nodes["gene"], reading.topology.channels["gene"]
    values, present = reading.empty("gene")
    faults: list[Fault] = []
    measured: set[int] = set()
    unknown: dict[str, tuple[str, ...]] = {}
    sections = reading.description.gene.layers
    for channel, layer_name in enumerate(channels):
        section = sections.get(layer_name)
        if section is None or section.table not in reading.tables:
            continue
        table = reading.tables[section.table]
        match = match_genes(panel, reading.feature_columns(table), section.columns, symbols, table.name)
        layer = genes.layers[layer_name]
        faults += match.faults
        faults += _fill(reading, table, match, layer, values[:, :, channel], present[:, :, channel])
        measured |= set(match.nodes)
        unknown[table.name] = match.unknown
    if unknown:
        short = coverage_fault("gene", panel, measured, genes.minimum_measured)
        faults += [short] if short else []
        for table_name, names in unknown.items():
            faults += unknown_symbols(names, table_name, covered=short is None)
    return NodeTensors(torch.from_numpy(values), torch.from_numpy(present)), faults


def read_panel(reading: Reading, modality: str) -> tuple[NodeTensors, list[Fault]]:
    """Read proteins or metabolites as ``(patients, nodes, 1)``; names must be those of the panel."""
    wanted: Panel | None = getattr(reading.contract, modality)
    section: Measurements | None = getattr(reading.description, modality)
    assert wanted is not None
    values, present = reading.empty(modality)
    faults: list[Fault] = []
    if section is not None and section.table in reading.tables:
        panel, table = reading.topology.nodes[modality], reading.tables[section.table]
        match = match_names(panel, table.columns, section.columns)
        faults += _fill(reading, table, match, wanted.layer, values[:, :, 0], present[:, :, 0])
        short = coverage_fault(modality, panel, set(match.nodes), wanted.minimum_measured)
        faults += [short] if short else []
    return NodeTensors(torch.from_numpy(values), torch.from_numpy(present)), faults


def _fill(
    reading: Reading,
    table: Table,
    match: PanelMatch,
    layer: Layer,
    values: Float,
    present: npt.NDArray[np.bool_],
) -> list[Fault]:
    owners, faults = reading.owners(table)
    return faults + fill(table, match, layer, owners, values, present)
