"""Keys and signatures: what is refused, and that nothing but the signed bytes passes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from mmfed_common.errors import NetworkError
from mmfed_common.signing import CoordinatorKey, CoordinatorPublicKey, SiteKey, SitePublicKey, fingerprint

SITE, OTHER = SiteKey.generate(), SiteKey.generate()
COORDINATOR = CoordinatorKey.generate()


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_a_signature_fits_its_bytes_only(content: bytes, other: bytes) -> None:
    for key in (SITE, COORDINATOR):
        signature = key.sign(content)
        assert key.public.verify(content, signature)
        assert key.public.verify(other, signature) == (other == content)


@given(st.binary(max_size=200))
def test_any_bytes_that_are_no_signature_are_refused_without_an_exception(signature: bytes) -> None:
    assert not SITE.public.verify(b"content", signature)
    assert not COORDINATOR.public.verify(b"content", signature)


@given(st.integers(min_value=0, max_value=511))
def test_every_flipped_bit_of_a_signature_is_found(bit: int) -> None:
    signature = bytearray(COORDINATOR.sign(b"content"))
    signature[bit // 8] ^= 1 << bit % 8
    assert not COORDINATOR.public.verify(b"content", bytes(signature))


def test_another_key_does_not_fit() -> None:
    assert not OTHER.public.verify(b"content", SITE.sign(b"content"))
    assert not CoordinatorKey.generate().public.verify(b"content", COORDINATOR.sign(b"content"))


@given(st.binary(max_size=400))
def test_what_is_no_key_is_refused_with_a_code(content: bytes) -> None:
    for wrapped in (content, b"-----BEGIN PUBLIC KEY-----\n" + content + b"\n-----END PUBLIC KEY-----\n"):
        with pytest.raises(NetworkError) as error:
            SitePublicKey.from_pem(wrapped)
        assert error.value.code == "MMF-411"


def test_a_key_on_another_curve_is_refused(tmp_path: Path) -> None:
    weak = ec.generate_private_key(ec.SECP256R1())
    pem = weak.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    with pytest.raises(NetworkError, match="P-384"):
        SitePublicKey.from_pem(pem)
    SiteKey(weak).save(tmp_path / "key.pem")
    with pytest.raises(NetworkError, match="P-384"):
        SiteKey.load(tmp_path / "key.pem")


@pytest.mark.parametrize("text", ["", "00", "zz" * 32, "00" * 33, "ключ"])
def test_what_is_no_coordinator_key_is_refused(text: str) -> None:
    with pytest.raises(NetworkError) as error:
        CoordinatorPublicKey.from_hex(text)
    assert error.value.code == "MMF-411"


def test_public_keys_survive_a_round_trip() -> None:
    assert SitePublicKey.from_pem(SITE.public.pem()).fingerprint == SITE.public.fingerprint
    assert (
        CoordinatorPublicKey.from_hex(COORDINATOR.public.hex()).fingerprint == COORDINATOR.public.fingerprint
    )


def test_fingerprints_are_whole_and_readable() -> None:
    # SHA-256 of "abc": FIPS 180-4, example B.1
    digits = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    groups = fingerprint(b"abc").split(" ")
    assert "".join(groups) == digits
    assert {len(group) for group in groups} == {4}


@pytest.mark.parametrize("passphrase", [None, "correct horse battery staple"])
def test_key_files_are_private_from_the_first_moment(tmp_path: Path, passphrase: str | None) -> None:
    old = os.umask(0)
    try:
        SITE.save(tmp_path / "site.pem", passphrase)
        COORDINATOR.save(tmp_path / "coordinator.pem", passphrase)
    finally:
        os.umask(old)
    for name in ("site.pem", "coordinator.pem"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    assert SiteKey.load(tmp_path / "site.pem", passphrase).public.fingerprint == SITE.public.fingerprint
    loaded = CoordinatorKey.load(tmp_path / "coordinator.pem", passphrase)
    assert loaded.public.hex() == COORDINATOR.public.hex()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620])
def test_a_key_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "key.pem"
    SITE.save(file)
    file.chmod(mode)
    with pytest.raises(NetworkError) as error:
        SiteKey.load(file)
    assert error.value.code == "MMF-412"


@pytest.mark.parametrize(
    ("saved", "given_later"), [("secret", None), ("secret", "Secret"), (None, "secret"), ("secret", "")]
)
def test_a_wrong_passphrase_is_named(tmp_path: Path, saved: str | None, given_later: str | None) -> None:
    SITE.save(tmp_path / "key.pem", saved)
    with pytest.raises(NetworkError) as error:
        SiteKey.load(tmp_path / "key.pem", given_later)
    assert error.value.code == "MMF-413"


def test_a_passphrase_that_cannot_be_used_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(NetworkError) as error:
        SITE.save(tmp_path / "key.pem", "x" * 1024)
    assert error.value.code == "MMF-413"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"nonsense", b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n"])
def test_a_damaged_key_file_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(NetworkError) as error:
        SiteKey.load(file)
    assert error.value.code == "MMF-411"
    with pytest.raises(NetworkError, match="MMF-411"):
        SiteKey.load(tmp_path / "absent.pem")


def test_a_key_of_the_other_kind_is_refused(tmp_path: Path) -> None:
    SITE.save(tmp_path / "site.pem")
    COORDINATOR.save(tmp_path / "coordinator.pem")
    with pytest.raises(NetworkError, match="MMF-411"):
        SiteKey.load(tmp_path / "coordinator.pem")
    with pytest.raises(NetworkError, match="MMF-411"):
        CoordinatorKey.load(tmp_path / "site.pem")
