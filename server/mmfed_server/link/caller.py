"""Who calls: Flower's headers of node authentication, checked against the enrolled sites."""

from __future__ import annotations

import binascii
import datetime
from base64 import b64decode
from dataclasses import dataclass

from flwr.common.constant import SYSTEM_TIME_TOLERANCE, TIMESTAMP_HEADER, TIMESTAMP_TOLERANCE
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER
from flwr.supercore.date import now
from flwr.supercore.primitives.asymmetric import verify_signature
from flwr.supercore.runtime_version_compatibility import RuntimeVersionMetadata
from starlette.types import Scope

from mmfed_server.link.state import SiteState

MOST_REMEMBERED = 1024


class RefusedCallerError(Exception):
    """The caller is not let in; the text may be sent."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True)
class Caller:
    """A site that has proved who it is."""

    node: int
    pem: bytes


class Callers:
    """Tells who calls.

    A site may use one signed time for several requests, so that it need not sign each; what was verified is
    remembered for as long as the time is accepted.
    """

    def __init__(self, state: SiteState) -> None:
        self.state = state
        self._verified: dict[tuple[bytes, str, bytes], None] = {}
        self._ours = RuntimeVersionMetadata.from_local_component("mmfed-server")

    def of(self, scope: Scope) -> Caller | None:
        """Give the caller; None when it does not even try to say who it is.

        Raises
        ------
        RefusedCallerError
            When its key is not enrolled, its clock is off, its signature is wrong (all 401, not told apart),
            or its Flower is another version (426).
        """
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        named = FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER, TIMESTAMP_HEADER
        if any(name not in headers for name in named):
            return None
        try:
            pem = b64decode(headers[FLEET_HTTP_PUBLIC_KEY_HEADER], validate=True)
            signature = b64decode(headers[FLEET_HTTP_SIGNATURE_HEADER], validate=True)
            known = self._proved(pem, headers[TIMESTAMP_HEADER], signature)
        except (ValueError, TypeError, UnicodeError, binascii.Error):
            known = False
        node = self.state.get_node_id_by_public_key(pem) if known else None
        if node is None:
            raise RefusedCallerError(401, "not an enrolled key, or the clocks differ")
        self._same_version(headers)
        return Caller(node, pem)

    def _proved(self, pem: bytes, timestamp: str, signature: bytes) -> bool:
        key = self.state.key_of(pem)
        age = (now() - datetime.datetime.fromisoformat(timestamp)).total_seconds()
        if key is None or not -SYSTEM_TIME_TOLERANCE < age < TIMESTAMP_TOLERANCE + SYSTEM_TIME_TOLERANCE:
            return False
        proof = pem, timestamp, signature
        if proof in self._verified:
            return True
        if not verify_signature(key.key, timestamp.encode("ascii"), signature):
            return False
        self._verified[proof] = None
        while len(self._verified) > MOST_REMEMBERED:
            del self._verified[next(iter(self._verified))]
        return True

    def _same_version(self, headers: dict[str, str]) -> None:
        theirs, fault = RuntimeVersionMetadata.from_metadata(list(headers.items()))
        if fault is not None or theirs is None:
            raise RefusedCallerError(426, "the version of flwr is not given")
        if theirs.package_version != self._ours.package_version:
            raise RefusedCallerError(
                426, f"flwr {self._ours.package_version} here, {theirs.package_version[:20]} there"
            )
