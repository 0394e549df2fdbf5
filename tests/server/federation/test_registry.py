"""The registry: states and keys, ledger heads, quarantine; on SQLite, and on PostgreSQL if it can run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine
from tests.server.postgres import running_postgres

from mmfed_common.errors import NetworkError
from mmfed_common.portal_protocol import join_proof, secret_verifier
from mmfed_common.signing import SiteKey
from mmfed_server.database import metadata, open_database
from mmfed_server.federation import SiteRegistry

FIRST, SECOND = SiteKey.generate().public, SiteKey.generate().public
TRANSCRIPT = b"what is proved"


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL of these tests alone."""
    with running_postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "sqlite":
        yield open_database(f"sqlite:///{tmp_path / 'registry.sqlite'}")
        return
    opened = open_database(request.getfixturevalue("postgres_url"))
    yield opened
    metadata.drop_all(opened)
    opened.dispose()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def registry(engine: Engine, clock: Clock) -> SiteRegistry:
    return SiteRegistry(engine, clock)


def enrol(registry: SiteRegistry, site: str = "north", key: object = FIRST) -> None:
    secret = registry.invite(site).secret
    registry.enrol(site, TRANSCRIPT, proof(secret), key)  # type: ignore[arg-type]


def proof(secret: str) -> bytes:
    return join_proof(secret_verifier(secret), TRANSCRIPT)


def code(action: Callable[[], object]) -> str:
    with pytest.raises(NetworkError) as error:
        action()
    return error.value.code


def test_a_site_goes_from_invited_to_enrolled_to_revoked(registry: SiteRegistry) -> None:
    invitation = registry.invite("north")
    assert registry.get("north").state == "invited"
    assert registry.keys() == {}
    registry.enrol("north", TRANSCRIPT, proof(invitation.secret), FIRST)
    assert registry.keys() == {"north": FIRST.pem()}
    registry.revoke("north")
    assert registry.get("north").state == "revoked"
    assert registry.keys() == {}


def test_sites_do_not_touch_each_other(registry: SiteRegistry) -> None:
    enrol(registry, "north", FIRST)
    before = registry.get("north")
    enrol(registry, "south", SECOND)
    registry.quarantine("south", "MMF-450")
    registry.revoke("south")
    assert registry.get("north") == before
    assert [record.name for record in registry.all()] == ["north", "south"]


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a b", "-x", "x" * 64, "é", "a\n", "<b>", "con.txt", "a\0"]
)
def test_names_that_could_be_more_than_names_are_refused(registry: SiteRegistry, name: str) -> None:
    assert code(lambda: registry.invite(name)) == "MMF-425"


def test_names_differ_in_more_than_case(registry: SiteRegistry) -> None:
    registry.invite("North")
    assert code(lambda: registry.invite("north")) == "MMF-425"


def test_a_secret_is_good_once_and_for_its_site_only(registry: SiteRegistry) -> None:
    invitation = registry.invite("north")
    registry.invite("south")
    assert code(lambda: registry.enrol("south", TRANSCRIPT, proof(invitation.secret), FIRST)) == "MMF-421"
    assert code(lambda: registry.enrol("north", b"other", proof(invitation.secret), FIRST)) == "MMF-421"
    assert code(lambda: registry.enrol("nobody", TRANSCRIPT, proof(invitation.secret), FIRST)) == "MMF-421"
    registry.enrol("north", TRANSCRIPT, proof(invitation.secret), FIRST)
    registry.enrol("north", TRANSCRIPT, proof(invitation.secret), FIRST)  # the same key again: harmless
    assert code(lambda: registry.enrol("north", TRANSCRIPT, proof(invitation.secret), SECOND)) == "MMF-421"
    assert registry.get("north").fingerprint == FIRST.fingerprint


def test_the_proof_of_no_secret_is_not_accepted(registry: SiteRegistry) -> None:
    """A revoked site has no secret; its absence must not act as a known one."""
    enrol(registry)
    registry.revoke("north")
    empty = join_proof(bytes(32), TRANSCRIPT)
    for site in ("north", "nobody"):
        assert not registry.knows_secret(site, TRANSCRIPT, empty)
        assert code(lambda name=site: registry.enrol(name, TRANSCRIPT, empty, SECOND)) == "MMF-421"  # type: ignore[misc]


def test_a_secret_expires(registry: SiteRegistry, clock: Clock) -> None:
    invitation = registry.invite("north", days=1)
    clock.now += timedelta(days=1)
    assert code(lambda: registry.enrol("north", TRANSCRIPT, proof(invitation.secret), FIRST)) == "MMF-420"


def test_an_enrolled_site_is_not_invited_and_a_new_invitation_voids_the_old(registry: SiteRegistry) -> None:
    first, second = registry.invite("north"), registry.invite("north")
    assert code(lambda: registry.enrol("north", TRANSCRIPT, proof(first.secret), FIRST)) == "MMF-421"
    registry.enrol("north", TRANSCRIPT, proof(second.secret), FIRST)
    assert code(lambda: registry.invite("north")) == "MMF-435"


def test_a_revoked_key_never_comes_back(registry: SiteRegistry) -> None:
    enrol(registry)
    registry.revoke("north")
    secret = registry.invite("north").secret
    assert code(lambda: registry.enrol("north", TRANSCRIPT, proof(secret), FIRST)) == "MMF-437"
    secret = registry.invite("south").secret
    assert code(lambda: registry.enrol("south", TRANSCRIPT, proof(secret), FIRST)) == "MMF-437"
    secret = registry.invite("north").secret
    registry.enrol("north", TRANSCRIPT, proof(secret), SECOND)
    assert registry.keys() == {"north": SECOND.pem()}


def test_a_key_changes_once_when_the_coordinator_has_begun_it(registry: SiteRegistry, clock: Clock) -> None:
    enrol(registry)
    assert code(lambda: registry.rotate("north", SECOND)) == "MMF-438"
    until = registry.begin_rotation("north")
    assert code(lambda: registry.rotate("north", FIRST)) == "MMF-437"
    clock.now = until
    assert code(lambda: registry.rotate("north", SECOND)) == "MMF-438"
    registry.begin_rotation("north")
    assert registry.rotate("north", SECOND).fingerprint == SECOND.fingerprint
    assert registry.keys() == {"north": SECOND.pem()}
    assert code(lambda: registry.rotate("north", SiteKey.generate().public)) == "MMF-438"


def test_the_kit_cannot_undo_a_change_of_the_key(registry: SiteRegistry) -> None:
    secret = registry.invite("north").secret
    registry.enrol("north", TRANSCRIPT, proof(secret), FIRST)
    registry.begin_rotation("north")
    registry.rotate("north", SECOND)
    assert code(lambda: registry.enrol("north", TRANSCRIPT, proof(secret), FIRST)) == "MMF-421"


def test_who_is_not_there_is_named(registry: SiteRegistry) -> None:
    registry.invite("north")
    for action in (registry.get, registry.revoke, registry.begin_rotation, registry.lift):
        assert code(lambda act=action: act("nobody")) == "MMF-434"  # type: ignore[misc]
    assert code(lambda: registry.begin_rotation("north")) == "MMF-435"
    assert code(lambda: registry.note_ledger("north", 1, "0" * 64)) == "MMF-435"


def test_a_ledger_only_grows(registry: SiteRegistry) -> None:
    enrol(registry)
    for length, head in ((3, "a" * 64), (3, "a" * 64), (7, "b" * 64)):
        registry.note_ledger("north", length, head)
    assert code(lambda: registry.note_ledger("north", 6, "a" * 64)) == "MMF-436"  # cut
    assert code(lambda: registry.note_ledger("north", 7, "c" * 64)) == "MMF-436"  # rewritten
    assert [(held.length, held.head) for held in registry.ledger_heads("north")] == [
        (3, "a" * 64),
        (7, "b" * 64),
    ]
    registry.note_ledger("north", 2**40, "d" * 64)
    assert registry.get("north").ledger_length == 2**40


@pytest.mark.parametrize(
    ("length", "head"),
    [
        (0, "a" * 64),
        (-1, "a" * 64),
        (2**63, "a" * 64),
        (True, "a" * 64),
        (1, ""),
        (1, "A" * 64),
        (1, "a" * 63),
    ],
)
def test_what_is_no_head_is_refused(registry: SiteRegistry, length: int, head: str) -> None:
    enrol(registry)
    assert code(lambda: registry.note_ledger("north", length, head)) == "MMF-436"


def test_a_site_that_is_invited_again_begins_a_new_ledger_and_the_old_heads_stay(
    registry: SiteRegistry,
) -> None:
    enrol(registry)
    registry.note_ledger("north", 9, "a" * 64)
    registry.revoke("north")
    enrol(registry, key=SECOND)
    registry.note_ledger("north", 1, "b" * 64)
    assert [held.length for held in registry.ledger_heads("north")] == [1]
    assert registry.get("north").generation == 2


def test_three_refusals_in_a_row_are_a_quarantine_that_only_a_person_lifts(registry: SiteRegistry) -> None:
    enrol(registry)
    assert not registry.note_refusal("north", "MMF-450")
    assert not registry.note_refusal("north", "MMF-451")
    registry.note_success("north")
    assert not registry.note_refusal("north", "MMF-450")
    assert not registry.note_refusal("north", "MMF-450")
    assert registry.note_refusal("north", "MMF-452")
    assert registry.quarantined() == {"north": "MMF-452"}
    assert registry.keys() == {"north": FIRST.pem()}  # it must hear why
    registry.note_success("north")
    assert registry.quarantined() == {"north": "MMF-452"}
    registry.lift("north")
    assert registry.quarantined() == {}
    assert not registry.note_refusal("north", "MMF-450")


def test_everything_is_there_after_a_restart(registry: SiteRegistry, engine: Engine, clock: Clock) -> None:
    enrol(registry)
    registry.note_ledger("north", 4, "a" * 64)
    registry.note_refusal("north", "MMF-450")
    before = registry.all()
    engine.dispose()
    assert SiteRegistry(engine, clock).all() == before


def test_two_processes_enrol_with_one_secret_and_one_wins(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'registry.sqlite'}"
    secret = SiteRegistry(open_database(url)).invite("north").secret
    program = (
        "import sys\n"
        "from mmfed_common.errors import NetworkError\n"
        "from mmfed_common.signing import SiteKey\n"
        "from mmfed_server.database import open_database\n"
        "from mmfed_server.federation import SiteRegistry\n"
        "registry = SiteRegistry(open_database(sys.argv[1]))\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "try:\n"
        "    print(registry.enrol('north', b'what is proved', bytes.fromhex(sys.argv[2]),"
        " SiteKey.generate().public).fingerprint)\n"
        "except NetworkError as error:\n"
        "    print(error.code)\n"
    )
    command = [sys.executable, "-c", program, url, proof(secret).hex()]
    pipe = subprocess.PIPE
    processes = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(3)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert sorted(answer == "MMF-421" for answer in answers) == [False, True, True]
    assert SiteRegistry(open_database(url)).get("north").fingerprint in answers
