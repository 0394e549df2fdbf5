"""The database: how it is opened, and that its failures become a code without the password."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from mmfed_common.errors import NetworkError
from mmfed_server.database import open_database


def test_sqlite_is_durable_private_and_waits(tmp_path: Path) -> None:
    file = tmp_path / "f.sqlite"
    with open_database(f"sqlite:///{file}").connect() as connection:
        found = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar()
            for name in (
                "journal_mode",
                "synchronous",
                "foreign_keys",
                "busy_timeout",
                "secure_delete",
                "page_size",
            )
        }
    assert found == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 30_000,
        "secure_delete": 1,
        "page_size": 65536,
    }
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_transaction_is_whole_or_not_at_all(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path / 'f.sqlite'}")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE t (x INTEGER)"))
    with pytest.raises(OperationalError):
        write_and_fail(engine)
    with engine.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM t")).scalar() == 0
        assert connection.execute(text("SELECT count(*) FROM sqlite_master WHERE name='u'")).scalar() == 0


def write_and_fail(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO t VALUES (1)"))
        connection.execute(text("CREATE TABLE u (x INTEGER)"))
        connection.execute(text("this is not SQL"))


WRITES = """
import sys
from mmfed_server.database import open_database
engine = open_database(sys.argv[1])
with engine.begin() as connection:
    connection.exec_driver_sql("INSERT INTO t VALUES (2)")
engine.dispose()
"""


def test_what_another_process_writes_is_seen_after_opening_twice(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'f.sqlite'}"
    engine = open_database(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE t (x INTEGER)"))
    open_database(url).dispose()
    for _ in range(2):
        subprocess.run([sys.executable, "-c", WRITES, url], check=True, timeout=120)
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO t VALUES (1)"))
    engine.dispose()
    with open_database(url).begin() as connection:
        assert sorted(connection.execute(text("SELECT x FROM t")).scalars()) == [1, 1, 2, 2]


def test_a_new_database_that_another_process_prepares_is_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "f.sqlite"
    other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    other.execute("PRAGMA journal_mode=DELETE")
    other.execute("BEGIN IMMEDIATE")
    other.execute("CREATE TABLE t (x INTEGER)")
    end = threading.Timer(1.0, lambda: (other.execute("COMMIT"), other.close()))
    end.start()
    with open_database(f"sqlite:///{file}").begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM t")).scalar() == 0
    end.join()


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "mysql://root:hunter2@localhost/x",
        "postgresql://root:hunter2@localhost/x",
        "postgresql+pg8000://root:hunter2@127.0.0.1:1/x",
        "sqlite:////absent/folder/f.sqlite",
    ],
)
def test_what_cannot_be_opened_is_named_without_the_password(url: str) -> None:
    with pytest.raises(NetworkError) as error:
        open_database(url)
    assert error.value.code == "MMF-440"
    assert "hunter2" not in str(error.value)


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    file = tmp_path / "f.sqlite"
    file.write_bytes(b"this is not a database" * 100)
    with pytest.raises(NetworkError) as error:
        open_database(f"sqlite:///{file}")
    assert error.value.code == "MMF-440"
