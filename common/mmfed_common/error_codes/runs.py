"""Codes of 53x and 54x: the coordinator's runs and their record."""

from __future__ import annotations

from mmfed_common.error_codes.code import Code

CODES: dict[str, Code] = {
    "MMF-530": Code(
        "The database of the runs cannot be used.",
        "Check `database` in federation.toml and that the database runs; the last whole round is safe.",
    ),
    "MMF-531": Code(
        "Another process goes on with the same run.",
        "Stop one of the two servers; the one that began last may go on.",
    ),
    "MMF-532": Code("There is no such run.", "List what there is with `mmfed-server runs`."),
    "MMF-533": Code(
        "The run waits for sites.",
        "Look at the sites that are missing; the run goes on by itself when enough are there.",
    ),
}
