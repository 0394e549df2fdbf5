"""A site whose updates are a thousand times too large.

What it trains is spoiled before the gate sees it, so that it leaves sealed, counted and with its receipt.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tests.e2e.changed_node import run_changed, start_changed

if TYPE_CHECKING:
    from mmfed_simulations.processes.federation import Federation

MODULE = "tests.e2e.damaged_site"
FACTOR = 1000.0


def start_damaged(federation: Federation, site: str) -> None:
    """Start a site whose updates are refused."""
    start_changed(federation, site, MODULE)


def spoil_updates() -> None:
    """Multiply every weight that this process trains."""
    from mmfed_client import app

    train_round = app.train_round

    def spoiled(*words: Any, **more: Any) -> Any:
        update = train_round(*words, **more)
        return replace(update, trained={name: FACTOR * tensor for name, tensor in update.trained.items()})

    app.train_round = spoiled


if __name__ == "__main__":
    run_changed(MODULE, (), spoil_updates)
