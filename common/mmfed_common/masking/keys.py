"""Keys of one masked round: made by a site for this round alone, signed with its enrolled key.

Each site makes two X25519 pairs: with one it seals shares for its peers and authenticates what it agrees to,
with the other it agrees on the masks. The second one's secret is what peers can open when the site drops out;
it must not open anything else, so they are two.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mmfed_common.errors import NetworkError
from mmfed_common.signing import SitePublicKey

KEY_BYTES = 32
PARTS = ("site", "enrolled", "sealing", "masking", "commitment")
"""What differs between any two peers."""
TAG_BYTES = 32
NO_NONCE = bytes(12)
"""Each sealing key is used for one message only."""


@dataclass(frozen=True)
class Session:
    """One attempt at a masked round: nothing made for it is worth anything in another.

    Attributes
    ----------
    study_hash, round
        Of the study and its round.
    token
        Drawn by the server for this attempt; 32 digits in hexadecimal.
    among
        Hashes of what sites must see alike for that which they make for each other to fit together.
    """

    study_hash: str
    round: int
    token: str
    among: tuple[str, ...] = ()

    def seen_alike(self, digest: str) -> Session:
        """The same attempt between sites that also see the same of what a hash is over.

        A coordinator that tells two sites different things then has shares that open nothing, agreements
        that hold for nobody, or masks that do not cancel.
        """
        return replace(self, among=(*self.among, digest))

    def context(self, purpose: str, *names: str) -> bytes:
        """One text for one purpose between some sites, in one way only."""
        content = [purpose, self.study_hash, self.round, self.token, *self.among, *names]
        return b"mmfed masking 2\n" + json.dumps(content, separators=(",", ":")).encode()


@dataclass(frozen=True)
class PeerKeys:
    """What a site shows to its peers at the beginning of a masked round.

    Attributes
    ----------
    site
        Its name.
    enrolled
        Its enrolled public key, PEM.
    sealing, masking
        Public X25519 keys of this round.
    commitment
        SHA-256 of the seed of its own mask, so that a wrong seed is found out.
    signature
        Of all this, by the enrolled key.
    """

    site: str
    enrolled: str
    sealing: bytes
    masking: bytes
    commitment: bytes
    signature: bytes = b""

    def statement(self, session: Session) -> bytes:
        """What the signature covers."""
        parts = (self.sealing.hex(), self.masking.hex(), self.commitment.hex())
        return session.context("keys", self.site, *parts)

    @property
    def parts(self) -> frozenset[tuple[str, str | bytes]]:
        """Name, keys and commitment, of which no two honest sites have one in common."""
        return frozenset((name, getattr(self, name)) for name in PARTS)

    def fault(self, session: Session) -> str:
        """What is wrong with these keys; empty when nothing is."""
        if any(len(part) != KEY_BYTES for part in (self.sealing, self.masking, self.commitment)):
            return "its keys have another length than keys have"
        try:
            signer = SitePublicKey.from_pem(self.enrolled.encode())
        except NetworkError:
            return "its enrolled key cannot be read"
        if signer.pem().decode() != self.enrolled:
            return "its enrolled key is not written as keys are"
        if not signer.verify(self.statement(session), self.signature):
            return "its keys are not signed by its enrolled key"
        return ""


def new_secret() -> bytes:
    """Make a private X25519 key."""
    return X25519PrivateKey.generate().private_bytes_raw()


def public_of(secret: bytes) -> bytes:
    """Give the public half of a private key."""
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def agree(secret: bytes, publics: Sequence[bytes]) -> list[bytes]:
    """Agree on a secret with the holder of each public key (X25519); keys are derived from it by purpose.

    Raises
    ------
    ValueError
        When a public key is of those that give everybody the same secret.
    """
    own = X25519PrivateKey.from_private_bytes(secret)
    return [own.exchange(X25519PublicKey.from_public_bytes(public)) for public in publics]


def agrees_with_all(public: bytes) -> bool:
    """Whether a public key is of those that give everybody the same secret."""
    try:
        agree(new_secret(), [public])
    except ValueError:
        return True
    return False


def mask_seed(session: Session, agreed: bytes, own: str, peer: str) -> bytes:
    """The seed of the mask that two sites share: one adds it, the other takes it away.

    Parameters
    ----------
    agreed
        What the two sites' masking keys :func:`agree` on.
    """
    return _derived(agreed, session.context("mask", *sorted((own, peer))))


def adds_mask(own: str, peer: str) -> bool:
    """Whether a site adds the mask that it shares with a peer, or takes it away."""
    return own < peer


def commitment_of(seed: bytes) -> bytes:
    """What a site tells of the seed of its own mask beforehand; the seed has 256 bits of chance."""
    return hashlib.sha256(b"mmfed masking seed 1\n" + seed).digest()


def seal_shares(session: Session, agreed: bytes, own: str, peer: str, content: bytes) -> bytes:
    """Seal something that only one peer can read, and nobody change (ChaCha20-Poly1305).

    Parameters
    ----------
    agreed
        What the two sites' sealing keys :func:`agree` on.
    """
    context = session.context("shares", own, peer)
    return ChaCha20Poly1305(_derived(agreed, context)).encrypt(NO_NONCE, content, context)


def open_shares(session: Session, agreed: bytes, own: str, peer: str, sealed: bytes) -> bytes | None:
    """Open what a peer sealed for this site; None when it did not, or it was changed."""
    context = session.context("shares", peer, own)
    try:
        return ChaCha20Poly1305(_derived(agreed, context)).decrypt(NO_NONCE, sealed, context)
    except (InvalidTag, ValueError):
        return None


def agreement_tag(session: Session, agreed: bytes, signer: str, reader: str, alive: Sequence[str]) -> bytes:
    """What one site gives another to show that it opens the sum of these sites and of no others."""
    key = _derived(agreed, session.context("agreement", *sorted((signer, reader))))
    return hmac.digest(key, session.context("opens", signer, reader, set_digest(alive)), "sha256")


def round_digest(peers: Sequence[PeerKeys], threshold: int) -> str:
    """One hash over the sites of a round, their keys, and how many of them open a sum."""
    rows = sorted([p.site, p.enrolled, p.sealing.hex(), p.masking.hex(), p.commitment.hex()] for p in peers)
    return hashlib.sha256(json.dumps([threshold, rows], separators=(",", ":")).encode()).hexdigest()


def set_digest(sites: Sequence[str]) -> str:
    """One hash over a set of sites."""
    return hashlib.sha256(json.dumps(sorted(sites), separators=(",", ":")).encode()).hexdigest()


def _derived(agreed: bytes, context: bytes) -> bytes:
    return HKDF(hashes.SHA256(), KEY_BYTES, None, context).derive(agreed)
