"""The portal as a site uses it: what is offered, packs by hash, a new key, and who is turned away."""

from __future__ import annotations

import gzip
import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from tests.e2e.recording_proxy import RecordingProxy

from mmfed_client.enrolment import PortalClient
from mmfed_client.home import SiteHome
from mmfed_common.errors import ModelError, NetworkError
from mmfed_common.portal_protocol import STANDS_STILL
from mmfed_common.signed_study import SignedStudy
from mmfed_common.signing import CoordinatorKey
from mmfed_common.study import Study
from mmfed_server.withdrawal.register import Withdrawals

CONTENT = b"a knowledge pack " * 100_000
PACK = gzip.compress(b"{}\n" + CONTENT + b"\n", mtime=0)
PACK_SHA = hashlib.sha256(CONTENT).hexdigest()


def code_of(error: pytest.ExceptionInfo[NetworkError]) -> str:
    return error.value.code


def instead(answer: Response) -> Any:
    """Something that stands between portal and site and answers in its place."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(scope, receive, send)

    return lambda _portal: app


def with_pack(study: Study) -> Study:
    return study.with_changes(contract={"knowledge": {"file": "pack.mmfk", "sha256": PACK_SHA}})


def offered_pack(coordinator: Any, study: Study, tmp_path: Path) -> None:
    (tmp_path / "pack.mmfk").write_bytes(PACK)
    key = coordinator.federation.coordinator_key
    signed = SignedStudy.sign(with_pack(study), key, coordinator.federation.name)
    coordinator.offers.put(signed, tmp_path / "pack.mmfk")


def test_the_offer_arrives_as_it_was_signed(coordinator: Any, study: Study) -> None:
    client = PortalClient(coordinator.joined("north"))
    assert client.offer() is None
    signed = SignedStudy.sign(study, coordinator.federation.coordinator_key, "lung")
    coordinator.offers.put(signed)
    assert client.offer() == signed
    assert signed.open(client.home.coordinator, client.config.federation) == study
    coordinator.offers.withdraw()
    assert client.offer() is None
    assert coordinator.registry.get("north").last_seen is not None


def test_studies_that_wait_are_listed_and_fetched_by_their_hash(coordinator: Any, study: Study) -> None:
    client = PortalClient(coordinator.joined("north"))
    assert list(client.waiting()) == []
    key = coordinator.federation.coordinator_key
    changed = [study.with_changes(study={"name": name}) for name in ("second", "third")]
    second, third = (SignedStudy.sign(one, key, "lung") for one in changed)
    coordinator.offers.waiting = lambda: [second, third]
    assert list(client.waiting()) == [second.hash, third.hash]
    assert client.waiting_study(third.hash) == third
    assert client.waiting_study(study.hash) is None
    coordinator.wrap = instead(PlainTextResponse(second.to_json()))
    with pytest.raises(NetworkError) as error:
        client.waiting_study(third.hash)
    assert code_of(error) == "MMF-418"
    coordinator.wrap = instead(PlainTextResponse('{"studies": ["../x"]}'))
    with pytest.raises(NetworkError) as error:
        list(client.waiting())
    assert code_of(error) == "MMF-430"


@pytest.mark.parametrize("code", STANDS_STILL)
def test_a_site_is_told_that_the_server_stands_still(coordinator: Any, study: Study, code: str) -> None:
    client = PortalClient(coordinator.joined("north"))
    signed = SignedStudy.sign(study, coordinator.federation.coordinator_key, "lung")
    coordinator.offers.put(signed)
    coordinator.offers.trouble = lambda: code
    with pytest.raises(NetworkError) as error:
        client.offer()
    assert code_of(error) == "MMF-442"
    assert code in error.value.what
    coordinator.offers.trouble = lambda: "MMF-533"
    assert client.offer() == signed


def test_a_coordinator_offers_only_what_it_signed_itself(coordinator: Any, study: Study) -> None:
    with pytest.raises(NetworkError, match="MMF-414"):
        coordinator.offers.put(SignedStudy.sign(study, CoordinatorKey.generate(), "lung"))
    assert coordinator.offers.current is None


def test_a_pack_is_fetched_whole_and_only_once(coordinator: Any, study: Study, tmp_path: Path) -> None:
    offered_pack(coordinator, study, tmp_path)
    client = PortalClient(coordinator.joined("north"))
    file = client.fetch_pack(PACK_SHA)
    assert file.read_bytes() == PACK
    coordinator.wrap = instead(PlainTextResponse("gone", status_code=500))
    assert client.fetch_pack(PACK_SHA) == file


@pytest.mark.parametrize("answer", [PACK[:-1], PACK + b"x", b"", PACK[::-1]])
def test_another_file_than_the_hash_names_is_not_kept(
    coordinator: Any, study: Study, tmp_path: Path, answer: bytes
) -> None:
    offered_pack(coordinator, study, tmp_path)
    client = PortalClient(coordinator.joined("north"))
    coordinator.federation.pack_file(PACK_SHA).write_bytes(answer)
    with pytest.raises(NetworkError) as error:
        client.fetch_pack(PACK_SHA)
    assert code_of(error) == "MMF-427"
    assert list(client.home.packs.iterdir()) == []


def test_a_damaged_pack_of_the_site_is_fetched_again(coordinator: Any, study: Study, tmp_path: Path) -> None:
    offered_pack(coordinator, study, tmp_path)
    client = PortalClient(coordinator.joined("north"))
    client.fetch_pack(PACK_SHA).write_bytes(b"damaged")
    assert client.fetch_pack(PACK_SHA).read_bytes() == PACK


@contextmanager
def behind_a_proxy(coordinator: Any, home: SiteHome) -> Iterator[RecordingProxy]:
    """A site that reaches the portal through a proxy."""
    held = coordinator.federation.certificates
    authority = coordinator.federation.path / "ca" / "ca.pem"
    port = int(coordinator.federation.address.rpartition(":")[2])
    with RecordingProxy(held.cert_path, held.key_path, authority, port) as proxy:
        text = home.config_file.read_text()
        home.config_file.write_text(text.replace(f":{port}", f":{proxy.port}"))
        yield proxy


def test_an_answer_that_was_lost_on_the_way_is_asked_for_again(
    coordinator: Any, study: Study, tmp_path: Path
) -> None:
    offered_pack(coordinator, study, tmp_path)
    home = coordinator.joined("north")
    with behind_a_proxy(coordinator, home) as proxy:
        client = PortalClient(home)
        proxy.lose_answers(1)
        assert client.offer() == coordinator.offers.current
        proxy.lose_answers(2)
        assert client.fetch_pack(PACK_SHA).read_bytes() == PACK
        assert len(proxy.requests()) == 5
        signatures = [
            line for r in proxy.requests() for line in r.headers.splitlines() if b"signature" in line
        ]
        assert len(set(signatures)) == 5  # none is a replay
        proxy.lose_answers(3)
        with pytest.raises(NetworkError) as error:
            client.offer()
        assert code_of(error) == "MMF-428"
        proxy.lose_answers(1)
        with pytest.raises(NetworkError, match="MMF-428"):
            client.rotate()  # not one that only reads
        assert len(proxy.requests()) == 9


@pytest.mark.parametrize(
    "name", ["../federation.toml", "..%2fca%2fca.key", "A" * 64, "a" * 63, "", "/etc/passwd"]
)
def test_a_hash_cannot_be_a_path(coordinator: Any, name: str) -> None:
    client = PortalClient(coordinator.joined("north"))
    with pytest.raises(NetworkError) as error:
        client.fetch_pack(name)
    assert code_of(error) == "MMF-423"
    assert coordinator.offers.pack(name) is None


def test_a_full_disk_is_named_and_nothing_is_left(coordinator: Any, study: Study, tmp_path: Path) -> None:
    offered_pack(coordinator, study, tmp_path)
    client = PortalClient(coordinator.joined("north"))
    full = tmp_path / "full"
    full.symlink_to("/dev/full")
    with pytest.raises(NetworkError) as error, open(full, "wb", buffering=0) as out:
        client._copy(f"/mmfed/v1/packs/{PACK_SHA}", PACK_SHA, out.write)
    assert code_of(error) == "MMF-423"


def test_a_wrong_or_missing_pack_cannot_be_offered(coordinator: Any, study: Study, tmp_path: Path) -> None:
    signed = SignedStudy.sign(with_pack(study), coordinator.federation.coordinator_key, "lung")
    (tmp_path / "pack.mmfk").write_bytes(b"another")
    with pytest.raises(ModelError, match="MMF-602"):
        coordinator.offers.put(signed, tmp_path / "pack.mmfk")
    with pytest.raises(ModelError, match="MMF-601"):
        coordinator.offers.put(signed)
    assert coordinator.offers.current is None


def test_a_revoked_site_is_turned_away_and_others_are_not(coordinator: Any) -> None:
    north, south = PortalClient(coordinator.joined("north")), PortalClient(coordinator.joined("south"))
    coordinator.registry.revoke("north")
    with pytest.raises(NetworkError) as error:
        north.offer()
    assert code_of(error) == "MMF-439"
    assert south.offer() is None


def test_the_key_of_another_site_does_not_open(coordinator: Any) -> None:
    north, south = coordinator.joined("north"), coordinator.joined("south")
    north.key_file.write_bytes(south.key_file.read_bytes())
    with pytest.raises(NetworkError) as error:
        PortalClient(north).offer()
    assert code_of(error) == "MMF-439"


def test_a_clock_that_is_off_is_told_to_an_enrolled_site(coordinator: Any) -> None:
    client = PortalClient(coordinator.joined("north"))
    coordinator.clock.ahead = timedelta(minutes=10)
    with pytest.raises(NetworkError) as error:
        client.offer()
    assert code_of(error) == "MMF-424"
    coordinator.clock.ahead = timedelta(minutes=3)
    assert client.offer() is None


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (PlainTextResponse("proxy says no", status_code=502), "MMF-430"),
        (PlainTextResponse("<html>captive portal</html>"), "MMF-418"),
        (RedirectResponse("https://elsewhere.example/"), "MMF-430"),
        (PlainTextResponse("Forbidden", status_code=403), "MMF-430"),
        (PlainTextResponse('{"code":"MMF-999","time":"2026-01-01T00:00:00Z"}', status_code=403), "MMF-430"),
        (PlainTextResponse('{"code":"MMF-201","time":"2026-01-01T00:00:00Z"}', status_code=403), "MMF-430"),
        (PlainTextResponse('{"code":"MMF-424","time":"never"}', status_code=403), "MMF-430"),
        (Response(b"x" * 10_000, status_code=403), "MMF-430"),
        (Response(b"[" * 100_000), "MMF-418"),
    ],
)
def test_whatever_answers_in_the_portals_place_becomes_a_code(
    coordinator: Any, answer: Response, code: str
) -> None:
    client = PortalClient(coordinator.joined("north"))
    coordinator.wrap = instead(answer)
    with pytest.raises(NetworkError) as error:
        client.offer()
    assert code_of(error) == code


def test_an_answer_that_never_ends_is_cut_off(coordinator: Any) -> None:
    client = PortalClient(coordinator.joined("north"))

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(200):
            await send({"type": "http.response.body", "body": b"x" * 2**20, "more_body": True})

    coordinator.wrap = lambda _portal: endless
    with pytest.raises(NetworkError) as error:
        client.offer()
    assert code_of(error) == "MMF-430"
    assert "too long" in error.value.what


def test_a_new_key_replaces_the_old_one_when_the_coordinator_has_begun_it(coordinator: Any) -> None:
    home = coordinator.joined("north")
    client, old = PortalClient(home), home.key()
    with pytest.raises(NetworkError) as error:
        client.rotate()
    assert code_of(error) == "MMF-438"
    assert not home.next_key_file.exists()
    coordinator.registry.begin_rotation("north")
    fingerprint = client.rotate()
    assert fingerprint == home.key().public.fingerprint == coordinator.registry.get("north").fingerprint
    assert fingerprint != old.public.fingerprint
    assert client.offer() is None
    with pytest.raises(NetworkError, match="MMF-438"):
        client.rotate()  # once only
    old.save(home.key_file)
    with pytest.raises(NetworkError, match="MMF-439"):
        PortalClient(home).offer()


@pytest.mark.parametrize("heard", [True, False])
def test_a_change_of_the_key_that_was_cut_off_settles_itself(coordinator: Any, heard: bool) -> None:
    """The answer to `rotate` is lost, before or after the server has changed the key."""
    home = coordinator.joined("north")
    coordinator.registry.begin_rotation("north")

    def cut(app: Any) -> Any:
        async def lost(scope: Any, receive: Any, send: Any) -> None:
            async def nowhere(_message: Any) -> None:
                return

            if heard:
                await app(scope, receive, nowhere)
            await Response(status_code=502)(scope, receive, send)

        return lost

    coordinator.wrap = cut
    with pytest.raises(NetworkError, match="MMF-430"):
        PortalClient(home).rotate()
    coordinator.wrap = lambda app: app
    client = PortalClient(home)  # a new process
    if heard:
        assert client.offer() is None
        assert not home.next_key_file.exists()
    else:
        assert client.settle_rotation() is False
        client.rotate()
    assert home.key().public.fingerprint == coordinator.registry.get("north").fingerprint


def test_the_running_site_may_ask_while_its_key_changes(coordinator: Any) -> None:
    """Another process hears that the old key is refused, and settles the change before the first does."""
    home = coordinator.joined("north")
    running, meanwhile = PortalClient(home), []
    coordinator.registry.begin_rotation("north")

    def watch(app: Any) -> Any:
        async def between(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"].endswith("rotate"):

                async def late(message: Any) -> None:
                    if not meanwhile:
                        meanwhile.append(await run_in_threadpool(running.offer))
                    await send(message)

                await app(scope, receive, late)
            else:
                await app(scope, receive, send)

        return between

    coordinator.wrap = watch
    fingerprint = PortalClient(home).rotate()
    assert meanwhile == [None]
    assert fingerprint == home.key().public.fingerprint == coordinator.registry.get("north").fingerprint
    assert not home.next_key_file.exists()


def test_a_client_that_lives_on_takes_the_key_that_another_process_made(coordinator: Any) -> None:
    home = coordinator.joined("north")
    running = PortalClient(home)
    coordinator.registry.begin_rotation("north")
    PortalClient(home).rotate()
    assert running.offer() is None


def test_a_stolen_key_cannot_make_itself_at_home(coordinator: Any, tmp_path: Path) -> None:
    home = coordinator.joined("north")
    thief = SiteHome(tmp_path / "thief")
    shutil.copytree(home.path, thief.path)
    with pytest.raises(NetworkError, match="MMF-438"):
        PortalClient(thief).rotate()
    assert PortalClient(home).offer() is None


def test_a_home_without_its_files_says_which_is_missing(coordinator: Any) -> None:
    home = coordinator.joined("north")
    for file, code in ((home.ca_file, "MMF-423"), (home.config_file, "MMF-423"), (home.key_file, "MMF-411")):
        kept = file.read_bytes()
        file.unlink()
        with pytest.raises(NetworkError) as error:
            PortalClient(home)
        assert code_of(error) == code
        file.write_bytes(kept)
        file.chmod(0o600)


def test_a_key_that_is_too_open_is_refused(coordinator: Any) -> None:
    home = coordinator.joined("north")
    home.key_file.chmod(0o644)
    with pytest.raises(NetworkError, match="MMF-412"):
        PortalClient(home)


def test_a_site_leaves_a_study_that_the_coordinator_has(coordinator: Any, study: Study) -> None:
    client = PortalClient(coordinator.joined("north"))
    with pytest.raises(NetworkError) as caught:
        client.withdraw(study.hash)
    assert code_of(caught) == "MMF-565"
    signed = SignedStudy.sign(study, coordinator.federation.coordinator_key, "lung")
    coordinator.offers.put(signed)
    client.withdraw(study.hash)
    client.withdraw(study.hash)
    left = Withdrawals(coordinator.registry.engine).of(study.hash)
    assert [(site, entry.told_by) for site, entry in left.items()] == [("north", "site")]
