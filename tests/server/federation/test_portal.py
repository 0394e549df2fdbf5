"""The portal from outside: everybody who proves nothing sees the same nothing."""

from __future__ import annotations

import hashlib
import json
import secrets
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from mmfed_common import portal_protocol as p
from mmfed_common.kit import Kit
from mmfed_common.names import time_text, utc_now
from mmfed_common.portal_protocol import JoinRequest, KeyReply
from mmfed_common.signing import SiteKey
from mmfed_server.database import open_database
from mmfed_server.federation import Federation, Offers, SiteRegistry
from mmfed_server.portal import make_portal

NOTHING = (404, b"", {"connection": "close", "content-length": "0"})
KEY = SiteKey.generate()


def shown(answer: httpx.Response) -> tuple[int, bytes, dict[str, str]]:
    """All that an outsider learns."""
    return answer.status_code, answer.content, dict(answer.headers)


class Outside:
    """A portal in this process and what is needed to speak to it."""

    def __init__(self, folder: Path) -> None:
        self.federation = Federation.create(folder / "f", "lung", "localhost:9000")
        self.registry = SiteRegistry(open_database(self.federation.database_url))
        portal = make_portal(self.federation, self.registry, Offers(self.federation))
        self.client = TestClient(portal, base_url="https://localhost", raise_server_exceptions=False)

    def join_request(self, site: str, secret: str, key: SiteKey = KEY, **changes: Any) -> JoinRequest:
        """Make a request as a site would, with some fields of the transcript changed."""
        values = {
            "federation": "lung",
            "site": site,
            "public_key": key.public.pem().decode(),
            "nonce": secrets.token_hex(16),
            "time": time_text(utc_now()),
            "proof": "0" * 64,
            "signature": "00",
        }
        blank = JoinRequest(**{**values, **changes})
        proof = p.join_proof(p.secret_verifier(secret), blank.transcript()).hex()
        return blank.model_copy(update={"proof": proof, "signature": key.sign(blank.transcript()).hex()})

    def join(self, request: JoinRequest) -> httpx.Response:
        """Send it."""
        return self.client.post(p.JOIN_PATH, content=request.model_dump_json())

    def enrolled(self, site: str, key: SiteKey) -> None:
        """Invite and enrol a site."""
        secret = self.registry.invite(site).secret
        assert self.join(self.join_request(site, secret, key)).status_code == 200

    def headers(self, site: str, key: SiteKey, method: str, path: str, body: bytes = b"") -> dict[str, str]:
        """Sign a request as a site would."""
        time, nonce = time_text(utc_now()), secrets.token_hex(16)
        signed = p.request_transcript("lung", site, method, path, time, nonce, body)
        return {
            p.SITE_HEADER: site,
            p.TIME_HEADER: time,
            p.NONCE_HEADER: nonce,
            p.SIGNATURE_HEADER: key.sign(signed).hex(),
        }


@pytest.fixture
def outside(tmp_path: Path) -> Outside:
    return Outside(tmp_path)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "X"])
@pytest.mark.parametrize(
    "path",
    [
        *(p.JOIN_PATH, p.OFFER_PATH, p.ROTATE_PATH, p.WITHDRAW_PATH, f"{p.PACKS_PATH}/{'a' * 64}"),
        *(f"{p.PACKS_PATH}/../ca/ca.key", f"{p.JOIN_PATH}/", "/mmfed/v1/", "/docs", "/"),
        *("/mmfed/v1/offer/../join", "//mmfed/v1/offer"),
    ],
)
def test_who_proves_nothing_sees_nothing(outside: Outside, method: str, path: str) -> None:
    outside.enrolled("north", KEY)
    assert shown(outside.client.request(method, path)) == NOTHING


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[" * 9000, b"\xff" * 100, b"x" * 20_000, b"null", b'{"a":1e999}']
)
def test_a_malformed_join_sees_nothing(outside: Outside, content: bytes) -> None:
    assert shown(outside.client.post(p.JOIN_PATH, content=content)) == NOTHING


def test_a_join_is_confirmed_by_the_coordinators_key(outside: Outside) -> None:
    request = outside.join_request("north", outside.registry.invite("north").secret)
    reply = KeyReply.model_validate_json(outside.join(request).content)
    signed = KeyReply.transcript(request.transcript(), KEY.public.fingerprint)
    assert outside.federation.coordinator_key.public.verify(signed, bytes.fromhex(reply.signature))
    assert reply.fingerprint == KEY.public.fingerprint == outside.registry.get("north").fingerprint


@pytest.mark.parametrize("field", ["site", "federation", "public_key", "nonce", "time", "proof", "signature"])
def test_each_field_of_a_join_is_bound_to_the_proof(outside: Outside, field: str) -> None:
    outside.registry.invite("south")
    secret = outside.registry.invite("north").secret
    request = outside.join_request("north", secret)
    other = {
        "site": "south",
        "federation": "liver",
        "public_key": SiteKey.generate().public.pem().decode(),
        "nonce": "0" * 32,
        "time": "2026-01-01T00:00:00Z",
        "proof": "ab" * 32,
        "signature": KEY.sign(b"something else").hex(),
    }
    answer = outside.join(request.model_copy(update={field: other[field]}))
    if field == "signature":  # the secret is proved: told why
        assert json.loads(answer.content)["code"] == "MMF-421"
    else:
        assert shown(answer) == NOTHING
    assert outside.registry.get("north").state == "invited"
    assert outside.registry.get("south").state == "invited"


def test_a_key_on_another_curve_cannot_join(outside: Outside) -> None:
    secret = outside.registry.invite("north").secret
    answer = outside.join(outside.join_request("north", secret, public_key="no key"))
    assert json.loads(answer.content)["code"] == "MMF-411"
    assert outside.registry.get("north").state == "invited"


@pytest.mark.parametrize("header", [p.SITE_HEADER, p.TIME_HEADER, p.NONCE_HEADER, p.SIGNATURE_HEADER])
@pytest.mark.parametrize(
    "value", [None, "", "south", "2026-01-01T00:00:00Z", "0" * 32, "00" * 100, "é", "z" * 9999]
)
def test_each_header_of_a_request_is_bound_to_the_signature(
    outside: Outside, header: str, value: str | None
) -> None:
    outside.enrolled("north", KEY)
    outside.enrolled("south", SiteKey.generate())
    headers: dict[str, Any] = dict(outside.headers("north", KEY, "GET", p.OFFER_PATH))
    assert outside.client.get(p.OFFER_PATH, headers=headers).status_code == 204
    headers = {**outside.headers("north", KEY, "GET", p.OFFER_PATH), header: (value or "").encode()}
    if value is None:
        del headers[header]
    assert shown(outside.client.get(p.OFFER_PATH, headers=headers)) == NOTHING


def test_a_request_is_good_once_for_its_own_path_method_and_body(outside: Outside) -> None:
    outside.enrolled("north", KEY)
    headers = outside.headers("north", KEY, "GET", p.OFFER_PATH)
    assert shown(outside.client.get(f"{p.PACKS_PATH}/{'a' * 64}", headers=headers)) == NOTHING
    assert shown(outside.client.post(p.ROTATE_PATH, headers=headers)) == NOTHING
    assert shown(outside.client.request("GET", p.OFFER_PATH, headers=headers, content=b"x")) == NOTHING
    assert outside.client.get(p.OFFER_PATH, headers=headers).status_code == 204
    assert shown(outside.client.get(p.OFFER_PATH, headers=headers)) == NOTHING  # replayed


def test_a_revoked_site_sees_nothing_at_once(outside: Outside) -> None:
    outside.enrolled("north", KEY)
    outside.registry.revoke("north")
    headers = outside.headers("north", KEY, "GET", p.OFFER_PATH)
    assert shown(outside.client.get(p.OFFER_PATH, headers=headers)) == NOTHING


def test_a_pack_is_read_from_its_folder_only(outside: Outside) -> None:
    outside.enrolled("north", KEY)
    content = b"pack"
    sha256 = hashlib.sha256(content).hexdigest()
    outside.federation.pack_file(sha256).write_bytes(content)
    for name, expected in ((sha256, 200), (sha256.upper(), 404), ("..", 404), (f"{sha256}.mmfk", 404)):
        path = f"{p.PACKS_PATH}/{name}"
        answer = outside.client.get(path, headers=outside.headers("north", KEY, "GET", path))
        assert answer.status_code == expected
        assert (answer.content == content) == (expected == 200)


def test_a_rotation_needs_both_keys_and_the_coordinators_word(outside: Outside) -> None:
    outside.enrolled("north", KEY)
    new, other = SiteKey.generate(), SiteKey.generate()

    def ask(signer: SiteKey, old: SiteKey) -> httpx.Response:
        pem = new.public.pem().decode()
        signed = p.RotateRequest.transcript("lung", "north", old.public.fingerprint, pem)
        form = p.RotateRequest(public_key=pem, signature=signer.sign(signed).hex())
        body = form.model_dump_json().encode()
        headers = outside.headers("north", old, "POST", p.ROTATE_PATH, body)
        return outside.client.post(p.ROTATE_PATH, content=body, headers=headers)

    assert json.loads(ask(new, KEY).content)["code"] == "MMF-438"
    outside.registry.begin_rotation("north")
    assert json.loads(ask(other, KEY).content)["code"] == "MMF-411"
    assert shown(ask(new, other)) == NOTHING
    assert outside.registry.get("north").fingerprint == KEY.public.fingerprint
    assert ask(new, KEY).status_code == 200
    assert outside.registry.get("north").fingerprint == new.public.fingerprint
    assert shown(ask(new, KEY)) == NOTHING


def test_a_database_that_is_gone_is_not_taken_for_a_refusal(outside: Outside) -> None:
    outside.enrolled("north", KEY)
    headers = outside.headers("north", KEY, "GET", p.OFFER_PATH)
    with outside.registry.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE sites RENAME TO elsewhere")
    answer = outside.client.get(p.OFFER_PATH, headers=headers)
    assert (answer.status_code, answer.content) == (503, b"")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["GET", "POST"]),
    st.sampled_from([p.JOIN_PATH, p.OFFER_PATH, p.ROTATE_PATH, p.WITHDRAW_PATH, p.PACKS_PATH + "/x"]),
    st.binary(max_size=300),
    st.dictionaries(
        st.sampled_from([p.SITE_HEADER, p.TIME_HEADER, p.NONCE_HEADER, p.SIGNATURE_HEADER, "host", "cookie"]),
        st.binary(max_size=60).map(lambda b: b.replace(b"\n", b"").replace(b"\r", b"")),
    ),
)
def test_nothing_that_an_outsider_sends_does_more(
    outside: Outside, method: str, path: str, body: bytes, headers: dict[str, bytes]
) -> None:
    answer = outside.client.request(method, path, content=body, headers=headers)  # type: ignore[arg-type]
    assert shown(answer) == NOTHING


def test_the_secret_is_not_in_what_the_registry_shows(outside: Outside) -> None:
    invitation = outside.registry.invite("north")
    assert invitation.secret not in repr(invitation)
    assert invitation.secret not in repr(outside.registry.get("north"))
    assert invitation.secret not in repr(outside.federation.kit(invitation))
    assert Kit.parse(outside.federation.kit(invitation).to_text()).secret == invitation.secret
