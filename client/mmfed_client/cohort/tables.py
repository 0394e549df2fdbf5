"""Reading tables: csv, csv.gz, parquet and feather, only the columns wanted, in blocks.

A wide table is never held whole: :meth:`Table.blocks` gives float32 blocks that are copied straight into the
tensor they belong to.
"""

from __future__ import annotations

import gzip
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from mmfed_client.cohort.cells import MISSING_WORDS, cell_text, numbers
from mmfed_client.cohort.description import TableFile
from mmfed_common.errors import DataError

COLUMNS_A_BLOCK = 512
CSV_BLOCK_BYTES = 4 * 2**20
"""Least block of a csv file; pyarrow reads some thirty of them ahead."""

HEADERS_A_BLOCK = 16
"""A block has at least the length of so many header lines, so that rows of wide tables fit into it."""

CSV_MISSING = sorted({form for w in MISSING_WORDS for form in (w, w.upper(), w.capitalize())} | {"NaN"})


@dataclass(frozen=True)
class TextCells:
    """Cells of one column that hold text where a number belongs: how many, the first row, its text."""

    column: int
    count: int
    row: int
    example: str


@dataclass(frozen=True)
class Block:
    """A rectangle of numbers.

    Attributes
    ----------
    first_row, first_column
        Where it begins: data row of the table, position among the columns asked for.
    values
        ``(rows, columns)`` float32, NaN where the cell is empty or text.
    text
        Columns with text, with positions among the columns asked for.
    """

    first_row: int
    first_column: int
    values: npt.NDArray[np.float32]
    text: tuple[TextCells, ...] = ()


@dataclass(frozen=True)
class Table(ABC):
    """One open table; ``columns`` are its column names in file order."""

    name: str
    path: Path
    id_column: str
    columns: tuple[str, ...] = field(repr=False)

    @abstractmethod
    def read(self, columns: Sequence[str]) -> pa.Table:
        """Read whole columns as they are (csv: as text)."""

    @abstractmethod
    def blocks(self, columns: Sequence[str]) -> Iterator[Block]:
        """Read columns as float32, block by block."""

    def cells(self, columns: Sequence[str]) -> pd.DataFrame:
        """Read some columns as cell text, ``None`` where missing; see :func:`cells.cell_text`."""
        arrow = self.read(list(dict.fromkeys(columns)))
        return pd.DataFrame({name: cell_text(arrow.column(name)) for name in arrow.column_names})

    def ids(self) -> pd.Series:
        """Patient identifiers as text, one per row, ``None`` where empty."""
        return self.cells([self.id_column])[self.id_column]

    def repeated(self) -> list[str]:
        """Column names that stand more than once."""
        return [name for name, count in Counter(self.columns).items() if count > 1]


class ColumnarTable(Table):
    """Parquet and feather: blocks are groups of columns."""

    def blocks(self, columns: Sequence[str]) -> Iterator[Block]:
        """Read columns as float32, ``COLUMNS_A_BLOCK`` at a time."""
        for first in range(0, len(columns), COLUMNS_A_BLOCK):
            names = list(columns[first : first + COLUMNS_A_BLOCK])
            arrow = self.read(names)
            values = np.empty((len(names), arrow.num_rows), dtype=np.float32)
            text = []
            for position, name in enumerate(names):
                values[position], faulty = _as_float32(arrow.column(name), first + position)
                text += faulty
            yield Block(0, first, values.T, tuple(text))


class ParquetTable(ColumnarTable):
    """A parquet file."""

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Read whole columns as they are."""
        with pq.ParquetFile(self.path) as file:
            return file.read(columns=list(columns), use_threads=False)


class FeatherTable(ColumnarTable):
    """A feather (version 2) file."""

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Read whole columns as they are."""
        place = {name: index for index, name in enumerate(self.columns)}
        options = pa.ipc.IpcReadOptions(included_fields=sorted(place[name] for name in columns))
        with pa.memory_map(str(self.path)) as source, pa.ipc.open_file(source, options=options) as file:
            return file.read_all().select(list(columns))


@dataclass(frozen=True)
class CsvTable(Table):
    """A csv file, maybe compressed: blocks are groups of rows."""

    delimiter: str = ","
    decimal: str = "."

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Read whole columns as text, empty cells and words for missing as null."""
        with self._open(columns, pa.string()) as reader:
            return reader.read_all()

    def cells(self, columns: Sequence[str]) -> pd.DataFrame:
        """Read some columns as cell text; numbers get a decimal point whatever the file has."""
        frame = super().cells(columns)
        if self.decimal != ".":
            pattern = rf"^([+-]?\d*){re.escape(self.decimal)}(\d+)$"
            frame = frame.apply(lambda text: text.str.replace(pattern, r"\1.\2", regex=True))
        return frame

    def blocks(self, columns: Sequence[str]) -> Iterator[Block]:
        """Read columns as float32, some rows at a time; cells with text are counted and left out."""
        row = 0
        try:
            with self._open(columns, pa.float32()) as reader:
                for batch in reader:
                    block = np.empty((batch.num_columns, batch.num_rows), dtype=np.float32)
                    for position, column in enumerate(batch.columns):
                        block[position] = column.to_numpy(zero_copy_only=False)
                    yield Block(row, 0, block.T)
                    row += batch.num_rows
        except pa.ArrowInvalid:
            yield from self._blocks_with_text(columns, row)

    def _blocks_with_text(self, columns: Sequence[str], done: int) -> Iterator[Block]:
        row = 0
        with self._open(columns, pa.string()) as reader:
            for batch in reader:
                last = row + batch.num_rows
                if last > done:
                    rest = batch.slice(max(done - row, 0))
                    start = max(row, done)
                    block = np.empty((rest.num_columns, rest.num_rows), dtype=np.float32)
                    text = []
                    for position, column in enumerate(rest.columns):
                        block[position], faulty = _parsed(column, position, start, self.decimal)
                        text += faulty
                    yield Block(start, 0, block.T, tuple(text))
                row = last

    def _open(self, columns: Sequence[str], kind: pa.DataType) -> pacsv.CSVStreamingReader:
        convert = pacsv.ConvertOptions(
            include_columns=list(columns),
            column_types=dict.fromkeys(columns, kind),
            null_values=CSV_MISSING,
            strings_can_be_null=True,
            decimal_point=self.decimal,
        )
        return open_csv(self.path, self.delimiter, convert)


def open_csv(path: Path, delimiter: str, convert: pacsv.ConvertOptions | None) -> pacsv.CSVStreamingReader:
    """Open a csv file (gzip by its name) for reading in blocks."""
    return pacsv.open_csv(
        path,
        read_options=pacsv.ReadOptions(block_size=_block_bytes(path), use_threads=False),
        parse_options=pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=convert,
    )


def _block_bytes(path: Path) -> int:
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        return max(CSV_BLOCK_BYTES, HEADERS_A_BLOCK * len(file.readline()))


def open_table(name: str, table: TableFile, id_column: str) -> Table:
    """Open a table by its file name.

    Raises
    ------
    DataError
        ``MMF-201`` when it cannot be read, ``MMF-217`` for an unknown format, ``MMF-203`` when it has no
        identifier column, ``MMF-218`` when a column name stands twice.
    """
    path = table.file
    suffix = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
    opened: Table
    try:
        if suffix in (".csv", ".csv.gz"):
            with open_csv(path, table.delimiter, None) as reader:
                names = tuple(reader.schema.names)
            opened = CsvTable(name, path, id_column, names, table.delimiter, table.decimal)
        elif suffix == ".parquet":
            opened = ParquetTable(name, path, id_column, tuple(pq.read_schema(path).names))
        elif suffix == ".feather":
            with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as file:
                opened = FeatherTable(name, path, id_column, tuple(file.schema.names))
        else:
            raise DataError("MMF-217", f"the file name ends in {suffix or 'nothing'!r}", str(path))
    except (OSError, EOFError, pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError("MMF-201", f"cannot read {path}: {str(error).splitlines()[0]}", str(path)) from None
    if id_column not in opened.columns:
        raise DataError("MMF-203", f"there is no identifier column {id_column!r}", str(path))
    if repeated := opened.repeated():
        raise DataError("MMF-218", f"column names stand more than once: {', '.join(repeated[:5])}", str(path))
    return opened


def _as_float32(column: pa.ChunkedArray, position: int) -> tuple[npt.NDArray[np.float32], list[TextCells]]:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _parsed(column, position, 0, ".")
    if pa.types.is_null(kind):
        return np.full(len(column), np.nan, dtype=np.float32), []
    try:
        return pc.cast(column, pa.float32(), safe=False).to_numpy(), []
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return _parsed(column, position, 0, ".")


def _parsed(
    column: pa.Array | pa.ChunkedArray, position: int, first_row: int, decimal: str
) -> tuple[npt.NDArray[np.float32], list[TextCells]]:
    """Read numbers out of text; what is neither a number nor missing is counted."""
    text = cell_text(column)
    if decimal != ".":
        text = text.str.replace(decimal, ".", regex=False)
    values = numbers(text)
    faulty = np.flatnonzero(text.notna().to_numpy() & np.isnan(values))
    found = []
    if faulty.size:
        example = str(text.iloc[int(faulty[0])])
        found = [TextCells(position, int(faulty.size), first_row + int(faulty[0]), example)]
    return values.astype(np.float32), found
