"""The portal as a site uses it: the study on offer, knowledge packs, a new key."""

from __future__ import annotations

import logging
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

from pydantic import ValidationError

from mmfed_client.enrolment.channel import Answer, Channel, ConnectionLostError
from mmfed_client.enrolment.join import MOST_REPLY_BYTES, check_reply
from mmfed_client.enrolment.tls import tls_context
from mmfed_client.home import SiteHome, passphrase_of
from mmfed_common.errors import NetworkError
from mmfed_common.names import time_text, utc_now
from mmfed_common.pack_identity import pack_identity
from mmfed_common.portal_protocol import (
    NONCE_HEADER,
    OFFER_PATH,
    PACKS_PATH,
    ROTATE_PATH,
    SIGNATURE_HEADER,
    SITE_HEADER,
    TIME_HEADER,
    WAITING_PATH,
    WITHDRAW_PATH,
    RotateRequest,
    WaitingStudies,
    WithdrawRequest,
    request_transcript,
)
from mmfed_common.signed_study import MOST_BYTES, SignedStudy
from mmfed_common.signing import SiteKey

logger = logging.getLogger(__name__)

MOST_PACK_BYTES = 512 * 1024**2
PACK_SECONDS = 3600.0
LEFTOVER = ".fetch-"
LEFTOVER_SECONDS = 86400.0
PAUSES = (0.2, 1.0)
"""Seconds before a question whose connection broke is asked again."""

Result = TypeVar("Result")


class PortalClient:
    """Speaks with the portal in the name of a site; each request is signed with the site's key.

    Parameters
    ----------
    home
        A home that has joined.
    passphrase
        Of the site's key; default: the variable ``MMFED_PASSPHRASE``.

    Raises
    ------
    NetworkError
        ``MMF-411`` to ``MMF-413`` for the key, ``MMF-423`` for the home. Each method also raises what
        :meth:`mmfed_client.enrolment.channel.Channel.stream` does, and ``MMF-439`` when the server does not
        know the key.
    """

    def __init__(self, home: SiteHome, passphrase: str | None = None) -> None:
        self.home = home
        self.config = home.config
        self._passphrase = passphrase_of(passphrase)
        self._key = SiteKey.load(home.key_file, self._passphrase)
        self._channel = Channel(self.config.address, tls_context(home))

    def offer(self) -> SignedStudy | None:
        """Fetch the study on offer, or None; its signature is not checked yet.

        Raises
        ------
        NetworkError
            ``MMF-418`` when it cannot be read.
        """
        answer = self._request("GET", OFFER_PATH, b"", 2 * MOST_BYTES)
        return None if answer.status == 204 else SignedStudy.from_json(answer.content)

    def waiting(self) -> Iterator[str]:
        """Hashes of the studies that wait behind the one on offer, the next one first.

        Raises
        ------
        NetworkError
            ``MMF-430`` when they cannot be read.
        """
        answer = self._request("GET", WAITING_PATH, b"", MOST_REPLY_BYTES)
        try:
            yield from WaitingStudies.model_validate_json(answer.content).studies
        except ValidationError:
            raise NetworkError("MMF-430", "no list of studies", self.config.address) from None

    def waiting_study(self, study_hash: str) -> SignedStudy | None:
        """Fetch one that waits; None when it waits no more. Its signature is not checked yet.

        Raises
        ------
        NetworkError
            ``MMF-418`` when it cannot be read, or is another.
        """
        answer = self._ask(self._key, "GET", f"{WAITING_PATH}/{study_hash}", b"", 2 * MOST_BYTES)
        if answer.status == 404:
            return None
        signed = SignedStudy.from_json(answer.content)
        if signed.hash != study_hash:
            raise NetworkError("MMF-418", "it is another study than was asked for", self.config.address)
        return signed

    def fetch_pack(self, sha256: str) -> Path:
        """Fetch a knowledge pack, unless it is here; its hash is checked before it gets its name.

        Raises
        ------
        NetworkError
            ``MMF-427`` when the server sends another file or has none, ``MMF-423`` when it cannot be kept.
        """
        file = self.home.pack_file(sha256)
        if file.is_file() and pack_identity(file) == sha256:
            return file
        path = f"{PACKS_PATH}/{sha256}"
        try:
            self._remove_leftovers()
            descriptor, name = tempfile.mkstemp(prefix=LEFTOVER, dir=self.home.packs)  # mode 0600
            beside = Path(name)
            try:
                with os.fdopen(descriptor, "wb") as out:
                    _patiently(lambda: self._copy_anew(path, sha256, out))
                    out.flush()
                    os.fsync(out.fileno())
                if (found := pack_identity(beside)) != sha256:
                    raise NetworkError(
                        "MMF-427", f"its hash is {found}" if found else "it is no pack", sha256
                    )
                os.replace(beside, file)
            finally:
                beside.unlink(missing_ok=True)
        except OSError as error:
            raise NetworkError("MMF-423", f"cannot be written: {error.strerror}", str(file)) from None
        return file

    def rotate(self) -> str:
        """Replace the site's key with a new one, made here; gives the new fingerprint.

        The new key is on the disk before the server hears of it. If the answer is lost, the next request
        finds out which of the two is in force, see :meth:`settle_rotation`.

        Raises
        ------
        NetworkError
            ``MMF-438`` when the coordinator has not begun it.
        """
        self.settle_rotation()
        new = SiteKey.generate()
        self._on_disk(lambda: new.save(self.home.next_key_file, self._passphrase))
        pem = new.public.pem().decode()
        old = self._key.public.fingerprint
        transcript = RotateRequest.transcript(self.config.federation, self.config.site, old, pem)
        request = RotateRequest(public_key=pem, signature=new.sign(transcript).hex())
        try:
            answer = self._ask(self._key, "POST", ROTATE_PATH, request.model_dump_json().encode())
        except NetworkError as error:
            if error.code in ("MMF-411", "MMF-424", "MMF-435", "MMF-437", "MMF-438"):  # refused: not in force
                self._on_disk(self._drop_next_key)
            raise
        if answer.status != 200:
            self._on_disk(self._drop_next_key)
            raise NetworkError("MMF-439", "the server does not know this site's key", self.config.address)
        check_reply(answer, transcript, new, self.home.coordinator, self.config.address)
        self._promote(new)
        return new.public.fingerprint

    def withdraw(self, study_hash: str) -> None:
        """Tell the coordinator that this site leaves a study; it may be told again.

        Raises
        ------
        NetworkError
            ``MMF-565`` when the coordinator has no such study.
        """
        body = WithdrawRequest(study=study_hash).model_dump_json().encode()
        answer = self._request("POST", WITHDRAW_PATH, body, MOST_REPLY_BYTES)
        if answer.status != 204:
            raise NetworkError("MMF-430", f"HTTP status {answer.status}", self.config.address)

    def settle_rotation(self) -> bool:
        """After a change of the key that was interrupted: find out which key the server knows, and keep it.

        Returns
        -------
        Whether the new key is in force now.

        Raises
        ------
        NetworkError
            ``MMF-439`` when the server knows neither; both are kept then.
        """
        if not self.home.next_key_file.exists():
            return False
        new = SiteKey.load(self.home.next_key_file, self._passphrase)
        if self._ask(new, "GET", OFFER_PATH, b"", 2 * MOST_BYTES).status != 404:
            self._promote(new)
            return True
        if self._ask(self._key, "GET", OFFER_PATH, b"", 2 * MOST_BYTES).status == 404:
            raise NetworkError("MMF-439", "the server knows neither key of this site", self.config.address)
        self._on_disk(self._drop_next_key)
        return False

    def _request(self, method: str, path: str, body: bytes, most_bytes: int) -> Answer:
        answer = self._ask(self._key, method, path, body, most_bytes)
        if answer.status == 404 and (self._replaced_elsewhere() or self.settle_rotation()):
            answer = self._ask(self._key, method, path, body, most_bytes)
        if answer.status == 404:
            raise NetworkError("MMF-439", "the server does not know this site's key", self.config.address)
        return answer

    def _ask(
        self, key: SiteKey, method: str, path: str, body: bytes, most_bytes: int = MOST_REPLY_BYTES
    ) -> Answer:
        """Ask; a question that changes nothing is asked again, signed anew, when the connection breaks."""

        def once() -> Answer:
            headers = self._headers(key, method, path, body)
            return self._channel.request(method, path, headers, body, most_bytes)

        return _patiently(once) if method == "GET" else once()

    def _headers(self, key: SiteKey, method: str, path: str, body: bytes) -> dict[str, str]:
        now, nonce = time_text(utc_now()), secrets.token_hex(16)
        transcript = request_transcript(
            self.config.federation, self.config.site, method, path, now, nonce, body
        )
        return {
            SITE_HEADER: self.config.site,
            TIME_HEADER: now,
            NONCE_HEADER: nonce,
            SIGNATURE_HEADER: key.sign(transcript).hex(),
        }

    def _copy_anew(self, path: str, sha256: str, out: BinaryIO) -> None:
        out.seek(0)
        out.truncate()
        self._copy(path, sha256, out.write)

    def _copy(self, path: str, sha256: str, write: Callable[[bytes], object]) -> None:
        headers = self._headers(self._key, "GET", path, b"")
        size = 0
        with self._channel.stream("GET", path, headers, b"", PACK_SECONDS) as (status, chunks):
            if status != 200:
                raise NetworkError("MMF-427", "the server does not have it", sha256)
            for chunk in chunks:
                size += len(chunk)
                if size > MOST_PACK_BYTES:
                    raise NetworkError("MMF-427", "larger than any knowledge pack", sha256)
                self._on_disk(partial(write, chunk))

    def _remove_leftovers(self) -> None:
        for file in self.home.packs.glob(f"{LEFTOVER}*"):
            with suppress(FileNotFoundError):  # another process has just fetched it
                if time.time() - file.stat().st_mtime > LEFTOVER_SECONDS:
                    file.unlink()

    def _promote(self, new: SiteKey) -> None:
        try:
            os.replace(self.home.next_key_file, self.home.key_file)
        except FileNotFoundError:  # the running site has asked for the offer meanwhile, and done the same
            if not self._replaced_elsewhere():
                raise NetworkError("MMF-423", "the new key is gone", str(self.home.next_key_file)) from None
        except OSError as error:
            raise NetworkError(
                "MMF-423", f"cannot be written: {error.strerror}", str(self.home.path)
            ) from None
        self._key = new

    def _replaced_elsewhere(self) -> bool:
        """Read the key again; tells whether another process of this home has changed it."""
        before = self._key.public.fingerprint
        self._key = SiteKey.load(self.home.key_file, self._passphrase)
        return self._key.public.fingerprint != before

    def _drop_next_key(self) -> None:
        self.home.next_key_file.unlink(missing_ok=True)

    def _on_disk(self, change: Callable[[], object]) -> None:
        try:
            change()
        except OSError as error:
            raise NetworkError(
                "MMF-423", f"cannot be written: {error.strerror}", str(self.home.path)
            ) from None


def _patiently(ask: Callable[[], Result]) -> Result:
    """Ask, and ask again when the connection breaks: a proxy or a server that begins anew drops some."""
    for pause in PAUSES:
        try:
            return ask()
        except ConnectionLostError as error:
            logger.info("asking again: %s", error.what)
            time.sleep(pause)
    return ask()
