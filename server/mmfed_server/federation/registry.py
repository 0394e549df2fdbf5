"""The registry: which sites there are, which keys speak for them, and how far each is trusted just now.

Each method is one transaction, so that the running server and `mmfed-server enrol` can use one database.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, func, insert, select, update

from mmfed_common.errors import NetworkError
from mmfed_common.kit import Kit
from mmfed_common.names import check_site_name, utc_now
from mmfed_common.portal_protocol import join_proof, secret_verifier
from mmfed_common.signing import SitePublicKey
from mmfed_server.database import database_errors
from mmfed_server.database import metadata as all_tables
from mmfed_server.federation.tables import LedgerHead, SiteRecord, ledger_heads, site_keys, sites

REFUSALS_TO_QUARANTINE = 3
INVITATION_DAYS = 14
ROTATION_DAYS = 7
MOST_LEDGER_LENGTH = 2**53

_HEAD = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Invitation:
    """What a new kit needs beyond the federation's own facts."""

    site: str
    secret: str = field(repr=False)
    expires: datetime


class SiteRegistry:
    """The sites of a federation.

    Parameters
    ----------
    engine
        From :func:`mmfed_server.database.open_database`.
    clock
        Gives the time in UTC.
    """

    def __init__(self, engine: Engine, clock: Callable[[], datetime] = utc_now) -> None:
        self.engine = engine
        self.clock = clock
        with database_errors(engine.url):
            all_tables.create_all(engine, tables=[sites, site_keys, ledger_heads])

    def invite(self, name: str, days: float = INVITATION_DAYS) -> Invitation:
        """Invite a site: new, once more (its former kit is void then), or again after it was revoked.

        Raises
        ------
        NetworkError
            ``MMF-425`` when the name is not allowed or differs from another's in case only, ``MMF-435`` when
            the site is enrolled.
        """
        check_site_name(name)
        now = self.clock()
        invitation = Invitation(name, Kit.new_secret(), now + timedelta(days=days))
        values = {
            "state": "invited",
            "secret_hash": secret_verifier(invitation.secret),
            "secret_expires": invitation.expires.timestamp(),
            "invited_at": now.timestamp(),
        }
        with self._transaction() as connection:
            same = func.lower(sites.c.name) == name.lower()
            row = connection.execute(select(sites).where(same).with_for_update()).mappings().first()
            if row is None:
                connection.execute(insert(sites).values(name=name, **values))
            elif row["name"] != name:
                raise NetworkError("MMF-425", f"there is a site {row['name']} already", name)
            elif row["state"] == "enrolled":
                raise NetworkError("MMF-435", "the site is enrolled", name)
            else:
                again = _fresh(row["generation"] + 1) if row["state"] == "revoked" else {}
                _set(connection, name, **values, **again)
        return invitation

    def knows_secret(self, name: str, transcript: bytes, proof: bytes) -> bool:
        """Tell whether a proof shows the secret of a site's invitation, used and expired ones included."""
        with self._transaction() as connection:
            row = _find(connection, name)
        return _proves(row, transcript, proof)

    def enrol(self, name: str, transcript: bytes, proof: bytes, key: SitePublicKey) -> SiteRecord:
        """Enrol a site that proves the secret. The same key may do so again until the secret expires.

        A site may not have heard the first answer, therefore; any other key finds the secret used.

        Parameters
        ----------
        transcript, proof
            :meth:`mmfed_common.portal_protocol.JoinRequest.transcript` and the proof over it.
        key
            The site's key; its signature over the transcript is checked already.

        Raises
        ------
        NetworkError
            ``MMF-421`` when the secret is wrong or was used with another key, ``MMF-420`` when it has
            expired, ``MMF-437`` when the key was used before.
        """
        now = self.clock()
        with self._transaction() as connection:
            row = _find(connection, name)
            if not _proves(row, transcript, proof):
                raise NetworkError("MMF-421", "no invitation with this secret", name)
            if now.timestamp() >= row["secret_expires"]:
                raise NetworkError("MMF-420", "the invitation has expired", name)
            if row["state"] == "enrolled":
                if row["fingerprint"] != key.fingerprint:
                    raise NetworkError("MMF-421", "the secret was used with another key", name)
                return SiteRecord.of(row)
            _remember_key(connection, name, key, now)
            _set(connection, name, state="enrolled", **_key_values(key), enrolled_at=now.timestamp())
            return _record(connection, name)

    def revoke(self, name: str) -> None:
        """Exclude a site: its key is refused from now on and never accepted again.

        Raises
        ------
        NetworkError
            ``MMF-434`` when there is no such site.
        """
        with self._transaction() as connection:
            _record(connection, name)
            _set(
                connection,
                name,
                state="revoked",
                public_key=None,
                secret_hash=None,
                rotation_until=None,
                revoked_at=self.clock().timestamp(),
            )

    def begin_rotation(self, name: str, days: float = ROTATION_DAYS) -> datetime:
        """Allow an enrolled site to replace its key once; gives until when.

        Raises
        ------
        NetworkError
            ``MMF-434`` when there is no such site, ``MMF-435`` when it is not enrolled.
        """
        until = self.clock() + timedelta(days=days)
        with self._transaction() as connection:
            _enrolled(connection, name)
            _set(connection, name, rotation_until=until.timestamp())
        return until

    def rotate(self, name: str, key: SitePublicKey) -> SiteRecord:
        """Replace an enrolled site's key; both keys' signatures are checked already.

        The coordinator must have begun it: who steals a key cannot make himself at home with another.

        Raises
        ------
        NetworkError
            ``MMF-434``, ``MMF-435`` as :meth:`begin_rotation`, ``MMF-438`` when no rotation was begun or its
            time is over, ``MMF-437`` when the key was used before.
        """
        now = self.clock()
        with self._transaction() as connection:
            record = _enrolled(connection, name)
            if record.rotation_until is None or now >= record.rotation_until:
                raise NetworkError("MMF-438", "no change of the key was begun, or its time is over", name)
            _remember_key(connection, name, key, now)
            _set(connection, name, **_key_values(key), rotation_until=None, secret_hash=None)
            return _record(connection, name)

    def all(self) -> list[SiteRecord]:
        """Every site, by name."""
        with self._transaction() as connection:
            rows = connection.execute(select(sites).order_by(sites.c.name)).mappings()
            return [SiteRecord.of(row) for row in rows]

    def get(self, name: str) -> SiteRecord:
        """One site.

        Raises
        ------
        NetworkError
            ``MMF-434`` when there is no such site.
        """
        with self._transaction() as connection:
            return _record(connection, name)

    def keys(self) -> dict[str, bytes]:
        """The key (PEM) of each enrolled site, also of those in quarantine: they must hear about it."""
        return {r.name: r.public_key for r in self.all() if r.state == "enrolled" and r.public_key}

    def quarantined(self) -> dict[str, str]:
        """Code by enrolled site for those in quarantine."""
        return {
            r.name: r.quarantined_code for r in self.all() if r.state == "enrolled" and r.quarantined_code
        }

    def note_seen(self, name: str) -> None:
        """Remember that a site was heard just now; nothing happens for an unknown one."""
        with self._transaction() as connection:
            _set(connection, name, last_seen=self.clock().timestamp())

    def note_ledger(self, site: str, length: int, head: str) -> None:
        """Keep the head of a site's ledger that came with an answer.

        Raises
        ------
        NetworkError
            ``MMF-436`` when the ledger is shorter than it was, has another head at the same length, or the
            head is none; ``MMF-434``, ``MMF-435`` when the site is unknown or not enrolled.
        """
        if type(length) is not int or not 0 < length <= MOST_LEDGER_LENGTH or not _HEAD.fullmatch(head):
            raise NetworkError("MMF-436", "the answer names no head of a ledger", site)
        with self._transaction() as connection:
            known = _enrolled(connection, site)
            if length < known.ledger_length:
                what = f"the ledger has {length} entries and had {known.ledger_length}"
                raise NetworkError("MMF-436", what, site)
            if length == known.ledger_length:
                if not hmac.compare_digest(head, known.ledger_head):
                    raise NetworkError("MMF-436", f"entry {length} of the ledger is another one now", site)
                return
            noted = {"generation": known.generation, "noted_at": self.clock().timestamp()}
            connection.execute(insert(ledger_heads).values(site=site, length=length, head=head, **noted))
            _set(connection, site, ledger_length=length, ledger_head=head)

    def ledger_heads(self, site: str) -> list[LedgerHead]:
        """Every head that came since the site was last invited; an exported ledger must pass through all."""
        with self._transaction() as connection:
            record = _record(connection, site)
            own = (ledger_heads.c.site == site) & (ledger_heads.c.generation == record.generation)
            rows = connection.execute(select(ledger_heads).where(own).order_by(ledger_heads.c.length))
            return [
                LedgerHead(row.length, row.head, datetime.fromtimestamp(row.noted_at, UTC)) for row in rows
            ]

    def last_key(self, site: str) -> SitePublicKey:
        """The key that a site was last enrolled with, also when it was revoked since.

        Raises
        ------
        NetworkError
            ``MMF-434`` when there is no such site, ``MMF-435`` when it has not joined.
        """
        with self._transaction() as connection:
            record = _record(connection, site)
            used = select(site_keys.c.public_key).where(site_keys.c.fingerprint == record.fingerprint)
            found = connection.execute(used).first()
        if found is None:
            raise NetworkError("MMF-435", "the site has not joined", site)
        return SitePublicKey.from_pem(found.public_key.encode())

    def note_refusal(self, site: str, code: str) -> bool:
        """Count a refused update; the third in a row puts the site in quarantine.

        Returns
        -------
        Whether the site is in quarantine now.

        Raises
        ------
        NetworkError
            ``MMF-434`` when there is no such site.
        """
        with self._transaction() as connection:
            record = _record(connection, site)
            count = record.refusals_in_row + 1
            held = record.quarantined_code or (code if count >= REFUSALS_TO_QUARANTINE else None)
            _set(connection, site, refusals_in_row=count, refused_code=code, quarantined_code=held)
        return held is not None

    def note_success(self, site: str) -> None:
        """Count a good update: refusals begin at 0 again; a quarantine is lifted by a person only."""
        with self._transaction() as connection:
            _set(connection, site, refusals_in_row=0, last_seen=self.clock().timestamp())

    def quarantine(self, site: str, code: str) -> None:
        """Put a site in quarantine at once; ``MMF-434`` when there is no such site."""
        with self._transaction() as connection:
            _record(connection, site)
            _set(connection, site, quarantined_code=code)

    def lift(self, site: str) -> None:
        """Let a site out of quarantine; ``MMF-434`` when there is no such site."""
        with self._transaction() as connection:
            _record(connection, site)
            _set(connection, site, quarantined_code=None, refusals_in_row=0)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with database_errors(self.engine.url), self.engine.begin() as connection:
            yield connection


def _find(connection: Connection, name: str) -> Any:
    return connection.execute(select(sites).where(sites.c.name == name).with_for_update()).mappings().first()


def _proves(row: Any, transcript: bytes, proof: bytes) -> bool:
    """Compare in the same time whether there is such an invitation or not."""
    verifier = row["secret_hash"] if row else None
    right = hmac.compare_digest(join_proof(verifier or bytes(32), transcript), proof)
    return right and verifier is not None


def _record(connection: Connection, name: str) -> SiteRecord:
    row = _find(connection, name)
    if row is None:
        raise NetworkError("MMF-434", "no such site", name[:80])
    return SiteRecord.of(row)


def _enrolled(connection: Connection, name: str) -> SiteRecord:
    record = _record(connection, name)
    if record.state != "enrolled":
        raise NetworkError("MMF-435", f"the site is {record.state}, not enrolled", name)
    return record


def _set(connection: Connection, name: str, **values: object) -> None:
    connection.execute(update(sites).where(sites.c.name == name).values(**values))


def _key_values(key: SitePublicKey) -> dict[str, object]:
    return {"public_key": key.pem().decode(), "fingerprint": key.fingerprint}


def _fresh(generation: int) -> dict[str, object]:
    """What a site that is invited again after it was revoked begins with."""
    return {
        "generation": generation,
        "fingerprint": None,
        "ledger_length": 0,
        "ledger_head": "",
        "refusals_in_row": 0,
        "refused_code": None,
        "quarantined_code": None,
    }


def _remember_key(connection: Connection, name: str, key: SitePublicKey, now: datetime) -> None:
    known = select(site_keys.c.site).where(site_keys.c.fingerprint == key.fingerprint)
    if connection.execute(known).first() is not None:
        raise NetworkError("MMF-437", "this key was used before", name)
    values = {"fingerprint": key.fingerprint, "public_key": key.pem().decode(), "since": now.timestamp()}
    connection.execute(insert(site_keys).values(site=name, **values))
