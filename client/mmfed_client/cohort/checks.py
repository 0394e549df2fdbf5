"""Pandera schemas over tables, and their failure cases as faults.

Each check carries its code and its sentence; :func:`validate` runs a schema lazily, so that every failure of
every column is collected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaErrors

from mmfed_client.cohort.cells import UNKNOWN, numbers, without
from mmfed_client.cohort.tables import Table, near_names
from mmfed_common.errors import Fault

SEPARATOR = "\x1f"
Booleans = npt.NDArray[np.bool_]
Test = Callable[[pd.Series], Booleans]


def check(code: str, sentence: str, passes: Test, missing: Iterable[str] = ()) -> pa.Check:
    """Make a pandera check; ``passes`` maps the cell texts of a column to whether each is right.

    Missing cells always pass, and so do the words in ``missing``.
    """

    def run(column: pd.Series) -> pd.Series:
        cells = without(column, missing)
        right = np.asarray(passes(cells), dtype=np.bool_)
        return pd.Series(right | cells.isna().to_numpy(), index=column.index)

    return pa.Check(run, error=f"{code}{SEPARATOR}{sentence}", ignore_na=False)


def filled_check(code: str, sentence: str) -> pa.Check:
    """Check that no cell is missing."""
    return pa.Check(lambda column: column.notna(), error=f"{code}{SEPARATOR}{sentence}", ignore_na=False)


def number_checks(
    minimum: float | None = None, maximum: float | None = None, unit: str = "", missing: Iterable[str] = ()
) -> list[pa.Check]:
    """Check for text, for infinite values and for the contract's range."""
    checks = [
        check("MMF-205", "is not a number", lambda c: ~np.isnan(numbers(c)), missing),
        check("MMF-206", "is infinite", lambda c: ~np.isinf(numbers(c)), missing),
    ]
    low, high = -np.inf if minimum is None else minimum, np.inf if maximum is None else maximum

    def in_range(column: pd.Series) -> Booleans:
        values = numbers(column)
        return ~np.isfinite(values) | ((values >= low) & (values <= high))

    if minimum is not None or maximum is not None:
        checks.append(check("MMF-206", f"must be {span(minimum, maximum)} {unit}".strip(), in_range, missing))
    return checks


def span(minimum: float | None, maximum: float | None) -> str:
    """Say a range in words."""
    if minimum is not None and maximum is not None:
        return f"between {minimum:g} and {maximum:g}"
    return f"at least {minimum:g}" if minimum is not None else f"at most {maximum:g}"


def vocabulary_check(
    code: str,
    sentence: str,
    encode: Callable[[pd.Series], npt.NDArray[np.int64]],
    missing: Iterable[str] = (),
) -> pa.Check:
    """Check that every cell has a code; ``encode`` gives :data:`cells.UNKNOWN` where it has none."""
    return check(code, sentence, lambda column: encode(column) != UNKNOWN, missing)


def identifier_checks(*, unique: bool) -> list[pa.Check]:
    """Check identifiers: never empty, and one row for each patient where the table promises it."""
    checks = [filled_check("MMF-215", "is empty")]
    if unique:
        checks.append(check("MMF-204", "appears more than once", lambda c: ~c.duplicated().to_numpy()))
    return checks


def validate(frame: pd.DataFrame, columns: Mapping[str, Sequence[pa.Check]], table: Table) -> list[Fault]:
    """Run checks over a frame and give one fault for each column and check that fails.

    A column that the table lacks is ``MMF-203``, with the nearest names that it has.
    """
    schema = pa.DataFrameSchema(
        {name: pa.Column(None, list(checks), nullable=True) for name, checks in columns.items()}
    )
    try:
        schema.validate(frame, lazy=True)
    except SchemaErrors as failed:
        return _faults(failed.failure_cases, table)
    return []


def _faults(cases: pd.DataFrame, table: Table) -> list[Fault]:
    faults = []
    for (column, text), group in cases.groupby(["column", "check"], sort=False, dropna=False):
        if text == "column_in_dataframe":
            faults += [missing_column(table, str(name)) for name in group["failure_case"]]
            continue
        code, _, sentence = str(text).partition(SEPARATOR)
        rows = group["index"].astype(int)
        shown = list(dict.fromkeys(str(value) for value in group["failure_case"] if value is not None))
        examples = ", ".join(repr(value) for value in shown[:5]) + (", …" if len(shown) > 5 else "")
        what = f"{examples or 'a cell'} {sentence}"
        faults.append(Fault(code, what, table.name, int(rows.min()), str(column), len(group)))
    return faults


def missing_column(table: Table, column: str) -> Fault:
    """Report a column that cohort.toml names and the table lacks."""
    what = f"there is no column {column!r}{near_names(column, table.columns)}"
    return Fault("MMF-203", what, table.name, None, column)
