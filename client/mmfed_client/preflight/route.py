"""The way to the server: directly, or through the HTTPS proxy that the environment names."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from mmfed_common.errors import NetworkError

PROXY_VARIABLES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
MOST_SHOWN = 200


@dataclass(frozen=True)
class Proxy:
    """A proxy.

    Attributes
    ----------
    host, port
        Where it listens.
    variable
        The variable of the environment that names it.
    shown
        Its address without a password.
    authorization
        Value of the header ``Proxy-Authorization``; empty where the variable has no user.
    """

    host: str
    port: int
    variable: str
    shown: str
    authorization: str = ""


@dataclass(frozen=True)
class ProxyAnswer:
    """What a proxy says to the wish to be connected."""

    status: int
    reason: str
    asks: str
    by: str

    @property
    def sentence(self) -> str:
        """The answer in words."""
        asks = f", and asks for {self.asks[:MOST_SHOWN]}" if self.asks else ""
        by = f" ({self.by[:MOST_SHOWN]})" if self.by else ""
        return f"it says {self.status} {self.reason[:MOST_SHOWN]}{asks}{by}"


def proxy_for(host: str, port: int) -> Proxy | None:
    """The proxy that the environment names for an address; None where it is reached directly.

    Raises
    ------
    NetworkError
        ``MMF-490`` when the variable cannot be understood.
    """
    named = getproxies_environment()
    url = named.get("https") or named.get("all")
    if not url or proxy_bypass(f"{host}:{port}"):
        return None
    variable = next((name for name in PROXY_VARIABLES if os.environ.get(name) == url), "HTTPS_PROXY")
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        proxy_port = parts.port or 80
    except ValueError as error:
        raise NetworkError("MMF-490", f"it is no address: {error}", variable) from None
    if not parts.hostname:
        raise NetworkError("MMF-490", "it names no host", variable)
    if parts.scheme != "http":
        what = f"proxies are spoken to by http://, not {parts.scheme[:20]}://"
        raise NetworkError("MMF-490", what, variable)
    shown = f"{parts.hostname}:{proxy_port}"
    return Proxy(parts.hostname, proxy_port, variable, shown, _authorization(parts))


def connect(host: str, port: int, seconds: float) -> socket.socket:
    """Open a connection.

    Raises
    ------
    OSError
        As the operating system gives it.
    """
    return socket.create_connection((host, port), timeout=seconds)


def tunnel(proxy: Proxy, host: str, port: int, seconds: float) -> tuple[socket.socket, ProxyAnswer]:
    """Ask a proxy to connect to an address; the socket leads there if the answer's status is 2xx.

    Raises
    ------
    OSError
        When the proxy cannot be reached or does not answer in time.
    NetworkError
        ``MMF-490`` when what answers is no proxy.
    """
    opened = connect(proxy.host, proxy.port, seconds)
    try:
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
        if proxy.authorization:
            lines.append(f"Proxy-Authorization: {proxy.authorization}")
        opened.sendall("\r\n".join([*lines, "", ""]).encode())
        return opened, _read_answer(opened, proxy)
    except (OSError, NetworkError):
        opened.close()
        raise


def _read_answer(opened: socket.socket, proxy: Proxy) -> ProxyAnswer:
    response = HTTPResponse(opened, method="CONNECT")
    try:
        response.begin()
    except HTTPException as error:
        what = f"what answers there is no proxy: {type(error).__name__}"
        raise NetworkError("MMF-490", what, f"{proxy.variable}={proxy.shown}") from None
    by = response.getheader("Via") or response.getheader("Server") or ""
    asks = response.getheader("Proxy-Authenticate") or ""
    return ProxyAnswer(response.status, response.reason, asks, by)


def _authorization(parts: SplitResult) -> str:
    if not parts.username:
        return ""
    from base64 import b64encode
    from urllib.parse import unquote

    user, password = unquote(parts.username), unquote(parts.password or "")
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()
