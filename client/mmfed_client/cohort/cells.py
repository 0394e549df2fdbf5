"""From a cell to its meaning: text, number, place in a vocabulary.

Cells of small tables are held as text, whatever the file stores, so that ``1``, ``1.0`` and ``"1"`` are the
same category in csv and in parquet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

MISSING_WORDS = frozenset({"", "na", "n/a", "nan", "null", "#n/a", "<na>"})
"""Cell texts, without case, that mean missing everywhere; the contract may add others for a column."""

MISSING, UNKNOWN = -1, -2


def cell_text(column: pa.Array | pa.ChunkedArray) -> pd.Series:
    """Write cells as stripped text: whole numbers without decimals, booleans 0 and 1, missing ``None``."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    return pd.Series([_one_text(cell) for cell in column.to_pylist()], dtype=object)


def _one_text(cell: object) -> str | None:
    if cell is None:
        return None
    if isinstance(cell, float):
        if np.isnan(cell):
            return None
        return str(int(cell)) if cell.is_integer() else repr(cell)
    text = str(cell).strip()
    return None if text.casefold() in MISSING_WORDS else _without_zeros(text)


def _without_zeros(text: str) -> str:
    """Write ``1.0`` as ``1``; leading zeros and all other text stay."""
    head, _, tail = text.partition(".")
    return head if tail and not tail.strip("0") and head.lstrip("+-").isdigit() else text


def normal(value: object) -> str:
    """Bring a word of a vocabulary, or a cell, into the form in which they are compared.

    Stripped and case-folded; ``1.0`` is ``1``; ``True`` and ``False`` are ``1`` and ``0``.
    """
    if isinstance(value, bool):
        return str(int(value))
    return _without_zeros(str(value).strip().casefold())


def without(texts: pd.Series, missing: Iterable[str]) -> pd.Series:
    """Set the cells to missing whose text is one of these words."""
    words = {normal(word) for word in missing}
    if not words:
        return texts
    return texts.where(~texts.map(normal, na_action="ignore").isin(words), None)


def numbers(texts: pd.Series) -> npt.NDArray[np.float64]:
    """Read numbers; NaN where the cell is missing or not a number, infinite values stay infinite."""
    return pd.to_numeric(texts, errors="coerce").to_numpy(dtype=np.float64)


def codes(
    texts: pd.Series, values: Iterable[str], aliases: Mapping[str, str] | None = None
) -> npt.NDArray[np.int64]:
    """Give each cell's index in a vocabulary, ``MISSING`` or ``UNKNOWN``."""
    index = {normal(value): position for position, value in enumerate(values)}
    for alias, value in (aliases or {}).items():
        index.setdefault(normal(alias), index[normal(value)])
    found = [MISSING if text is None else index.get(normal(text), UNKNOWN) for text in texts]
    return np.array(found, dtype=np.int64)


def binary_codes(
    texts: pd.Series, values: tuple[str, ...] = (), aliases: Mapping[str, str] | None = None
) -> npt.NDArray[np.int64]:
    """Give 0, 1, ``MISSING`` or ``UNKNOWN``; without ``values`` the cells are 0/1 or false/true."""
    if values:
        return codes(texts, values, aliases)
    return codes(texts, ("0", "1"), {"false": "0", "true": "1", **(aliases or {})})
