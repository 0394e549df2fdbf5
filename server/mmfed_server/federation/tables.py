"""The registry's tables. Times are seconds since 1970 (UTC)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import BigInteger, Column, Double, ForeignKey, Integer, LargeBinary, RowMapping, String, Table

from mmfed_server.database import metadata

State = Literal["invited", "enrolled", "revoked"]

sites = Table(
    "sites",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("generation", Integer, nullable=False, default=1),
    Column("public_key", String(2048)),
    Column("fingerprint", String(100)),
    Column("secret_hash", LargeBinary),
    Column("secret_expires", Double),
    Column("invited_at", Double),
    Column("enrolled_at", Double),
    Column("revoked_at", Double),
    Column("rotation_until", Double),
    Column("last_seen", Double),
    Column("ledger_length", BigInteger, nullable=False, default=0),
    Column("ledger_head", String(64), nullable=False, default=""),
    Column("refusals_in_row", Integer, nullable=False, default=0),
    Column("refused_code", String(16)),
    Column("quarantined_code", String(16)),
)
"""One row a site; ``generation`` counts how often it was invited anew after it had been revoked."""

site_keys = Table(
    "site_keys",
    metadata,
    Column("fingerprint", String(100), primary_key=True),
    Column("site", String(63), ForeignKey("sites.name"), nullable=False),
    Column("public_key", String(2048), nullable=False),
    Column("since", Double, nullable=False),
)
"""Every key that any site ever had: none is accepted twice, and old signatures can still be checked."""

ledger_heads = Table(
    "ledger_heads",
    metadata,
    Column("site", String(63), ForeignKey("sites.name"), primary_key=True),
    Column("generation", Integer, primary_key=True),
    Column("length", BigInteger, primary_key=True),
    Column("head", String(64), nullable=False),
    Column("noted_at", Double, nullable=False),
)
"""Every head of a site's ledger that came with an update: an exported ledger must pass through them."""


@dataclass(frozen=True)
class SiteRecord:
    """One site as the registry knows it.

    Attributes
    ----------
    name, state
        ``state`` is invited, enrolled or revoked.
    fingerprint
        Of the site's key; None until it has joined.
    secret_expires, invited_at, enrolled_at, revoked_at, rotation_until, last_seen
        Times in UTC, None where it does not apply. Until ``rotation_until`` the site may change its key.
    ledger_length, ledger_head
        The last head of the site's ledger that came.
    refusals_in_row, refused_code
        Refused updates since the last good one, and the last refusal's code.
    quarantined_code
        Why the site is in quarantine; None when it is not.
    """

    name: str
    state: State
    generation: int
    public_key: bytes | None
    fingerprint: str | None
    secret_expires: datetime | None
    invited_at: datetime | None
    enrolled_at: datetime | None
    revoked_at: datetime | None
    rotation_until: datetime | None
    last_seen: datetime | None
    ledger_length: int
    ledger_head: str
    refusals_in_row: int
    refused_code: str | None
    quarantined_code: str | None

    @staticmethod
    def of(row: RowMapping) -> SiteRecord:
        """Make a record of a row of :data:`sites`."""
        pem: str | None = row["public_key"]
        return SiteRecord(
            name=row["name"],
            state=row["state"],
            generation=row["generation"],
            public_key=None if pem is None else pem.encode(),
            fingerprint=row["fingerprint"],
            secret_expires=_time(row["secret_expires"]),
            invited_at=_time(row["invited_at"]),
            enrolled_at=_time(row["enrolled_at"]),
            revoked_at=_time(row["revoked_at"]),
            rotation_until=_time(row["rotation_until"]),
            last_seen=_time(row["last_seen"]),
            ledger_length=row["ledger_length"],
            ledger_head=row["ledger_head"],
            refusals_in_row=row["refusals_in_row"],
            refused_code=row["refused_code"],
            quarantined_code=row["quarantined_code"],
        )


@dataclass(frozen=True)
class LedgerHead:
    """One head of a site's ledger as it came with an update."""

    length: int
    head: str
    noted_at: datetime


def _time(seconds: Any) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
