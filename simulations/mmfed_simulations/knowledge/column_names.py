"""Names to keep in a pack: the columns of a cohort's tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pandas as pd
import pyarrow.feather
import pyarrow.parquet

from mmfed_common.errors import ModelError
from mmfed_simulations.knowledge.reading import reading

Combination = Literal["all", "any"]


def column_names(paths: Sequence[Path], combination: Combination = "all") -> frozenset[str] | None:
    """Read the column names that are in all, or in any, of some tables; ``None`` if no table is given.

    Only headers are read.

    Raises
    ------
    ModelError
        ``MMF-601`` when a table cannot be read or is not .parquet, .feather, .csv, .csv.gz or .tsv.
    """
    if not paths:
        return None
    sets = [_columns(path) for path in paths]
    return frozenset.intersection(*sets) if combination == "all" else frozenset.union(*sets)


def _columns(path: Path) -> frozenset[str]:
    name = path.name.removesuffix(".gz")
    with reading(path):
        if name.endswith(".parquet"):
            return frozenset(pyarrow.parquet.read_schema(path).names)
        if name.endswith(".feather"):
            return frozenset(pyarrow.feather.read_table(path, memory_map=True).column_names)
        if name.endswith((".csv", ".tsv")):
            separator = "," if name.endswith(".csv") else "\t"
            return frozenset(str(c) for c in pd.read_csv(path, sep=separator, nrows=0).columns)
    raise ModelError("MMF-601", "use .parquet, .feather, .csv, .csv.gz or .tsv", str(path))
