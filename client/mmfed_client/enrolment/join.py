"""Joining a federation: the key is made here, key and secret are proved, the server's identity is kept.

Interrupted at any line, the same command does what is missing: the key is on the disk before it is shown to
anybody, the server accepts the same key for the same secret again, and ``site.toml`` comes last.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from mmfed_client.enrolment.channel import Answer, Channel
from mmfed_client.enrolment.tls import tls_context_of
from mmfed_client.home import SiteHome, passphrase_of
from mmfed_common.durable import write_durably
from mmfed_common.errors import NetworkError
from mmfed_common.kit import Kit
from mmfed_common.names import time_text, utc_now
from mmfed_common.portal_protocol import JOIN_PATH, JoinRequest, KeyReply, join_proof, secret_verifier
from mmfed_common.signing import CoordinatorPublicKey, SiteKey

MOST_REPLY_BYTES = 16 * 1024

SITE_TOML = """# A site of a federation. `cohort` is the path of cohort.toml, absolute or from this folder.
site = {site}
federation = {federation}
address = {address}
cohort = {cohort}
"""


@dataclass(frozen=True)
class JoinResult:
    """What a person needs to know after joining.

    Attributes
    ----------
    fingerprint
        Of the site's key: to be compared with what the coordinator sees, by telephone.
    coordinator_fingerprint
        Of the key that signs studies: to be compared likewise.
    """

    site: str
    federation: str
    address: str
    fingerprint: str
    coordinator_fingerprint: str
    home: Path


def join(
    kit_path: Path,
    home: SiteHome,
    cohort: Path | None = None,
    passphrase: str | None = None,
    now: datetime | None = None,
) -> JoinResult:
    """Join a federation.

    Parameters
    ----------
    kit_path
        The coordinator's join kit.
    home
        Where the site will live; empty, or left by an interrupted attempt.
    cohort
        The site's ``cohort.toml``, if it is there already.
    passphrase
        Protects the private key; default: the variable ``MMFED_PASSPHRASE``, else none.

    Raises
    ------
    NetworkError
        ``MMF-419``, ``MMF-420`` for the kit, ``MMF-422`` when the home has joined already, ``MMF-421`` when
        the server does not accept the kit, ``MMF-424`` when the clocks differ, ``MMF-426`` when the server is
        not the coordinator's, ``MMF-428`` to ``MMF-430`` for the way there.
    """
    kit = Kit.load(kit_path)
    kit.refuse_if_expired(now or utc_now())
    if home.joined:
        raise NetworkError("MMF-422", "this home has joined already", str(home.path))
    home.make_folders()
    key = _key(home, passphrase_of(passphrase))
    request = _request(kit, key, now or utc_now())
    channel = Channel(kit.address, tls_context_of(kit.ca, str(kit_path)))
    headers = {"content-type": "application/json"}
    body = request.model_dump_json().encode()
    answer = channel.request("POST", JOIN_PATH, headers, body, MOST_REPLY_BYTES)
    if answer.status != 200:
        raise NetworkError("MMF-421", "the server knows no such invitation", kit.address)
    check_reply(answer, request.transcript(), key, kit.coordinator_key, kit.address)
    _write(home, kit, cohort)
    return JoinResult(
        site=kit.site,
        federation=kit.federation,
        address=kit.address,
        fingerprint=key.public.fingerprint,
        coordinator_fingerprint=kit.coordinator_key.fingerprint,
        home=home.path,
    )


def check_reply(
    answer: Answer, transcript: bytes, key: SiteKey, coordinator: CoordinatorPublicKey, where: str
) -> None:
    """Check that the coordinator's key has confirmed a site's key, in answer to this request.

    Raises
    ------
    NetworkError
        ``MMF-430`` when it is no such answer, ``MMF-426`` when another key has signed it.
    """
    try:
        reply = KeyReply.model_validate_json(answer.content, strict=True)
    except ValidationError:
        raise NetworkError("MMF-430", "not the answer of a coordinator's server", where) from None
    signed = KeyReply.transcript(transcript, key.public.fingerprint)
    if reply.fingerprint != key.public.fingerprint or not coordinator.verify(
        signed, bytes.fromhex(reply.signature)
    ):
        raise NetworkError("MMF-426", "its answer is not signed with the coordinator's key", where)


def _key(home: SiteHome, passphrase: str | None) -> SiteKey:
    if home.key_file.exists():
        return SiteKey.load(home.key_file, passphrase)
    key = SiteKey.generate()
    try:
        key.save(home.key_file, passphrase)
    except OSError as error:
        raise NetworkError("MMF-423", f"cannot be written: {error.strerror}", str(home.key_file)) from None
    return key


def _request(kit: Kit, key: SiteKey, now: datetime) -> JoinRequest:
    blank = JoinRequest(
        federation=kit.federation,
        site=kit.site,
        public_key=key.public.pem().decode(),
        nonce=secrets.token_hex(16),
        time=time_text(now),
        proof="0" * 64,
        signature="00",
    )
    transcript = blank.transcript()
    proof = join_proof(secret_verifier(kit.secret), transcript).hex()
    return blank.model_copy(update={"proof": proof, "signature": key.sign(transcript).hex()})


def _write(home: SiteHome, kit: Kit, cohort: Path | None) -> None:
    from mmfed_client.policy import POLICY_TEMPLATE

    values = {
        "site": kit.site,
        "federation": kit.federation,
        "address": kit.address,
        "cohort": str(cohort.resolve()) if cohort else "",
    }
    site_toml = SITE_TOML.format(**{name: json.dumps(value) for name, value in values.items()})
    try:
        write_durably(home.ca_file, kit.ca.encode(), 0o644)
        write_durably(home.coordinator_file, f"{kit.coordinator}\n".encode(), 0o644)
        if not home.policy_file.exists():
            write_durably(home.policy_file, POLICY_TEMPLATE.encode(), 0o644)
        write_durably(home.config_file, site_toml.encode(), 0o644)
    except OSError as error:
        raise NetworkError("MMF-423", f"cannot be written: {error.strerror}", str(home.path)) from None
