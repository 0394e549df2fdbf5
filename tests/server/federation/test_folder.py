"""The federation's folder and its certificates, judged by OpenSSL and by the system's own TLS."""

from __future__ import annotations

import ssl
import stat
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import socketpair

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from mmfed_client.enrolment.tls import tls_context_of
from mmfed_common.errors import NetworkError
from mmfed_common.names import utc_now
from mmfed_server.database import open_database
from mmfed_server.federation import Federation, SiteRegistry
from mmfed_server.federation.certificates import Authority, certificate_pem, key_pem


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    names = ["127.0.0.1", "::1", "fed.example"]
    return Federation.create(tmp_path / "lung", "lung", "server.example:9443", names)


def code(action: Callable[[], object]) -> str:
    with pytest.raises(NetworkError) as error:
        action()
    return error.value.code


def handshake(client: ssl.SSLContext, certificate: Path, name: str, most: int | None = None) -> str | None:
    """Let a client meet a server that shows this certificate; give the TLS version, or raise."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    if most is not None:
        server.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        server.maximum_version = ssl.TLSVersion(most)
        server.set_ciphers("ALL:@SECLEVEL=0")
    here, there = socketpair()

    def serve() -> None:
        try:
            server.wrap_socket(there, server_side=True).close()
        except OSError:
            there.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(here, server_hostname=name) as connection:
            return connection.version()
    finally:
        here.close()
        thread.join(10)


def test_what_was_made_can_be_loaded(federation: Federation) -> None:
    loaded = Federation.load(federation.path)
    assert (loaded.name, loaded.address) == ("lung", "server.example:9443")
    assert loaded.listen == ("0.0.0.0", 9443)
    assert loaded.config.names == ["server.example", "127.0.0.1", "::1", "fed.example"]
    assert loaded.coordinator_key.public.hex() == federation.coordinator_key.public.hex()
    assert loaded.database_url.endswith("/lung/federation.sqlite")


def test_secrets_are_their_owners_only(federation: Federation) -> None:
    SiteRegistry(open_database(federation.database_url))
    secret = ("ca/ca.key", "server/server.pem", "coordinator.key", "federation.toml", "federation.sqlite")
    for name in secret:
        assert stat.S_IMODE((federation.path / name).stat().st_mode) == 0o600, name
    for folder in (federation.path, *(p for p in federation.path.iterdir() if p.is_dir())):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder


@pytest.mark.parametrize("name", ["server.example", "fed.example", "127.0.0.1", "::1"])
def test_every_name_that_was_given_is_accepted(federation: Federation, name: str) -> None:
    client = tls_context_of(certificate_pem(federation.ca).decode())
    assert handshake(client, federation.certificates.cert_path, name) == "TLSv1.3"


def test_another_name_is_refused(federation: Federation) -> None:
    client = tls_context_of(certificate_pem(federation.ca).decode())
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(client, federation.certificates.cert_path, "evil.example")


def test_another_federations_certificate_is_refused(federation: Federation, tmp_path: Path) -> None:
    other = Federation.create(tmp_path / "other", "lung", "server.example:9443")
    client = tls_context_of(certificate_pem(federation.ca).decode())
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(client, other.certificates.cert_path, "server.example")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_downgraded_server_is_refused(federation: Federation, version: ssl.TLSVersion) -> None:
    client = tls_context_of(certificate_pem(federation.ca).decode())
    with pytest.raises(ssl.SSLError):
        handshake(client, federation.certificates.cert_path, "server.example", version)


def test_nothing_that_the_system_trusts_is_trusted(federation: Federation) -> None:
    client = tls_context_of(certificate_pem(federation.ca).decode())
    assert client.cert_store_stats()["x509_ca"] == 1
    assert client.check_hostname
    assert client.verify_mode is ssl.CERT_REQUIRED


def test_the_authority_cannot_make_another_authority(federation: Federation, tmp_path: Path) -> None:
    constraints = federation.ca.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=0)
    server = federation.server_certificate
    assert not server.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = server.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    for certificate in (server, federation.ca):
        key = certificate.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert key.curve.name == "secp384r1"


def test_a_certificate_that_a_server_signed_is_worth_nothing(federation: Federation, tmp_path: Path) -> None:
    """The server's own key must not be able to vouch for another server."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    own = federation.certificates.key_path.read_bytes()
    key = load_pem_private_key(own[own.index(b"-----BEGIN PRIVATE") :], None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    forged, forged_key = Authority(federation.server_certificate, key).issue(["evil.example"], utc_now())
    chain = tmp_path / "chain.pem"
    chain.write_bytes(
        certificate_pem(forged) + certificate_pem(federation.server_certificate) + key_pem(forged_key)
    )
    client = tls_context_of(certificate_pem(federation.ca).decode())
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(client, chain, "evil.example")


def test_a_rotated_certificate_is_accepted_by_who_joined_before(federation: Federation) -> None:
    client = tls_context_of(certificate_pem(federation.ca).decode())
    before = federation.server_certificate
    after = federation.rotate_server_certificate()
    assert after.serial_number != before.serial_number
    assert after.public_key() != before.public_key()
    assert federation.server_certificate == after
    assert handshake(client, federation.certificates.cert_path, "server.example") == "TLSv1.3"


def test_names_that_were_added_to_the_settings_come_with_the_next_certificate(federation: Federation) -> None:
    file = federation.path / "federation.toml"
    file.write_text(file.read_text().replace('"fed.example"', '"new.example"'))
    changed = Federation.load(federation.path)
    changed.rotate_server_certificate()
    client = tls_context_of(certificate_pem(changed.ca).decode())
    assert handshake(client, changed.certificates.cert_path, "new.example") == "TLSv1.3"


@pytest.mark.parametrize(
    ("days_left", "expected"),
    [
        (31, ""),
        (29.9, "within 30 day"),
        (6.9, "within 7 day"),
        (0.9, "within 1 day"),
        (-0.1, "cannot connect"),
    ],
)
def test_warnings_come_at_30_7_and_1_days(federation: Federation, days_left: float, expected: str) -> None:
    end = federation.server_certificate.not_valid_after_utc
    warnings = federation.certificate_warnings(end - timedelta(days=days_left))
    assert len(warnings) == bool(expected)
    assert all(expected in warning for warning in warnings)


def test_the_authority_s_end_is_told_too(federation: Federation) -> None:
    warnings = federation.certificate_warnings(federation.ca.not_valid_after_utc - timedelta(days=3))
    assert any("authority" in warning and "within 7" in warning for warning in warnings)


def test_the_certificate_renews_itself_a_month_before_its_end(federation: Federation) -> None:
    end = federation.server_certificate.not_valid_after_utc
    assert not federation.renew_if_due(end - timedelta(days=31))
    now = end - timedelta(days=29)
    assert federation.renew_if_due(now)
    assert federation.server_certificate.not_valid_after_utc > end
    assert federation.certificate_warnings(now) == []
    (federation.path / "ca" / "ca.key").rename(federation.path / "elsewhere.key")
    assert code(lambda: federation.renew_if_due(end + timedelta(days=390))) == "MMF-433"


def test_a_folder_is_made_whole_or_not_at_all(tmp_path: Path) -> None:
    assert code(lambda: Federation.create(tmp_path / "a", "lung", "no address")) == "MMF-425"
    assert code(lambda: Federation.create(tmp_path / "a", "x" * 99, "localhost:1")) == "MMF-425"
    assert code(lambda: Federation.create(tmp_path / "a", "lung", "localhost:1", ["a b"])) == "MMF-425"
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a").mkdir()
    Federation.create(tmp_path / "a", "lung", "localhost:1")
    assert code(lambda: Federation.create(tmp_path / "a", "lung", "localhost:1")) == "MMF-431"
    (tmp_path / "file").write_text("x")
    assert code(lambda: Federation.create(tmp_path / "file", "lung", "localhost:1")) == "MMF-431"
    assert code(lambda: Federation.create(tmp_path / "file" / "b", "lung", "localhost:1")) == "MMF-432"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('name = "lung"', ""),
        ('name = "lung"', 'name = "../x"'),
        ("9464", '"x"'),
        ("listen", "lisen"),
        ("name", ""),
    ],
)
def test_damaged_settings_are_named(federation: Federation, old: str, new: str) -> None:
    file = federation.path / "federation.toml"
    file.write_text(file.read_text().replace(old, new, 1))
    assert code(lambda: Federation.load(federation.path)) == "MMF-432"
    assert code(lambda: Federation.load(federation.path / "absent")) == "MMF-432"


def test_an_open_authority_key_is_refused(federation: Federation) -> None:
    (federation.path / "ca" / "ca.key").chmod(0o644)
    assert code(federation.rotate_server_certificate) == "MMF-412"


def test_a_passphrase_protects_the_key_that_signs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Federation.create(tmp_path / "f", "lung", "localhost:1", passphrase="long enough")
    monkeypatch.delenv("MMFED_PASSPHRASE", raising=False)
    assert code(lambda: made.coordinator_key) == "MMF-413"
    monkeypatch.setenv("MMFED_PASSPHRASE", "long enough")
    assert len(made.coordinator_key.public.hex()) == 64


def test_a_kit_names_no_path_and_a_hash_is_none(federation: Federation) -> None:
    for name in ("../x", "a" * 63, "A" * 64):
        assert code(lambda text=name: federation.study_file(text)) == "MMF-432"  # type: ignore[misc]
        assert code(lambda text=name: federation.pack_file(text)) == "MMF-432"  # type: ignore[misc]


def test_certificates_begin_early_enough_for_a_late_clock(federation: Federation) -> None:
    assert federation.server_certificate.not_valid_before_utc <= datetime.now(UTC) - timedelta(minutes=59)


def test_no_keys_are_left_behind_when_a_federation_cannot_be_made(tmp_path: Path) -> None:
    assert (
        code(lambda: Federation.create(tmp_path / "f", "lung", "localhost:1", passphrase="x" * 2000))
        == "MMF-413"
    )
    assert list(tmp_path.iterdir()) == []
