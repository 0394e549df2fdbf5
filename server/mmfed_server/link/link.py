"""The link: everything that sites can reach, in this process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from starlette.types import ASGIApp

from mmfed_server.link.grid import LinkGrid


@dataclass(frozen=True)
class Certificates:
    """What the port presents."""

    ca_pem: bytes
    cert_path: Path
    key_path: Path


class Link:
    """One TLS port; use as a context manager."""

    def __init__(
        self, listen: tuple[str, int], certificates: Certificates, spool: Path, portal: ASGIApp
    ) -> None:
        raise NotImplementedError

    def __enter__(self) -> Link:
        raise NotImplementedError

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        raise NotImplementedError

    @property
    def address(self) -> str:
        """``host:port`` that it listens on."""
        raise NotImplementedError

    @property
    def port(self) -> int:
        """The port, also when 0 was asked for."""
        raise NotImplementedError

    def grid(self) -> LinkGrid:
        """Begin a run and give the Grid to speak with its sites."""
        raise NotImplementedError

    def set_sites(self, sites: Mapping[str, bytes]) -> None:
        """Say who may speak: site → public key PEM."""
        raise NotImplementedError

    def online(self) -> dict[str, int]:
        """Site → node id of those that were heard of lately."""
        raise NotImplementedError

    def reload_certificates(self) -> None:
        """Present the certificate that is now in its file, to connections from now on."""
        raise NotImplementedError
