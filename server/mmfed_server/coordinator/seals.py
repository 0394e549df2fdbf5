"""Each answer is checked against its site's key, and takes the head of the site's ledger with it.

The site also shows that its ledger still holds the entry that the server knew as its head when it asked: a
ledger that was rewritten and has grown past it would otherwise pass.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping

from flwr.app import Message

from mmfed_common import messages as m
from mmfed_common.errors import NetworkError
from mmfed_common.ledger import Head
from mmfed_common.seal import check_seal
from mmfed_common.signing import SitePublicKey
from mmfed_common.software import software_differences
from mmfed_server.federation import SiteRegistry

REWRITTEN = ("MMF-436", "MMF-441")
"""Codes that put a site in quarantine at once."""

OnSoftware = Callable[[str, list[str]], None]
"""Site, and how its software differs from ours (empty: not at all)."""


class EnrolledSeals:
    """Checks answers by the registry; a :class:`mmfed_common.seal.SealCheck`.

    Parameters
    ----------
    registry
        Knows the key of each site.
    on_software
        Told what a site says about its software.
    """

    def __init__(self, registry: SiteRegistry, on_software: OnSoftware) -> None:
        self.registry = registry
        self.on_software = on_software
        self._asked: dict[str, Head] = {}

    def ledger_known(self, site: str) -> int:
        """How many entries a site's ledger had when it was last heard: what its next answer must fit.

        Returns
        -------
        0 for a site of which nothing is known.
        """
        try:
            record = self.registry.get(site)
        except NetworkError as error:
            if error.code != "MMF-434":
                raise
            return 0
        self._asked[site] = Head(record.ledger_length, record.ledger_head)
        return record.ledger_length

    def __call__(self, site: str, answer: Message) -> None:
        """Check signature and request, then keep the ledger's head.

        Raises
        ------
        NetworkError
            ``MMF-416`` when the seal does not hold or the site is not enrolled, ``MMF-434`` when it is not
            known, ``MMF-436`` or ``MMF-441`` when its ledger was rewritten: the site is put in quarantine
            at once.
        """
        record = self.registry.get(site)
        if record.state != "enrolled" or record.public_key is None:
            raise NetworkError("MMF-416", f"the site is {record.state}, not enrolled", site)
        check_seal(answer, SitePublicKey.from_pem(record.public_key), answer.metadata.reply_to_message_id)
        about = answer.content.config_records[m.ABOUT]
        if about.get(m.SITE) != site:
            raise NetworkError("MMF-416", "it is signed by one site and names another", site)
        software = about.get(m.SOFTWARE)
        if software is not None:
            self.on_software(site, software_differences(software if isinstance(software, str) else ""))
        asked = self._asked.get(site, Head(record.ledger_length, record.ledger_head))
        self._note_ledger(site, about, asked)

    def _note_ledger(self, site: str, about: Mapping[str, object], asked: Head) -> None:
        length, head = about.get(m.LEDGER_LENGTH), about.get(m.LEDGER_HEAD)
        if not isinstance(length, int) or not isinstance(head, str):
            raise NetworkError("MMF-436", "the answer does not carry the head of the site's ledger", site)
        try:
            if length > asked.length:
                _refuse_other_past(site, about.get(m.LEDGER_PAST), asked)
            self.registry.note_ledger(site, length, head)
        except NetworkError as error:
            if error.code in REWRITTEN:
                self.registry.quarantine(site, error.code)
            raise


def _refuse_other_past(site: str, past: object, known: Head) -> None:
    """A ledger that has grown must still hold the entry that was known as its head; the first has none."""
    if known.length == 0:
        return
    if not isinstance(past, str) or not past:
        raise NetworkError("MMF-441", f"the answer does not show entry {known.length} of its ledger", site)
    if not hmac.compare_digest(past.encode(), known.hash.encode()):
        raise NetworkError("MMF-441", f"entry {known.length} of its ledger is another one now", site)
