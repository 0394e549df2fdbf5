"""What the record ``masking`` of a message holds, phase by phase, and how it is read without trust."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flwr.app import ConfigRecord

from mmfed_common.masking.keys import PeerKeys

SESSION = "session"
THRESHOLD = "threshold"
SITES = "sites"
SITE_KEYS = "site-keys"
SEALING_KEYS = "sealing-keys"
MASKING_KEYS = "masking-keys"
COMMITMENTS = "commitments"
SIGNATURES = "signatures"
SEALED = "sealed"
ALIVE = "alive"
GONE = "gone"
TAGS = "tags"
SHARES = "shares"
OPENED = "opened"
"""SHA-256 over the sites whose sum is opened; goes into the receipt."""

MASKED = "masked"
"""Name of the one array of a masked update."""

PEERS = (SITES, SITE_KEYS, SEALING_KEYS, MASKING_KEYS, COMMITMENTS, SIGNATURES)
ANSWERS: dict[str, tuple[str, ...]] = {
    "train.mask_keys": (SESSION, *PEERS),
    "train.mask_shares": (SESSION, SEALED),
    "train.mask_agree": (SESSION, TAGS),
    "train.mask_open": (SESSION, OPENED, SHARES),
}
"""Type of a message → keys of the record in a site's answer, no more and no less."""

MOST_ITEM_BYTES = 2048
TEXTS = frozenset({SESSION, OPENED})
LISTS_OF_TEXT = frozenset({SITES, SITE_KEYS, ALIVE, GONE})


class UnreadableError(ValueError):
    """The record is not of its form; the text says where, and holds nothing of it."""


def write_peers(peers: Sequence[PeerKeys]) -> dict[str, list[str] | list[bytes]]:
    """Lay out keys of peers as lists, one item for each peer."""
    return {
        SITES: [peer.site for peer in peers],
        SITE_KEYS: [peer.enrolled for peer in peers],
        SEALING_KEYS: [peer.sealing for peer in peers],
        MASKING_KEYS: [peer.masking for peer in peers],
        COMMITMENTS: [peer.commitment for peer in peers],
        SIGNATURES: [peer.signature for peer in peers],
    }


def read_peers(record: Mapping[str, object]) -> list[PeerKeys]:
    """Undo :func:`write_peers`; raises :class:`UnreadableError`."""
    names, enrolled = texts(record, SITES), texts(record, SITE_KEYS)
    keys = [items(record, name) for name in (SEALING_KEYS, MASKING_KEYS, COMMITMENTS, SIGNATURES)]
    if len({len(names), len(enrolled), *map(len, keys)}) != 1:
        raise UnreadableError("its lists of peers differ in length")
    return [PeerKeys(*row) for row in zip(names, enrolled, *keys, strict=True)]


def text(record: Mapping[str, object], key: str) -> str:
    """Read one text."""
    value = record.get(key)
    if not isinstance(value, str) or len(value) > MOST_ITEM_BYTES:
        raise UnreadableError(f"`{key}` is not a text")
    return value


def number(record: Mapping[str, object], key: str) -> int:
    """Read one whole number."""
    value = record.get(key)
    if type(value) is not int:
        raise UnreadableError(f"`{key}` is not a whole number")
    return value


def texts(record: Mapping[str, object], key: str) -> list[str]:
    """Read a list of texts."""
    value = record.get(key)
    if not isinstance(value, list) or any(not isinstance(v, str) or len(v) > MOST_ITEM_BYTES for v in value):
        raise UnreadableError(f"`{key}` is not a list of texts")
    return list(value)


def items(record: Mapping[str, object], key: str) -> list[bytes]:
    """Read a list of bytes."""
    value = record.get(key)
    if not isinstance(value, list) or any(
        not isinstance(v, bytes) or len(v) > MOST_ITEM_BYTES for v in value
    ):
        raise UnreadableError(f"`{key}` is not a list of bytes")
    return list(value)


def check_answer(kind: str, record: Mapping[str, object]) -> None:
    """Check the form of a site's answer: its keys, their types and lengths; raises as above."""
    if set(record) != set(ANSWERS[kind]):
        raise UnreadableError("its keys are not those of this answer")
    for key in record:
        if key in TEXTS:
            text(record, key)
        elif key in LISTS_OF_TEXT:
            texts(record, key)
        else:
            items(record, key)


def config(content: Mapping[str, object]) -> ConfigRecord:
    """Make a record for a message."""
    return ConfigRecord(dict(content))  # type: ignore[arg-type]
