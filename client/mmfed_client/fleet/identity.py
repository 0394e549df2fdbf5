"""What a site says about itself in the head of each request: Flower's node authentication and version."""

from __future__ import annotations

import threading
import time
from base64 import b64encode

import httpx
from flwr.common.constant import TIMESTAMP_HEADER
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER
from flwr.supercore.date import now
from flwr.supercore.interceptors.http.utils import add_headers
from flwr.supercore.primitives.asymmetric import sign_message
from flwr.supercore.protobuf.client import ProtobufCall, ProtobufRequestContext
from flwr.supercore.runtime_version_compatibility import RuntimeVersionMetadata

from mmfed_common.signing import SiteKey

SIGNED_FOR = 20.0
"""Seconds for which one signed time is used; the server takes it for five minutes."""


class Identity:
    """Writes the heads; safe for several threads. Unlike Flower's own, it never ends the process."""

    def __init__(self, key: SiteKey) -> None:
        self._key = key
        self._version = dict(RuntimeVersionMetadata.from_local_component("mmfed-client").as_metadata())
        self._lock = threading.Lock()
        self._signed: dict[str, str] = {}
        self._until = 0.0

    def intercept(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:
        """Add the headers to a request."""
        add_headers(context.request, {**self._version, **self._proof()})
        return call_next(context)

    def _proof(self) -> dict[str, str]:
        with self._lock:
            if time.monotonic() >= self._until:
                timestamp = now().isoformat()
                signature = sign_message(self._key.key, timestamp.encode("ascii"))
                self._signed = {
                    FLEET_HTTP_PUBLIC_KEY_HEADER: b64encode(self._key.public.pem()).decode("ascii"),
                    TIMESTAMP_HEADER: timestamp,
                    FLEET_HTTP_SIGNATURE_HEADER: b64encode(signature).decode("ascii"),
                }
                self._until = time.monotonic() + SIGNED_FOR
            return self._signed
