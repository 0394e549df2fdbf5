"""The join kit: what a site needs to enrol, in one small text file; no private key is in it.

It holds the one-time secret that makes its bearer the site, so it travels as a password would.
"""

from __future__ import annotations

import json
import secrets
import tomllib
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from cryptography import x509
from pydantic import Field, ValidationError, field_validator

from mmfed_common.contract import Section
from mmfed_common.errors import NetworkError
from mmfed_common.names import FEDERATION_NAME, SITE_NAME, TIME, parse_time, split_address, time_text
from mmfed_common.signing import CoordinatorPublicKey

HEAD = """# Join kit for the site {site} of a federation that mmfed runs.
# Treat it like a password: whoever has it before {site} has joined can join in its place.
# At the site:  mmfed-client join THIS_FILE --home DIR
"""
MOST_BYTES = 64 * 1024
SECRET_BYTES = 32


class Kit(Section):
    """A join kit.

    Attributes
    ----------
    federation, site
        Names.
    address
        ``host:port`` of the coordinator's server.
    coordinator
        The coordinator's public key, 32 bytes in hexadecimal: it signs studies.
    secret
        The one-time secret, 32 random bytes in URL-safe base64.
    expires
        Until when the secret is accepted (UTC).
    ca
        Certificate of the federation's authority, PEM: the server's certificate comes from it.
    """

    format: Annotated[int, Field(ge=1, le=1)] = 1
    federation: Annotated[str, Field(pattern=FEDERATION_NAME)]
    site: Annotated[str, Field(pattern=SITE_NAME)]
    address: Annotated[str, Field(max_length=300)]
    coordinator: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    secret: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{43}$", repr=False)]
    expires: Annotated[str, Field(pattern=TIME)]
    ca: Annotated[str, Field(max_length=16 * 1024)]

    @field_validator("address")
    @classmethod
    def _is_address(cls, address: str) -> str:
        try:
            split_address(address)
        except NetworkError as error:
            raise ValueError(error.what) from None
        return address

    @field_validator("coordinator")
    @classmethod
    def _is_key(cls, text: str) -> str:
        try:
            CoordinatorPublicKey.from_hex(text)
        except NetworkError as error:
            raise ValueError(error.what) from None
        return text

    @field_validator("ca")
    @classmethod
    def _is_one_certificate(cls, pem: str) -> str:
        found = x509.load_pem_x509_certificates(pem.encode())
        if len(found) != 1:
            raise ValueError("not exactly one certificate")
        return pem

    @staticmethod
    def new_secret() -> str:
        """Draw a one-time secret from the operating system's random source."""
        return secrets.token_urlsafe(SECRET_BYTES)

    @staticmethod
    def parse(text: str, where: str = "") -> Kit:
        """Read a kit's text.

        Raises
        ------
        NetworkError
            ``MMF-419`` with the first fault; the secret is never part of the message.
        """
        if len(text) > MOST_BYTES:
            raise NetworkError("MMF-419", "too large for a join kit", where)
        try:
            return Kit.model_validate(tomllib.loads(text), strict=True)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            key = ".".join(str(part) for part in first["loc"]) or "the kit"
            raise NetworkError("MMF-419", f"{key}: {first['msg']}", where) from None
        except (ValueError, RecursionError):
            raise NetworkError("MMF-419", "not a join kit, or it was changed on its way", where) from None

    @staticmethod
    def load(path: Path) -> Kit:
        """Read a kit's file; errors as in :meth:`parse`, also when there is no such file."""
        try:
            with open(path, "rb") as file:
                text = file.read(MOST_BYTES + 1).decode()
        except OSError as error:
            raise NetworkError("MMF-419", f"cannot be read: {error.strerror}", str(path)) from None
        except UnicodeDecodeError:
            raise NetworkError("MMF-419", "not a text file", str(path)) from None
        return Kit.parse(text, str(path))

    def to_text(self) -> str:
        """Serialise as the file's text."""
        content: dict[str, Any] = self.model_dump(mode="json")
        lines = [f"{key} = {json.dumps(value)}" for key, value in content.items() if key != "ca"]
        return "\n".join([HEAD.format(site=self.site), *lines, f'ca = """\n{self.ca.strip()}\n"""', ""])

    @property
    def coordinator_key(self) -> CoordinatorPublicKey:
        """The coordinator's public key."""
        return CoordinatorPublicKey.from_hex(self.coordinator)

    def refuse_if_expired(self, now: datetime) -> None:
        """Check the date.

        Raises
        ------
        NetworkError
            ``MMF-420`` when the secret is no longer accepted.
        """
        try:
            expired = now >= parse_time(self.expires)
        except ValueError:
            raise NetworkError("MMF-419", "expires: not a date") from None
        if expired:
            raise NetworkError("MMF-420", f"it expired at {self.expires}; this clock says {time_text(now)}")
