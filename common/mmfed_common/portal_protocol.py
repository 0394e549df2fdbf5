"""What site and portal say to each other over HTTPS, and what exactly is signed.

Each transcript is one canonical JSON text behind a line that names its purpose, so that no signature can be
used for anything but what it was made for.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import timedelta
from typing import Annotated

from pydantic import Field

from mmfed_common.contract import Section
from mmfed_common.names import FEDERATION_NAME, SHA256, SITE_NAME, TIME

PREFIX = "/mmfed/v1"
JOIN_PATH = f"{PREFIX}/join"
OFFER_PATH = f"{PREFIX}/offer"
WAITING_PATH = f"{PREFIX}/waiting"
ROTATE_PATH = f"{PREFIX}/rotate"
WITHDRAW_PATH = f"{PREFIX}/withdraw"
PACKS_PATH = f"{PREFIX}/packs"

SITE_HEADER = "mmfed-site"
TIME_HEADER = "mmfed-time"
NONCE_HEADER = "mmfed-nonce"
SIGNATURE_HEADER = "mmfed-signature"

CLOCK_TOLERANCE = timedelta(seconds=240)
"""How far clocks may differ; below the 300 s after which Flower refuses a node without saying why."""

MOST_REQUEST_BYTES = 16 * 1024
"""No request to the portal is longer."""

MOST_WAITING = 100
"""No more waiting studies are listed."""

Hex = Annotated[str, Field(pattern=r"^([0-9a-f]{2}){1,256}$")]
Nonce = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Pem = Annotated[str, Field(max_length=2048)]


class JoinRequest(Section):
    """Asks to be enrolled: ``proof`` shows the kit's secret, ``signature`` shows the site's private key."""

    federation: Annotated[str, Field(pattern=FEDERATION_NAME)]
    site: Annotated[str, Field(pattern=SITE_NAME)]
    public_key: Pem
    nonce: Nonce
    time: Annotated[str, Field(pattern=TIME)]
    proof: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    signature: Hex

    def transcript(self) -> bytes:
        """What proof and signature cover."""
        return _transcript("join", self.model_dump(exclude={"proof", "signature"}))


class KeyReply(Section):
    """Confirms a key; signed by the coordinator, so that the certificate is not all that vouches for it."""

    fingerprint: str
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]

    @staticmethod
    def transcript(request: bytes, fingerprint: str) -> bytes:
        """What the coordinator signs: this fingerprint, in answer to the request with this transcript."""
        digest = hashlib.sha256(request).hexdigest()
        return _transcript("accepted", {"request": digest, "fingerprint": fingerprint})


class RotateRequest(Section):
    """Replaces a site's key. The request is signed by the old key; ``signature`` shows the new one."""

    public_key: Pem
    signature: Hex

    @staticmethod
    def transcript(federation: str, site: str, old_fingerprint: str, public_key: str) -> bytes:
        """What the new key signs."""
        content = {"federation": federation, "site": site, "old": old_fingerprint, "public_key": public_key}
        return _transcript("rotate", content)


class WaitingStudies(Section):
    """The studies whose turn comes after the one on offer: their hashes, the next one first."""

    studies: Annotated[tuple[Annotated[str, Field(pattern=SHA256)], ...], Field(max_length=MOST_WAITING)]


class WithdrawRequest(Section):
    """Says that the site leaves a study; the request is signed by its key, as every other."""

    study: Annotated[str, Field(pattern=SHA256)]


STANDS_STILL = ("MMF-440", "MMF-486", "MMF-508", "MMF-530")
"""Told instead of an offer while the server cannot go on, and no site can help it to."""


class Refusal(Section):
    """Why a request was refused; only told to who has proved a secret or a key."""

    code: Annotated[str, Field(pattern=r"^MMF-\d{3}$")]
    time: Annotated[str, Field(pattern=TIME)]
    """The server's clock."""


def request_transcript(
    federation: str, site: str, method: str, path: str, time: str, nonce: str, body: bytes
) -> bytes:
    """What a site signs when it asks the portal for something."""
    return _transcript(
        "request",
        {
            "federation": federation,
            "site": site,
            "method": method,
            "path": path,
            "time": time,
            "nonce": nonce,
            "body": hashlib.sha256(body).hexdigest(),
        },
    )


def secret_verifier(secret: str) -> bytes:
    """What the server keeps of a one-time secret, and the key of its proof.

    Who reads it could join in the site's place until the secret is used or expires, as one who has the kit.
    """
    return hashlib.sha256(b"mmfed join secret 1\n" + secret.encode()).digest()


def join_proof(verifier: bytes, transcript: bytes) -> bytes:
    """HMAC-SHA256 that shows knowledge of the secret; compare with :func:`hmac.compare_digest`."""
    return hmac.digest(verifier, transcript, "sha256")


def _transcript(purpose: str, content: dict[str, str]) -> bytes:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return f"mmfed portal {purpose} 1\n{text}".encode()
