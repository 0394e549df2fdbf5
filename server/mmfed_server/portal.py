"""The portal: where sites join, fetch the study on offer and its pack, change their key, leave a study.

Who proves neither an invitation's secret nor an enrolled key gets one and the same empty 404, whatever was
asked, as if nothing were here. Who does is told in a code why something is refused.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from mmfed_common.errors import MmfedError, NetworkError, StudyError
from mmfed_common.names import time_text
from mmfed_common.portal_protocol import (
    JOIN_PATH,
    MOST_REQUEST_BYTES,
    MOST_WAITING,
    OFFER_PATH,
    PACKS_PATH,
    ROTATE_PATH,
    STANDS_STILL,
    WAITING_PATH,
    WITHDRAW_PATH,
    JoinRequest,
    KeyReply,
    Refusal,
    RotateRequest,
    WaitingStudies,
    WithdrawRequest,
)
from mmfed_common.signing import SitePublicKey
from mmfed_server.federation.authentication import (
    Authentication,
    FailureLimit,
    NotAuthenticatedError,
    PortalRequest,
    check_clock,
)
from mmfed_server.federation.folder import Federation
from mmfed_server.federation.offers import Offers
from mmfed_server.federation.registry import SiteRegistry
from mmfed_server.federation.tables import SiteRecord
from mmfed_server.link.http import nothing_here
from mmfed_server.withdrawal.register import Withdrawals

logger = logging.getLogger(__name__)

Form = TypeVar("Form", JoinRequest, RotateRequest, WithdrawRequest)

BODY_SECONDS = 20.0
SEEN_SECONDS = 30.0
"""A site's `last_seen` is written at most this often: each write is flushed to the disk."""
CHUNK = 1024 * 1024


def make_portal(federation: Federation, registry: SiteRegistry, offers: Offers) -> ASGIApp:
    """Build the portal.

    Parameters
    ----------
    federation
        Its name is in every signature; its coordinator's key signs answers to `join` and `rotate`.
    registry
        The sites.
    offers
        What is offered.
    """
    return Portal(federation, registry, offers)


class Portal:
    """The ASGI application; see :func:`make_portal`."""

    def __init__(self, federation: Federation, registry: SiteRegistry, offers: Offers) -> None:
        self.federation = federation
        self.registry = registry
        self.offers = offers
        self.authentication = Authentication(federation.name, registry)
        self.limit = FailureLimit()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; anything but HTTP is ignored."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        try:
            answer = await self._answer(request)
        except ClientDisconnect:
            return
        await answer(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        path: str = request.scope["path"]
        handler = self._handler(request.method, path)
        if handler is None:
            return _NothingHere(status_code=404)
        try:
            body = await asyncio.wait_for(_limited_body(request), BODY_SECONDS)
            host = request.client.host if request.client else ""
            parts = PortalRequest(request.method, path, request.headers, body)
            return await run_in_threadpool(handler, parts, host)
        except (NotAuthenticatedError, TimeoutError):
            return _NothingHere(status_code=404)
        except MmfedError as error:
            if error.code == "MMF-440":
                logger.error("portal: %s", error)
                return Response(status_code=503)
            logger.warning("portal refuses: %s", error)
            return self._told(error.code)

    def _handler(self, method: str, path: str) -> Callable[[PortalRequest, str], Response] | None:
        fixed = {
            ("POST", JOIN_PATH): self._join,
            ("GET", OFFER_PATH): self._offer,
            ("GET", WAITING_PATH): self._waiting,
            ("POST", ROTATE_PATH): self._rotate,
            ("POST", WITHDRAW_PATH): self._withdraw,
        }
        if method == "GET" and path.startswith(f"{PACKS_PATH}/"):
            return self._pack
        if method == "GET" and path.startswith(f"{WAITING_PATH}/"):
            return self._waiting_study
        return fixed.get((method, path))

    def _join(self, parts: PortalRequest, host: str) -> Response:
        now = self.registry.clock()
        request = _parsed(JoinRequest, parts.body)
        who = (host, request.site)
        if self.limit.exceeded(who, now) or request.federation != self.federation.name:
            raise NotAuthenticatedError
        transcript, proof = request.transcript(), bytes.fromhex(request.proof)
        if not self.registry.knows_secret(request.site, transcript, proof):
            self.limit.count(who, now)
            logger.warning("portal: an attempt to join as %s without the secret, from %s", request.site, host)
            raise NotAuthenticatedError
        key = SitePublicKey.from_pem(request.public_key.encode())
        if not key.verify(transcript, bytes.fromhex(request.signature)):
            raise NetworkError("MMF-421", "the request is not signed by the key that it brings", request.site)
        check_clock(request.time, now, request.site)
        record = self.registry.enrol(request.site, transcript, proof, key)
        logger.info("portal: %s has joined with the key %s", record.name, record.fingerprint)
        return self._confirmed(transcript, key)

    def _offer(self, parts: PortalRequest, _host: str) -> Response:
        record = self.authentication.site_of(parts)
        if (code := self.offers.trouble()) in STANDS_STILL:
            return self._told(code)
        self._seen(record)
        signed = self.offers.current
        if signed is None:
            return Response(status_code=204)
        return Response(signed.to_json(), media_type="application/json")

    def _waiting(self, parts: PortalRequest, _host: str) -> Response:
        self.authentication.site_of(parts)
        hashes = [signed.hash for signed in self.offers.waiting()[:MOST_WAITING]]
        listed = WaitingStudies(studies=tuple(hashes))
        return Response(listed.model_dump_json(), media_type="application/json")

    def _waiting_study(self, parts: PortalRequest, _host: str) -> Response:
        self.authentication.site_of(parts)
        wanted = parts.path.removeprefix(f"{WAITING_PATH}/")
        for signed in self.offers.waiting():
            if signed.hash == wanted:
                return Response(signed.to_json(), media_type="application/json")
        return _NothingHere(status_code=404)

    def _pack(self, parts: PortalRequest, _host: str) -> Response:
        self.authentication.site_of(parts)
        file = self.offers.pack(parts.path.removeprefix(f"{PACKS_PATH}/"))
        if file is None:
            return _NothingHere(status_code=404)
        size = str(file.stat().st_size)
        headers = {"content-length": size}
        return StreamingResponse(_chunks(file), media_type="application/octet-stream", headers=headers)

    def _rotate(self, parts: PortalRequest, _host: str) -> Response:
        record = self.authentication.site_of(parts)
        request = _parsed(RotateRequest, parts.body)
        key = SitePublicKey.from_pem(request.public_key.encode())
        transcript = RotateRequest.transcript(
            self.federation.name, record.name, record.fingerprint or "", request.public_key
        )
        if not key.verify(transcript, bytes.fromhex(request.signature)):
            raise NetworkError("MMF-411", "the request is not signed by the new key", record.name)
        self.registry.rotate(record.name, key)
        logger.info("portal: %s has changed its key to %s", record.name, key.fingerprint)
        return self._confirmed(transcript, key)

    def _withdraw(self, parts: PortalRequest, _host: str) -> Response:
        record = self.authentication.site_of(parts)
        study = _parsed(WithdrawRequest, parts.body).study
        if not self.federation.study_file(study).is_file():
            raise StudyError("MMF-565", f"study {study} is not kept here", record.name)
        if Withdrawals(self.registry.engine).withdraw(study, record.name, "site"):
            logger.warning("portal: %s leaves study %s", record.name, study[:12])
        return Response(status_code=204)

    def _confirmed(self, transcript: bytes, key: SitePublicKey) -> Response:
        signature = self.federation.coordinator_key.sign(KeyReply.transcript(transcript, key.fingerprint))
        reply = KeyReply(fingerprint=key.fingerprint, signature=signature.hex())
        return Response(reply.model_dump_json(), media_type="application/json")

    def _told(self, code: str) -> Response:
        refusal = Refusal(code=code, time=time_text(self.registry.clock()))
        return Response(refusal.model_dump_json(), status_code=403, media_type="application/json")

    def _seen(self, record: SiteRecord) -> None:
        last, now = record.last_seen, self.registry.clock()
        if last is None or abs((now - last).total_seconds()) >= SEEN_SECONDS:
            self.registry.note_seen(record.name)


class _NothingHere(Response):
    """The answer that the whole port gives where nothing is."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await nothing_here(send)


async def _limited_body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_REQUEST_BYTES:
            raise NotAuthenticatedError
    return body


def _parsed(form: type[Form], body: bytes) -> Form:
    try:
        return form.model_validate_json(body, strict=True)
    except ValidationError:
        raise NotAuthenticatedError from None


def _chunks(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk
