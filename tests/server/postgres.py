"""A PostgreSQL for tests, where one can be started."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def running_postgres() -> Iterator[str]:
    """Start a server of its own and give its URL; skip the test where that is not possible.

    Its folder must be open to others: a server that is started by root runs as another user.
    """
    pgserver = pytest.importorskip("pgserver", reason="needs pgserver for a PostgreSQL to test with")
    if os.geteuid() == 0 and not shutil.which("runuser"):
        pytest.skip("PostgreSQL does not run as root, and there is no runuser here")
    with tempfile.TemporaryDirectory(prefix="mmfed-postgres-", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o755)
        try:
            server = pgserver.get_server(os.path.join(folder, "data"), cleanup_mode="stop")
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            pytest.skip(f"PostgreSQL does not start here: {type(error).__name__}")
        socket = server.get_postmaster_info().socket_dir
        yield f"postgresql+pg8000://postgres@/postgres?unix_sock={socket}/.s.PGSQL.5432"
        server.cleanup()
