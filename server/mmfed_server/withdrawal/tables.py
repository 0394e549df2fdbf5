"""The table of withdrawals; times are UTC in ISO 8601."""

from __future__ import annotations

from sqlalchemy import Column, Integer, String, Table, Text

from mmfed_server.database import metadata

withdrawals = Table(
    "withdrawals",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("study_hash", String(64), nullable=False, index=True),
    Column("site", String(100), nullable=False),
    Column("time", String(32), nullable=False),
    Column("action", String(16), nullable=False),
    Column("told_by", String(16), nullable=False),
    Column("reason", Text, nullable=False),
)
"""Rows are only ever added: what a site's last row of a study says is how it stands."""
