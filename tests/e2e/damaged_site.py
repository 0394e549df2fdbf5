"""A site whose updates are a thousand times too large; all else of it is the program that sites run.

``python damaged_site.py start --home DIR`` is ``mmfed-client start --home DIR`` with a node that is damaged:
what it trains is spoiled before the gate sees it, so that it leaves sealed, counted and with its receipt.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

FACTOR = 1000.0
NODE = "mmfed_client.node"


def spoil_updates() -> None:
    """Multiply every weight that this process trains."""
    from mmfed_client import app

    train_round = app.train_round

    def spoiled(*words: Any, **more: Any) -> Any:
        update = train_round(*words, **more)
        return replace(update, trained={name: FACTOR * tensor for name, tensor in update.trained.items()})

    app.train_round = spoiled


def main() -> None:
    """Run the supervisor, or, when called as it calls Python, the node."""
    if sys.argv[1:3] == ["-m", NODE]:
        from mmfed_client.node.__main__ import main as node

        del sys.argv[1:3]
        spoil_updates()
        os._exit(node())
    from mmfed_client.cli import main as client

    launcher = Path(tempfile.mkdtemp()) / "python"
    launcher.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__).resolve()}" "$@"\n')
    launcher.chmod(stat.S_IRWXU)
    sys.executable = str(launcher)
    client()


if __name__ == "__main__":
    main()
