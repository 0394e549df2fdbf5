"""The tables of the runs; times are UTC in ISO 8601."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
)

from mmfed_server.database import metadata

runs = Table(
    "runs",
    metadata,
    Column("run", String(100), primary_key=True),
    Column("study_hash", String(64), nullable=False, index=True),
    Column("study_name", String(63), nullable=False),
    Column("study", Text, nullable=False),
    Column("created", String(32), nullable=False),
    Column("updated", String(32), nullable=False),
    Column("status", String(16), nullable=False),
    Column("code", String(40), nullable=False),
    Column("reason", Text, nullable=False),
    Column("details", JSON, nullable=False),
    Column("rounds", Integer, nullable=False),
    Column("next_round", Integer, nullable=False),
    Column("finished", Boolean, nullable=False),
    Column("commits", Integer, nullable=False),
    Column("writer", String(32), nullable=False),
)
"""``commits`` counts the states of a run; ``writer`` is the process that may add the next one."""

rounds = Table(
    "rounds",
    metadata,
    Column("run", ForeignKey("runs.run", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("round", Integer, nullable=False),
    Column("committed", String(32), nullable=False),
    Column("stage", String(16), nullable=False),
    Column("seconds", Float, nullable=False),
    Column("entry", JSON, nullable=False),
)
"""One row a round; ``entry`` holds its metrics, sites and refusals as in the history of the state."""

run_sites = Table(
    "run_sites",
    metadata,
    Column("run", ForeignKey("runs.run", ondelete="CASCADE"), primary_key=True),
    Column("site", String(100), primary_key=True),
    Column("patients", Integer, nullable=False),
    Column("below_floor", Boolean, nullable=False),
    Column("rounds", Integer, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("bytes_up", BigInteger, nullable=False),
    Column("bytes_down", BigInteger, nullable=False),
    Column("refusals", Integer, nullable=False),
    Column("last_refusal", Text, nullable=False),
)

states = Table(
    "states",
    metadata,
    Column("run", ForeignKey("runs.run", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("committed", String(32), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
)

state_parts = Table(
    "state_parts",
    metadata,
    Column("run", ForeignKey("runs.run", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("part", Integer, primary_key=True),
    Column("content", LargeBinary, nullable=False),
)
"""A state in pieces, so that no statement carries a whole model."""

kept_states = Table(
    "kept_states",
    metadata,
    Column("run", ForeignKey("runs.run", ondelete="CASCADE"), primary_key=True),
    Column("site", String(100), primary_key=True),
    Column("number", Integer, nullable=False),
)
"""The last state of a run that holds nothing of a site, for each site that came after others."""

opened_sums = Table(
    "opened_sums",
    metadata,
    Column("study_hash", String(64), primary_key=True),
    Column("round", Integer, primary_key=True),
    Column("sites", JSON, nullable=False),
)
"""The sites that were asked to open a masked sum: they open a study's round for no others."""

replays = Table(
    "replays",
    metadata,
    Column("run", ForeignKey("runs.run", ondelete="CASCADE"), primary_key=True),
    Column("replaces", ForeignKey("runs.run", ondelete="CASCADE"), nullable=False, unique=True),
    Column("without", JSON, nullable=False),
    Column("from_round", Integer, nullable=False),
    Column("asked", String(32), nullable=False),
)
"""Runs that are trained again without some sites, and which run each replaces; ``from_round`` is the first
round that is trained again."""

events = Table(
    "events",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("run", ForeignKey("runs.run", ondelete="CASCADE"), nullable=False, index=True),
    Column("time", String(32), nullable=False),
    Column("event", String(60), nullable=False),
    Column("details", JSON, nullable=False),
)
