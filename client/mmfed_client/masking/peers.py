"""Who the peers are: compared with the policy, and written down for people to compare.

A site knows the others' keys from the coordinator only. A coordinator that invents sites could therefore sit
on all sides of a sum but one; a policy that lists the peers' fingerprints, told over the telephone, stops it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from mmfed_client.ledger import Ledger
from mmfed_common.errors import PrivacyError
from mmfed_common.masking.keys import PeerKeys
from mmfed_common.signing import SitePublicKey

PEERS = "masking-peers"
"""Kind of the ledger's entry that says with whom this site's updates are summed."""


def fingerprints(peers: Sequence[PeerKeys]) -> dict[str, str]:
    """Site → fingerprint of its enrolled key, as people read it to each other."""
    return {peer.site: SitePublicKey.from_pem(peer.enrolled.encode()).fingerprint for peer in peers}


def refuse_unlisted(listed: Collection[str], peers: Sequence[PeerKeys], own: str) -> None:
    """Raise unless the policy lists every peer's key; an empty list lets any be.

    Raises
    ------
    PrivacyError
        ``MMF-386`` with the first site that is not listed; ``MMF-385`` for a key that is none.
    """
    if not listed:
        return
    known = {_plain(fingerprint) for fingerprint in listed}
    for peer in peers:
        if fault := _unreadable(peer):
            raise PrivacyError("MMF-385", fault, own)
        found = fingerprints([peer])[peer.site]
        if peer.site != own and _plain(found) not in known:
            raise PrivacyError("MMF-386", f"{peer.site[:80]}: {found}", own)


def note_peers(ledger: Ledger, study_hash: str, peers: Sequence[PeerKeys]) -> None:
    """Write down with whom a study's rounds are masked, whenever a site or a key appears that is new."""
    known = {
        pair
        for entry in ledger.decisions()
        if entry.kind == PEERS and entry.body["study"] == study_hash
        for pair in entry.body["peers"].items()
    }
    found = fingerprints(peers)
    if not found.items() <= known:
        ledger.append(PEERS, {"study": study_hash, "peers": found})


def _unreadable(peer: PeerKeys) -> str:
    try:
        SitePublicKey.from_pem(peer.enrolled.encode())
    except Exception as error:  # noqa: BLE001 - a stranger's text; whatever is wrong with it is its fault
        return f"{peer.site[:80]}: {type(error).__name__}"
    return ""


def _plain(fingerprint: str) -> str:
    return "".join(fingerprint.split()).lower()
