"""A signed study: the document that the coordinator vouches for, and nothing executable.

The coordinator signs (Ed25519) the document's text together with the federation, the dates, the software and
the fingerprint of the key. A site opens it: only after the signature holds is the document parsed.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timedelta
from typing import Annotated

from pydantic import Field, ValidationError

from mmfed_common.contract import Section
from mmfed_common.errors import NetworkError, StudyError
from mmfed_common.names import FEDERATION_NAME, TIME, check_federation_name, parse_time, time_text, utc_now
from mmfed_common.signing import CoordinatorKey, CoordinatorPublicKey
from mmfed_common.software import software, software_differences
from mmfed_common.study import Study

CONTEXT = b"mmfed study 1\n"
"""Distinguishes this signature from any other that is made with the same key."""

MOST_BYTES = 32 * 1024 * 1024
MOST_DAYS = 3660
CLOCK_TOLERANCE = timedelta(minutes=10)
"""How far a site's clock may lag behind the coordinator's before a fresh signature is refused."""


class SignedStudy(Section):
    """A study document with the coordinator's signature.

    Attributes
    ----------
    federation
        The federation that it is for.
    document
        The study's canonical form, as text.
    issued, expires
        When it was signed and until when a site may start to work on it (UTC, to the second).
    software
        What the coordinator runs, see :mod:`mmfed_common.software`.
    coordinator_fingerprint
        Fingerprint of the key that signed.
    signature
        Ed25519 signature over everything above, in hexadecimal.
    """

    format: Annotated[int, Field(ge=1, le=1)] = 1
    federation: Annotated[str, Field(pattern=FEDERATION_NAME)]
    document: Annotated[str, Field(max_length=MOST_BYTES)]
    issued: Annotated[str, Field(pattern=TIME)]
    expires: Annotated[str, Field(pattern=TIME)]
    software: Annotated[str, Field(max_length=200)]
    coordinator_fingerprint: Annotated[str, Field(max_length=100)]
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]

    @staticmethod
    def sign(
        study: Study, key: CoordinatorKey, federation: str, days: int = 365, now: datetime | None = None
    ) -> SignedStudy:
        """Sign a study.

        Parameters
        ----------
        days
            For how long sites may start to work on it, 1 to 3660.

        Raises
        ------
        NetworkError
            ``MMF-425`` when the federation's name is not allowed, ``MMF-415`` when ``days`` is out of range.
        """
        if not 1 <= days <= MOST_DAYS:
            raise NetworkError("MMF-415", f"a study is signed for 1 to {MOST_DAYS} days, not {days}")
        issued = now or utc_now()
        unsigned = SignedStudy(
            federation=check_federation_name(federation),
            document=study.canonical().decode(),
            issued=time_text(issued),
            expires=time_text(issued + timedelta(days=days)),
            software=software(),
            coordinator_fingerprint=key.public.fingerprint,
            signature="0" * 128,
        )
        return unsigned.model_copy(update={"signature": key.sign(unsigned.signed_bytes()).hex()})

    @staticmethod
    def from_json(content: str | bytes) -> SignedStudy:
        """Read what :meth:`to_json` wrote; the signature is not checked yet.

        Raises
        ------
        NetworkError
            ``MMF-418`` when it is not of that form.
        """
        if len(content) > 2 * MOST_BYTES:
            raise NetworkError("MMF-418", "the signed study is too large")
        try:
            return SignedStudy.model_validate_json(content, strict=True)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            key = ".".join(str(part) for part in first["loc"]) or "the document"
            raise NetworkError("MMF-418", f"{key}: {first['msg']}") from None

    def to_json(self) -> str:
        """Serialise, signature included."""
        return json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True, ensure_ascii=False) + "\n"

    @property
    def hash(self) -> str:
        """SHA-256 of the document: the study's identity, :attr:`mmfed_common.study.Study.hash`."""
        return hashlib.sha256(self.document.encode()).hexdigest()

    def signed_bytes(self) -> bytes:
        """What the signature covers: every field but itself, in one form only."""
        content = self.model_dump(mode="json", exclude={"signature"})
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return CONTEXT + text.encode()

    def open(
        self, coordinator_key: CoordinatorPublicKey, federation: str, now: datetime | None = None
    ) -> Study:
        """Check everything that the coordinator vouches for and give the study.

        Parameters
        ----------
        coordinator_key
            The key that the site holds since enrolment.
        federation
            The site's federation.
        now
            The time; default: this machine's clock.

        Raises
        ------
        NetworkError
            ``MMF-414`` when the signature is not the coordinator's, ``MMF-417`` when it is for another
            federation, ``MMF-415`` when it has expired or is not valid yet, ``MMF-418`` when the document is
            not canonical here.
        StudyError
            ``MMF-501`` when the document is not a valid study here; names the software that signed it.
        PrivacyError
            As :meth:`mmfed_common.study.Study.from_content`.
        """
        if self.coordinator_fingerprint != coordinator_key.fingerprint:
            raise NetworkError("MMF-414", f"it is signed by another key: {self.coordinator_fingerprint!r}")
        if not coordinator_key.verify(self.signed_bytes(), bytes.fromhex(self.signature)):
            raise NetworkError("MMF-414", "the signature is forged, or the document was changed")
        if self.federation != federation:
            raise NetworkError(
                "MMF-417", f"it is signed for {self.federation!r}, this site is in {federation!r}"
            )
        self._check_dates(now or utc_now())
        return self._parse()

    def _check_dates(self, now: datetime) -> None:
        try:
            issued, expires = parse_time(self.issued), parse_time(self.expires)
        except ValueError:
            raise NetworkError("MMF-418", "its dates are not dates") from None
        if now >= expires:
            raise NetworkError("MMF-415", f"it expired at {self.expires}; this clock says {time_text(now)}")
        if now < issued - CLOCK_TOLERANCE:
            raise NetworkError("MMF-415", f"it is valid from {self.issued}; this clock says {time_text(now)}")

    def _parse(self) -> Study:
        try:
            content = json.loads(self.document, parse_constant=_refuse_constant)
            study = Study.from_content(content)
        except StudyError as error:
            raise StudyError(error.code, error.what + self._versions()) from None
        except (ValueError, RecursionError):
            raise NetworkError("MMF-418", "the document is not JSON") from None
        if study.canonical() != self.document.encode():
            raise NetworkError("MMF-418", "the document is not in its canonical form" + self._versions())
        return study

    def _versions(self) -> str:
        differences = software_differences(self.software)
        return f" (software differs: {'; '.join(differences)})" if differences else ""


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number of JSON")
