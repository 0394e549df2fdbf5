"""Each answer is checked against its site's key, and takes the head of the site's ledger with it."""

from __future__ import annotations

from collections.abc import Callable

from flwr.app import Message

from mmfed_common import messages as m
from mmfed_common.errors import NetworkError
from mmfed_common.seal import check_seal
from mmfed_common.signing import SitePublicKey
from mmfed_common.software import software_differences
from mmfed_server.federation import SiteRegistry

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

    def __call__(self, site: str, answer: Message) -> None:
        """Check signature and request, then keep the ledger's head.

        Raises
        ------
        NetworkError
            ``MMF-416`` when the seal does not hold or the site is not enrolled, ``MMF-434`` when it is not
            known, ``MMF-436`` when its ledger was rewritten: the site is put in quarantine at once.
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
        self._note_ledger(site, about.get(m.LEDGER_LENGTH), about.get(m.LEDGER_HEAD))

    def _note_ledger(self, site: str, length: object, head: object) -> None:
        if not isinstance(length, int) or not isinstance(head, str):
            raise NetworkError("MMF-436", "the answer does not carry the head of the site's ledger", site)
        try:
            self.registry.note_ledger(site, length, head)
        except NetworkError as error:
            if error.code == "MMF-436":
                self.registry.quarantine(site, error.code)
            raise
