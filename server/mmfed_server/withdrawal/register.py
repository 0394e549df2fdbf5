"""Which sites have left which study, and who said so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, Engine, insert, select

from mmfed_common.errors import StudyError
from mmfed_server.record.database import now, transaction
from mmfed_server.withdrawal.tables import withdrawals

LEFT = "MMF-560"
WITHOUT = "MMF-561"
WITHDRAWN, READMITTED = "withdrawn", "readmitted"
LONGEST_REASON = 500
ToldBy = Literal["site", "coordinator"]


@dataclass(frozen=True)
class Withdrawal:
    """A site that has left a study.

    Attributes
    ----------
    site
        Which.
    time
        Since when (UTC).
    told_by
        ``site`` when its own signed request said so, ``coordinator`` when somebody there did.
    reason
        As it was given; may be empty.
    """

    site: str
    time: str
    told_by: str
    reason: str


class Withdrawals:
    """The register of withdrawals; each method is one transaction.

    Parameters
    ----------
    engine
        From :func:`mmfed_server.database.open_database`.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        with transaction(engine) as connection:
            withdrawals.create(connection, checkfirst=True)

    def withdraw(self, study_hash: str, site: str, told_by: ToldBy, reason: str = "") -> bool:
        """Note that a site leaves a study; False when it had left already."""
        with transaction(self.engine) as connection:
            if site in _standing(connection, study_hash):
                return False
            _add(connection, study_hash, site, WITHDRAWN, told_by, reason)
        return True

    def readmit(self, study_hash: str, site: str, reason: str = "") -> None:
        """Let a site back into a study.

        Raises
        ------
        StudyError
            ``MMF-567`` when it has not left.
        """
        with transaction(self.engine) as connection:
            if site not in _standing(connection, study_hash):
                raise StudyError("MMF-567", f"of study {study_hash[:12]}", site)
            _add(connection, study_hash, site, READMITTED, "coordinator", reason)

    def of(self, study_hash: str) -> dict[str, Withdrawal]:
        """The sites that have left a study, by name."""
        with transaction(self.engine) as connection:
            return _standing(connection, study_hash)


def _standing(connection: Connection, study_hash: str) -> dict[str, Withdrawal]:
    query = select(withdrawals).where(withdrawals.c.study_hash == study_hash)
    found: dict[str, Withdrawal] = {}
    for row in connection.execute(query.order_by(withdrawals.c.number)):
        if row.action == WITHDRAWN:
            found[row.site] = Withdrawal(row.site, row.time, row.told_by, row.reason)
        else:
            found.pop(row.site, None)
    return dict(sorted(found.items()))


def _add(
    connection: Connection, study_hash: str, site: str, action: str, told_by: ToldBy, reason: str
) -> None:
    row = {"study_hash": study_hash, "site": site, "time": now(), "action": action, "told_by": told_by}
    connection.execute(insert(withdrawals).values(**row, reason=reason[:LONGEST_REASON]))
