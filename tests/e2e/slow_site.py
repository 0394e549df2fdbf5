"""A site that takes its time: before each training it waits for as long as a file stands beside its home.

The node looks at it ten times a second, so that a test says when the training goes on.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.e2e.changed_node import run_changed, start_changed

if TYPE_CHECKING:
    from mmfed_simulations.processes.federation import Federation

MODULE = "tests.e2e.slow_site"


def brake_of(federation: Federation, site: str) -> Path:
    """The file: while it exists, the site's training waits."""
    return federation.site_home(site).parent / f"{site}.brake"


def start_slow(federation: Federation, site: str) -> None:
    """Start a site that waits while its brake is on."""
    start_changed(federation, site, MODULE)


def wait_at_brake() -> None:
    """Let the trainings of this process wait."""
    import sys

    from mmfed_client import app

    train_round = app.train_round
    home = Path(sys.argv[sys.argv.index("--home") + 1])

    def waiting(*words: Any, **more: Any) -> Any:
        while home.with_name(f"{home.name}.brake").exists():
            time.sleep(0.1)
        return train_round(*words, **more)

    app.train_round = waiting


if __name__ == "__main__":
    run_changed(MODULE, (), wait_at_brake)
