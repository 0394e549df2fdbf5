"""The program that sites run, with a node that does something else; all else of it is as people start it."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmfed_simulations.processes.federation import Federation

ROOT = Path(__file__).resolve().parents[2]
NODE = "mmfed_client.node"


def start_changed(federation: Federation, site: str, module: str, *own: str) -> None:
    """Start a site with one of the modules that call :func:`run_changed`.

    Parameters
    ----------
    own
        The module's own words, before those of ``mmfed-client``.
    """
    from mmfed_simulations.processes.federation import ENVIRONMENT
    from mmfed_simulations.processes.programs import Program

    words = [*own, "start", "--home", str(federation.site_home(site))]
    paths = (str(ROOT), os.environ.get("PYTHONPATH", ""))
    environment = {**ENVIRONMENT, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    log = federation.folder / f"{site}.log"
    federation.sites[site] = Program([sys.executable, "-m", module, *words], log, environment)


def run_changed(module: str, own: Sequence[str], change: Callable[[], None]) -> None:
    """Be ``mmfed-client``, or, when called as it calls Python, the node after a change.

    Parameters
    ----------
    module
        Name of the module that calls this.
    own
        Its own words, which stand first.
    change
        Makes the change, in the process of the node.
    """
    del sys.argv[1 : 1 + len(own)]
    if sys.argv[1:3] == ["-m", NODE]:
        from mmfed_client.node.__main__ import main as node

        del sys.argv[1:3]
        change()
        os._exit(node())
    from mmfed_client.cli import main as client

    launcher = Path(tempfile.mkdtemp()) / "python"
    words = " ".join(f'"{word}"' for word in (sys.executable, "-m", module, *own))
    launcher.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    launcher.chmod(stat.S_IRWXU)
    sys.executable = str(launcher)
    client()
