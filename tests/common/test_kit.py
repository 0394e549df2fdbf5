"""The join kit, the names that may stand in it, and the line about software."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmfed_common.errors import NetworkError
from mmfed_common.kit import Kit
from mmfed_common.names import (
    check_federation_name,
    check_site_name,
    is_sha256,
    parse_time,
    split_address,
    time_text,
)
from mmfed_common.signing import CoordinatorKey
from mmfed_common.software import LINE, software, software_differences
from mmfed_server.federation.certificates import Authority, certificate_pem

NOW = datetime(2026, 5, 1, tzinfo=UTC)
CA = certificate_pem(Authority.create("lung", NOW).certificate).decode()
KIT = Kit(
    federation="lung",
    site="north",
    address="[::1]:9443",
    coordinator=CoordinatorKey.generate().public.hex(),
    secret=Kit.new_secret(),
    expires=time_text(NOW + timedelta(days=14)),
    ca=CA,
)


def code(text: str) -> str:
    with pytest.raises(NetworkError) as error:
        Kit.parse(text)
    assert KIT.secret not in str(error.value)
    return error.value.code


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_kit_survives_a_round_trip_also_by_mail(ending: str) -> None:
    assert Kit.parse(KIT.to_text().replace("\n", ending)) == KIT


def test_a_kit_is_read_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "north.kit"
    file.write_text(KIT.to_text())
    assert Kit.load(file) == KIT
    file.write_bytes(b"\xff\xfe")
    for path in (file, tmp_path, tmp_path / "absent"):
        with pytest.raises(NetworkError, match="MMF-419"):
            Kit.load(path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('site = "north"', 'site = "../../etc/north"'),
        ('site = "north"', 'site = "a/b"'),
        ('site = "north"', 'site = ""'),
        ('site = "north"', 'site = "north\\n"'),
        ('site = "north"', ""),
        ('site = "north"', 'site = "north"\ncode = "import os"'),
        ('site = "north"', "site = 1"),
        ('federation = "lung"', 'federation = "/lung"'),
        ("[::1]:9443", "[::1]:99999"),
        ("[::1]:9443", "user@host:1"),
        ("[::1]:9443", "host:1/path"),
        ("[::1]:9443", "host:1#x"),
        (KIT.coordinator, KIT.coordinator[:-1]),
        (KIT.secret, KIT.secret[:-1]),
        (KIT.secret, KIT.secret[:-1] + "!"),
        (KIT.expires, "never"),
        ("format = 1", "format = 2"),
        ("format = 1", 'format = "1"'),
        ("format = 1", "format = true"),
        (CA, ""),
        (CA, "nonsense\n"),
        (CA, CA + CA),
        (CA, CA.replace("CERTIFICATE", "PRIVATE KEY")),
        ("ca = ", "ca"),
    ],
    ids=itertools.count(),  # the kit's secrets differ in each process that collects
)
def test_a_changed_kit_is_refused(old: str, new: str) -> None:
    assert old in KIT.to_text()
    assert code(KIT.to_text().replace(old, new, 1)) == "MMF-419"


@given(st.text(max_size=300))
def test_whatever_comes_is_refused_with_a_code(text: str) -> None:
    assert code(text) == "MMF-419"


def test_a_huge_kit_is_refused() -> None:
    assert code("#" * 100_000) == "MMF-419"
    assert code("a = " + "[" * 60_000) == "MMF-419"


def test_a_kit_expires() -> None:
    end = parse_time(KIT.expires)
    KIT.refuse_if_expired(end - timedelta(seconds=1))
    with pytest.raises(NetworkError, match="MMF-420"):
        KIT.refuse_if_expired(end)
    with pytest.raises(NetworkError, match="MMF-419"):
        KIT.model_copy(update={"expires": "2026-02-30T00:00:00Z"}).refuse_if_expired(NOW)


def test_secrets_are_long_and_differ() -> None:
    made = {Kit.new_secret() for _ in range(100)}
    assert len(made) == 100
    assert {len(secret) for secret in made} == {43}  # 256 bits


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("localhost:80", ("localhost", 80)),
        ("a.b-c.example:65535", ("a.b-c.example", 65535)),
        ("10.0.0.1:1", ("10.0.0.1", 1)),
        ("[2001:db8::1]:443", ("2001:db8::1", 443)),
    ],
)
def test_addresses_are_taken_apart(address: str, expected: tuple[str, int]) -> None:
    assert split_address(address) == expected


@pytest.mark.parametrize(
    "address",
    [
        *("", ":", "host", "host:", ":80", "host:0", "host:65536", "host:-1", "host:٣", "::1:80", "[::1]"),
        *("[host]:80", "a b:80", "a/b:80", "a@b:80", "-a:80", "a-:80", "a..b:80", "x" * 64 + ":80"),
        *("host:80\n", "https://h:80"),
    ],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(NetworkError) as error:
        split_address(address)
    assert error.value.code == "MMF-425"


@given(st.text(max_size=80))
def test_a_name_that_passes_is_harmless(name: str) -> None:
    for check in (check_site_name, check_federation_name):
        try:
            check(name)
        except NetworkError:
            continue
        assert name.isascii()
        assert not set(name) & set("/\\\n\r\0<>&\"'%$;|:*?")
        assert name not in (".", "..")
        assert not name.startswith((".", "-"))


def test_a_hash_is_lower_case_and_whole() -> None:
    assert is_sha256("a" * 64)
    assert not any(is_sha256(text) for text in ("", "a" * 63, "a" * 65, "A" * 64, "a" * 64 + "\n", "g" * 64))


def test_times_survive_a_round_trip_in_utc() -> None:
    assert time_text(NOW) == "2026-05-01T00:00:00Z"
    assert parse_time(time_text(NOW)) == NOW


def test_software_is_one_plain_line() -> None:
    import re

    assert re.fullmatch(LINE[1:-1], software())
    assert software_differences(software()) == []


@pytest.mark.parametrize(
    ("theirs", "expected"),
    [
        ("mmfed 1.0; flwr 1.41.0; torch 2.9.0; python 3.11", []),
        ("mmfed 1.0; flwr 1.41.0; torch 2.9.0+cu128; python 3.11", []),
        ("mmfed 2.0; flwr 1.41.0; torch 2.9.0; python 3.11", ["mmfed is 2.0 there and 1.0 here"]),
        ("mmfed 1.0; flwr 1.41.0; python 3.11", ["torch is unknown there and 2.9.0+cpu here"]),
        ("<script>", ["the other side does not say which software it runs"]),
        ("", ["the other side does not say which software it runs"]),
    ],
)
def test_differences_are_explained(theirs: str, expected: list[str]) -> None:
    assert software_differences(theirs, "mmfed 1.0; flwr 1.41.0; torch 2.9.0+cpu; python 3.11") == expected
