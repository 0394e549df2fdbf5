"""Joining over real TLS: what is left on the disk, what is refused, and what an interruption costs."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import Response

from mmfed_client.enrolment import PortalClient, join
from mmfed_client.home import SiteHome
from mmfed_common.errors import NetworkError
from mmfed_common.kit import Kit
from mmfed_common.names import utc_now
from mmfed_common.signing import CoordinatorKey, SiteKey
from mmfed_server.federation import Federation

JOIN = """
import sys
from pathlib import Path
from mmfed_client.enrolment import join
from mmfed_client.home import SiteHome
print(join(Path(sys.argv[1]), SiteHome(Path(sys.argv[2]))).fingerprint, flush=True)
"""


def code_of(error: pytest.ExceptionInfo[NetworkError]) -> str:
    return error.value.code


def changed_kit(kit: Path, **changes: Any) -> Path:
    """Write another kit with some fields changed."""
    other = kit.with_name("changed.kit")
    other.write_text(Kit.load(kit).model_copy(update=changes).to_text())
    return other


def test_a_site_joins_and_both_sides_see_the_same_fingerprint(coordinator: Any) -> None:
    home = coordinator.home("north")
    result = join(coordinator.kit("north"), home, cohort=Path("cohort.toml"))
    record = coordinator.registry.get("north")
    assert record.state == "enrolled"
    assert record.fingerprint == result.fingerprint == home.key().public.fingerprint
    assert result.coordinator_fingerprint == coordinator.federation.coordinator_key.public.fingerprint
    assert home.config.site == "north"
    assert home.cohort_file == Path("cohort.toml").resolve()
    assert home.coordinator.hex() == coordinator.federation.coordinator_key.public.hex()
    assert home.key_file.stat().st_mode & 0o777 == 0o600
    assert home.path.stat().st_mode & 0o777 == 0o700


def test_the_private_key_never_leaves_and_the_kit_has_none(coordinator: Any) -> None:
    seen = []

    def watch(app: Any) -> Any:
        async def watched(scope: Any, receive: Any, send: Any) -> None:
            async def heard() -> Any:
                message = await receive()
                seen.append(message.get("body", b""))
                return message

            await app(scope, heard, send)

        return watched

    coordinator.wrap = watch
    home = coordinator.joined("north")
    secret = home.key().key.private_numbers().private_value
    body = b"".join(seen)
    assert b"PUBLIC KEY" in body
    assert b"PRIVATE" not in body
    for form in (secret.to_bytes(48, "big").hex().encode(), str(secret).encode(), secret.to_bytes(48, "big")):
        assert form not in body
    assert "PRIVATE" not in (coordinator.folder / "north.kit").read_text()


def test_the_secret_itself_is_never_sent(coordinator: Any) -> None:
    kit = coordinator.kit("north")
    seen = []

    def watch(app: Any) -> Any:
        async def watched(scope: Any, receive: Any, send: Any) -> None:
            async def heard() -> Any:
                message = await receive()
                seen.append(message.get("body", b""))
                return message

            await app(scope, heard, send)

        return watched

    coordinator.wrap = watch
    join(kit, coordinator.home("north"))
    assert Kit.load(kit).secret.encode() not in b"".join(seen)


def test_a_passphrase_protects_the_key(coordinator: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    home = coordinator.home("north")
    join(coordinator.kit("north"), home, passphrase="long enough")
    assert b"ENCRYPTED" in home.key_file.read_bytes()
    monkeypatch.delenv("MMFED_PASSPHRASE", raising=False)
    with pytest.raises(NetworkError) as error:
        PortalClient(home)
    assert code_of(error) == "MMF-413"
    monkeypatch.setenv("MMFED_PASSPHRASE", "long enough")
    assert PortalClient(home).offer() is None


def test_a_kit_serves_one_key_only(coordinator: Any) -> None:
    kit = coordinator.kit("north")
    join(kit, coordinator.home("north"))
    thief = SiteHome(coordinator.folder / "thief")
    with pytest.raises(NetworkError) as error:
        join(kit, thief)
    assert code_of(error) == "MMF-421"
    assert not thief.joined
    assert coordinator.registry.get("north").fingerprint == coordinator.home("north").key().public.fingerprint


def test_a_lost_answer_costs_nothing(coordinator: Any) -> None:
    """The server enrols, the answer does not arrive, the same command is given again."""
    kit, home = coordinator.kit("north"), coordinator.home("north")

    def lose(app: Any) -> Any:
        async def lost(scope: Any, receive: Any, send: Any) -> None:
            async def nowhere(message: Any) -> None:
                assert message["type"].startswith("http.response")

            await app(scope, receive, nowhere)
            await Response(status_code=502)(scope, receive, send)

        return lost

    coordinator.wrap = lose
    with pytest.raises(NetworkError) as error:
        join(kit, home)
    assert code_of(error) == "MMF-430"
    assert coordinator.registry.get("north").state == "enrolled"
    assert not home.joined
    coordinator.wrap = lambda app: app
    result = join(kit, home)
    assert result.fingerprint == coordinator.registry.get("north").fingerprint
    assert PortalClient(home).offer() is None


@pytest.mark.parametrize("attempt", range(6))
def test_a_join_that_was_killed_anywhere_is_finished_by_the_same_command(
    coordinator: Any, attempt: int
) -> None:
    kit, home = coordinator.kit("north"), coordinator.home("north")
    command = [sys.executable, "-c", JOIN, str(kit), str(home.path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    files = ["key.pem.partial", "key.pem", "trust/ca.pem", "policy.toml", "site.toml.partial", "site.toml"]
    deadline = time.monotonic() + 120
    while not (home.path / files[attempt]).exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.kill()
    process.wait()
    if not home.joined:
        join(kit, home)
    assert home.key().public.fingerprint == coordinator.registry.get("north").fingerprint
    assert PortalClient(home).offer() is None


def test_a_home_joins_once(coordinator: Any) -> None:
    home = coordinator.joined("north")
    before = home.key_file.read_bytes()
    with pytest.raises(NetworkError) as error:
        join(coordinator.kit("south"), home)
    assert code_of(error) == "MMF-422"
    assert home.key_file.read_bytes() == before


def test_a_wrong_secret_and_an_unknown_site_look_the_same(coordinator: Any) -> None:
    kit = coordinator.kit("north")
    for changes in ({"secret": Kit.new_secret()}, {"site": "nobody"}, {"federation": "liver"}):
        with pytest.raises(NetworkError) as error:
            join(changed_kit(kit, **changes), coordinator.home("north"))
        assert code_of(error) == "MMF-421"
        assert "knows no such invitation" in error.value.what
    assert not coordinator.home("north").joined
    assert coordinator.registry.get("north").state == "invited"


def test_guessing_is_slowed_and_a_good_kit_is_not_hindered_elsewhere(coordinator: Any) -> None:
    kit = coordinator.kit("north")
    wrong = changed_kit(kit, secret=Kit.new_secret())
    for _ in range(20):
        with pytest.raises(NetworkError, match="MMF-421"):
            join(wrong, coordinator.home("north"))
    with pytest.raises(NetworkError, match="MMF-421"):
        join(kit, coordinator.home("north"))  # refused although right: too many failures within a minute
    coordinator.joined("south")
    coordinator.clock.ahead = timedelta(minutes=2)
    join(kit, coordinator.home("north"))


def test_an_expired_kit_is_refused_on_both_sides(coordinator: Any) -> None:
    kit = coordinator.kit("north", days=1)
    with pytest.raises(NetworkError) as error:
        join(kit, coordinator.home("north"), now=utc_now() + timedelta(days=1, seconds=1))
    assert code_of(error) == "MMF-420"
    coordinator.registry.invite("south", days=-1)
    later = coordinator.registry.invite("south", days=0)
    expired = coordinator.federation.kit(later).model_copy(update={"expires": "2999-01-01T00:00:00Z"})
    file = coordinator.federation.write_kit(expired, coordinator.folder / "south.kit")
    with pytest.raises(NetworkError) as error:
        join(file, coordinator.home("south"))
    assert code_of(error) == "MMF-420"


def test_a_void_kit_is_refused(coordinator: Any) -> None:
    first = Kit.load(coordinator.kit("north"))
    second = coordinator.kit("north")
    with pytest.raises(NetworkError, match="MMF-421"):
        join(changed_kit(second, secret=first.secret), coordinator.home("north"))
    coordinator.registry.revoke("north")
    with pytest.raises(NetworkError, match="MMF-421"):
        join(second, coordinator.home("north"))


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_is_an_hour_off_is_named_with_the_difference(coordinator: Any, hours: int) -> None:
    kit = coordinator.kit("north")
    coordinator.clock.ahead = timedelta(hours=hours)
    with pytest.raises(NetworkError) as error:
        join(kit, coordinator.home("north"))
    assert code_of(error) == "MMF-424"
    seconds = int(re.search(r"(\d+) s (ahead|behind)", error.value.what).group(1))  # type: ignore[union-attr]
    assert abs(seconds - 3600) < 30
    assert ("behind" in error.value.what) == (hours > 0)
    coordinator.clock.ahead = timedelta(0)
    join(kit, coordinator.home("north"))


def test_another_federations_server_is_refused_by_its_certificate(coordinator: Any, tmp_path: Path) -> None:
    other = Federation.create(tmp_path / "other", "lung", coordinator.federation.address)
    invitation = coordinator.registry.invite("north")
    file = other.write_kit(other.kit(invitation), tmp_path / "other.kit")
    with pytest.raises(NetworkError) as error:
        join(file, coordinator.home("north"))
    assert code_of(error) == "MMF-429"
    assert coordinator.registry.get("north").state == "invited"


def test_a_server_without_the_coordinators_key_is_found(coordinator: Any) -> None:
    kit = changed_kit(coordinator.kit("north"), coordinator=CoordinatorKey.generate().public.hex())
    with pytest.raises(NetworkError) as error:
        join(kit, coordinator.home("north"))
    assert code_of(error) == "MMF-426"
    assert not coordinator.home("north").joined


def test_a_name_that_is_not_in_the_certificate_is_refused(coordinator: Any) -> None:
    port = coordinator.federation.address.rpartition(":")[2]
    kit = changed_kit(coordinator.kit("north"), address=f"127.0.0.2:{port}")
    with pytest.raises(NetworkError) as error:
        join(kit, coordinator.home("north"))
    assert code_of(error) in ("MMF-428", "MMF-429")


def test_nobody_there_is_named(coordinator: Any) -> None:
    kit = changed_kit(coordinator.kit("north"), address="127.0.0.1:1")
    with pytest.raises(NetworkError) as error:
        join(kit, coordinator.home("north"))
    assert code_of(error) == "MMF-428"


def test_a_proxy_of_the_environment_is_used(coordinator: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "")
    with pytest.raises(NetworkError) as error:
        join(coordinator.kit("north"), coordinator.home("north"))
    assert code_of(error) == "MMF-428"
    monkeypatch.setenv("NO_PROXY", "localhost")
    join(coordinator.kit("north"), coordinator.home("north"))


def test_one_key_cannot_be_two_sites(coordinator: Any) -> None:
    north, south = coordinator.joined("north"), coordinator.home("south")
    south.make_folders()
    SiteKey.load(north.key_file).save(south.key_file)
    with pytest.raises(NetworkError) as error:
        join(coordinator.kit("south"), south)
    assert code_of(error) == "MMF-437"


def test_a_home_that_others_can_write_is_refused(coordinator: Any) -> None:
    home = coordinator.home("north")
    home.path.mkdir()
    home.path.chmod(0o777)
    with pytest.raises(NetworkError) as error:
        join(coordinator.kit("north"), home)
    assert code_of(error) == "MMF-423"
