"""Which transcription factor regulates which gene, from TRRUST and DoRothEA."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mmfed_common.errors import ModelError
from mmfed_common.knowledge import Pair, Source
from mmfed_simulations.knowledge.gene_table import GeneTable
from mmfed_simulations.knowledge.reading import lines_of, numbers_of, table_of
from mmfed_simulations.knowledge.source_files import REGULATION, SourceFile

MODES = {"Activation": 1.0, "Repression": -1.0, "Unknown": 0.0}
KINDS = tuple(kind for kinds in REGULATION.values() for kind in kinds)


def read_regulation(files: Sequence[SourceFile], genes: GeneTable) -> tuple[list[Pair], list[Source]]:
    """Read directed pairs from factor to target.

    The weight is 1 where every source that states a mode says activation, -1 where every one says
    repression, otherwise 0. The origin names every source of the pair.
    """
    signs: dict[tuple[str, str], set[float]] = {}
    origins: dict[tuple[str, str], set[str]] = {}
    records: list[Source] = []
    for source in (s for s in files if s.kind in KINDS):
        table = _read(source)
        table["tf"], table["target"] = genes.resolve_all(table["tf"]), genes.resolve_all(table["target"])
        known = table.dropna(subset=["tf", "target"])
        for factor, target, sign in zip(known["tf"], known["target"], known["sign"], strict=True):
            signs.setdefault((factor, target), set()).add(float(sign))
            origins.setdefault((factor, target), set()).add(source.name)
        records.append(source.record(len(table), len(table) - len(known)))
    pairs = []
    for (factor, target), stated in sorted(signs.items()):
        decided = stated - {0.0}
        weight = next(iter(decided)) if len(decided) == 1 else 0.0
        pairs.append(Pair(factor, target, weight, "+".join(sorted(origins[(factor, target)]))))
    return pairs, records


def _read(source: SourceFile) -> pd.DataFrame:
    """Give columns ``tf``, ``target`` and ``sign``."""
    if source.kind == "dorothea_table":
        table = table_of(source.path, ",", ["tf", "target", "mor"])
        table["sign"] = np.sign(numbers_of(table["mor"], source.path))
        return table
    if source.kind == "trrust_table":
        table = table_of(source.path, ",", ["tf", "target", "mode"])
    else:
        rows = []
        for number, line in enumerate(lines_of(source.path), start=1):
            cells = line.split("\t")
            if len(cells) != 4:
                what = f"line {number} has {len(cells)} columns instead of factor, target, mode, references"
                raise ModelError("MMF-601", what, str(source.path))
            rows.append(cells[:3])
        table = pd.DataFrame(rows, columns=["tf", "target", "mode"], dtype=object)
    table["sign"] = table["mode"].map(MODES)
    if table["sign"].isna().any():
        row = int(table["sign"].isna().to_numpy().argmax())
        what = f"row {row}: mode {table['mode'].iloc[row]!r} is none of {', '.join(MODES)}"
        raise ModelError("MMF-601", what, str(source.path))
    return table
