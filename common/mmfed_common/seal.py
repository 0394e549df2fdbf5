"""What a site signs when something leaves it: one digest over the whole answer.

The digest covers every record by name, every array's bytes and every value, and through ``about`` the study,
the round, the site, the request that is answered and the head of the site's ledger. So an answer cannot be
used for another request, study or round, nor be changed on its way.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Protocol

from flwr.app import Message, RecordDict

from mmfed_common import messages as m
from mmfed_common.errors import NetworkError
from mmfed_common.signing import SiteKey, SitePublicKey

CONTEXT = b"mmfed answer 1\n"
"""Distinguishes this signature from any other that is made with the same key."""


class SealCheck(Protocol):
    """Tells whether an answer comes from the site that it names."""

    def __call__(self, site: str, answer: Message) -> None:
        """Check an answer.

        Raises
        ------
        NetworkError
            ``MMF-416`` when it is not signed by that site, or answers another request.
        """


def sealed_bytes(kind: str, content: RecordDict) -> bytes:
    """What is signed: a digest of a message's type and of all its records but the signature itself."""
    records: dict[str, object] = {}
    for name, arrays in content.array_records.items():
        records[f"arrays:{name}"] = {
            key: [array.dtype, list(array.shape), array.stype, hashlib.sha256(array.data).hexdigest()]
            for key, array in arrays.items()
        }
    for name, metrics in content.metric_records.items():
        records[f"metrics:{name}"] = {key: _exact(value) for key, value in metrics.items()}
    for name, config in content.config_records.items():
        records[f"config:{name}"] = {
            key: _exact(value) for key, value in config.items() if (name, key) != (m.ABOUT, m.SIGNATURE)
        }
    text = json.dumps({"kind": kind, "records": records}, sort_keys=True, separators=(",", ":"))
    return CONTEXT + hashlib.sha256(text.encode()).hexdigest().encode()


def seal(answer: Message, key: SiteKey) -> None:
    """Sign an answer in place; its ``about`` record must be complete."""
    about = answer.content.config_records[m.ABOUT]
    about[m.SIGNATURE] = key.sign(sealed_bytes(answer.metadata.message_type, answer.content)).hex()


def check_seal(answer: Message, key: SitePublicKey, request: str) -> None:
    """Check an answer that came.

    Parameters
    ----------
    request
        The id of the message that it should answer.

    Raises
    ------
    NetworkError
        ``MMF-416`` when it is unsigned, signed by another, changed, or answers another message.
    """
    if not answer.has_content():
        raise NetworkError("MMF-416", "the answer has no content that could be signed")
    about: Mapping[str, object] = answer.content.config_records.get(m.ABOUT, {})
    signature = about.get(m.SIGNATURE)
    if not isinstance(signature, str):
        raise NetworkError("MMF-416", "the answer is not signed")
    if about.get(m.REQUEST) != request:
        raise NetworkError("MMF-416", "the answer is to another message")
    try:
        raw = bytes.fromhex(signature)
    except ValueError:
        raise NetworkError("MMF-416", "the signature cannot be read") from None
    if not key.verify(sealed_bytes(answer.metadata.message_type, answer.content), raw):
        raise NetworkError("MMF-416", "the signature is not the site's, or the answer was changed")


def _exact(value: object) -> object:
    """A value with its type, so that 1, 1.0 and True are told apart and no float is rounded."""
    if isinstance(value, list):
        return [_exact(item) for item in value]
    if isinstance(value, bytes):
        return ["bytes", value.hex()]
    if isinstance(value, float):
        return ["float", value.hex()]
    return [type(value).__name__, value]
