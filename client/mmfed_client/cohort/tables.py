"""Reading tables: csv, csv.gz, parquet and feather, only the columns wanted, in blocks.

A wide table is never held whole: :meth:`Table.blocks` gives float32 blocks that are copied straight into the
tensor they belong to.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from mmfed_client.cohort.cells import cell_text, numbers
from mmfed_client.cohort.description import TableFile
from mmfed_common.errors import DataError

COLUMNS_A_BLOCK = 512
CSV_BLOCK_BYTES = 8 * 2**20
CSV_MISSING = ["", "NA"]
"""Missing for pyarrow; ``cells`` knows the other words. A longer list would cost 18 kB for each column."""


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
    def _read(self, columns: Sequence[str]) -> pa.Table:
        """Read whole columns as they are (csv: as text)."""

    @abstractmethod
    def _blocks(self, columns: Sequence[str]) -> Iterator[Block]:
        """Read columns as float32, block by block."""

    def blocks(self, columns: Sequence[str]) -> Iterator[Block]:
        """Read columns as float32, block by block, without holding the table.

        Raises
        ------
        DataError
            ``MMF-201`` when the file is damaged.
        """
        if not columns:
            return
        with readable(self.name, self.path):
            yield from self._blocks(columns)

    def cells(self, columns: Sequence[str]) -> pd.DataFrame:
        """Read some columns as cell text, ``None`` where missing; see :func:`cells.cell_text`.

        No columns give a frame without rows: for pyarrow's csv reader they would mean all.

        Raises
        ------
        DataError
            ``MMF-201`` when the file is damaged.
        """
        if not columns:
            return pd.DataFrame()
        with readable(self.name, self.path):
            arrow = self._read(list(dict.fromkeys(columns)))
        return pd.DataFrame({name: cell_text(arrow.column(name)) for name in arrow.column_names})

    def ids(self) -> pd.Series:
        """Patient identifiers as text, one per row, ``None`` where empty."""
        return self.cells([self.id_column])[self.id_column]

    def repeated(self) -> list[str]:
        """Column names that stand more than once."""
        return [name for name, count in Counter(self.columns).items() if count > 1]


class ColumnarTable(Table):
    """Parquet and feather: blocks are groups of columns."""

    def _blocks(self, columns: Sequence[str]) -> Iterator[Block]:
        """Read columns as float32, ``COLUMNS_A_BLOCK`` at a time."""
        for first in range(0, len(columns), COLUMNS_A_BLOCK):
            names = list(columns[first : first + COLUMNS_A_BLOCK])
            arrow = self._read(names)
            values = np.empty((len(names), arrow.num_rows), dtype=np.float32)
            text = []
            for position, name in enumerate(names):
                values[position], faulty = _as_float32(arrow.column(name), first + position)
                text += faulty
            yield Block(0, first, values.T, tuple(text))


class ParquetTable(ColumnarTable):
    """A parquet file."""

    def _read(self, columns: Sequence[str]) -> pa.Table:
        """Read whole columns as they are."""
        with pq.ParquetFile(self.path) as file:
            return file.read(columns=list(columns), use_threads=False)


class FeatherTable(ColumnarTable):
    """A feather (version 2) file."""

    def _read(self, columns: Sequence[str]) -> pa.Table:
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

    def _read(self, columns: Sequence[str]) -> pa.Table:
        """Read whole columns as text, empty cells and words for missing as null."""
        parts = [self._parse(part, columns, pa.string()) for part in self._parts()]
        empty = pa.schema([(name, pa.string()) for name in columns]).empty_table()
        return pa.concat_tables([empty, *parts])

    def cells(self, columns: Sequence[str]) -> pd.DataFrame:
        """Read some columns as cell text; numbers get a decimal point whatever the file has."""
        frame = super().cells(columns)
        if self.decimal != ".":
            pattern = rf"^([+-]?\d*){re.escape(self.decimal)}(\d+)$"
            frame = frame.apply(lambda text: text.str.replace(pattern, r"\1.\2", regex=True))
        return frame

    def _blocks(self, columns: Sequence[str]) -> Iterator[Block]:
        """Read columns as float32, some rows at a time; cells with text are counted and left out."""
        row = 0
        for part in self._parts():
            text: list[TextCells] = []
            try:
                arrow = self._parse(part, columns, pa.float32())
                values = np.empty((arrow.num_columns, arrow.num_rows), dtype=np.float32)
                for position, column in enumerate(arrow.columns):
                    values[position] = column.to_numpy()
            except pa.ArrowInvalid:
                arrow = self._parse(part, columns, pa.string())
                values = np.empty((arrow.num_columns, arrow.num_rows), dtype=np.float32)
                for position, column in enumerate(arrow.columns):
                    values[position], faulty = _parsed(column, position, row, self.decimal)
                    text += faulty
            yield Block(row, 0, values.T, tuple(text))
            row += arrow.num_rows

    def _parts(self) -> Iterator[bytes]:
        """Cut the rows into parts of whole rows, so that no more than one part is in memory."""
        with open_bytes(self.path) as file:
            whole_lines(file, 0)
            while part := whole_lines(file, CSV_BLOCK_BYTES):
                yield part

    def _parse(self, part: bytes, columns: Sequence[str], kind: pa.DataType) -> pa.Table:
        return pacsv.read_csv(
            pa.BufferReader(part),
            read_options=pacsv.ReadOptions(
                column_names=list(self.columns), block_size=len(part) + 1, use_threads=False
            ),
            parse_options=pacsv.ParseOptions(delimiter=self.delimiter, newlines_in_values=True),
            convert_options=pacsv.ConvertOptions(
                include_columns=list(columns),
                column_types=dict.fromkeys(columns, kind),
                null_values=CSV_MISSING,
                true_values=[],
                false_values=[],
                strings_can_be_null=True,
                decimal_point=self.decimal,
            ),
        )


def open_bytes(path: Path) -> BinaryIO:
    """Open a file, unpacking gzip by its name."""
    return cast(BinaryIO, gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def whole_lines(file: BinaryIO, size: int) -> bytes:
    """Read at least ``size`` bytes and on to the end of a row; a line break within quotes ends none."""
    part = file.read(size) + file.readline()
    while part.count(b'"') % 2 and (more := file.readline()):
        part += more
    return part


def _header(path: Path, delimiter: str) -> tuple[str, ...]:
    with open_bytes(path) as file:
        text = whole_lines(file, 0).decode("utf-8-sig")
    return tuple(next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), ()))


@contextmanager
def readable(name: str, path: Path) -> Iterator[None]:
    """Say which file cannot be read, and why (``MMF-201``)."""
    try:
        yield
    except (OSError, EOFError, zlib.error, pa.ArrowException, UnicodeDecodeError, csv.Error) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError("MMF-201", f"cannot read {path}: {why}", name) from None


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
    with readable(name, path):
        if suffix in (".csv", ".csv.gz"):
            names = _header(path, table.delimiter)
            opened = CsvTable(name, path, id_column, names, table.delimiter, table.decimal)
        elif suffix == ".parquet":
            opened = ParquetTable(name, path, id_column, tuple(pq.read_schema(path).names))
        elif suffix == ".feather":
            with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as file:
                opened = FeatherTable(name, path, id_column, tuple(file.schema.names))
        else:
            raise DataError("MMF-217", f"the file name ends in {suffix or 'nothing'!r}", name)
    if id_column not in opened.columns:
        what = f"there is no identifier column {id_column!r} in {path}{near_names(id_column, opened.columns)}"
        raise DataError("MMF-203", what, name)
    if repeated := opened.repeated():
        raise DataError("MMF-218", f"column names stand more than once: {', '.join(repeated[:5])}", name)
    return opened


def near_names(wanted: str, offered: Sequence[str]) -> str:
    """What to add to a complaint that a column is missing: the nearest names that there are, if any."""
    near = get_close_matches(wanted, offered, n=3, cutoff=0.6)
    return f"; near names: {', '.join(near)}" if near else ""


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
