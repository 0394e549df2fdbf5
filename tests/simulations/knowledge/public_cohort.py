"""The ``cohort.toml`` of a small public cohort with survival."""

from __future__ import annotations


def cohort_toml(features: str, *tables: str) -> str:
    """Sections of features, over a table ``t`` (and others) in ``t.csv``."""
    files = "\n".join(f'{name} = "{name}.csv"' for name in ("t", *tables))
    return f"""
[cohort]
id_column = "id"
[tables]
{files}
{features}
[outcome.survival]
table = "t"
time = "days"
event = "died"
unit = "days"
"""
