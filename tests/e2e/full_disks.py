"""A federation with two folders on small disks: ``unshare -rm python -m tests.e2e.full_disks FOLDER``.

Fills the disk of a site, then that of the server, asks both ``status`` commands what is wrong, frees it, and
sees the study go on; prints what was told. What it mounts, only this process and what it starts can see.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.test_people import SECONDS, consortium
from tests.e2e.told import Told, goes_on, missing, with_cause
from tests.server.rounds.full_disk import fill

from mmfed_simulations.processes.federation import Federation
from mmfed_simulations.processes.programs import wait_until

DISK = "size=48m"
OF_SERVER = ("MMF-440", "MMF-486", "MMF-508", "MMF-530")


def onto_a_small_disk(folder: Path) -> None:
    """Put a folder, with what is in it, onto a small disk that lies in its place."""
    aside = folder.with_name(f"{folder.name}.aside")
    folder.rename(aside)
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"{DISK},mode=700", "none", str(folder)], check=True)
    shutil.copytree(aside, folder, dirs_exist_ok=True)


@contextmanager
def full(folder: Path) -> Iterator[None]:
    """Leave no room on a disk."""
    ballast = folder / "ballast"
    fill(ballast, 0)
    try:
        yield
    finally:
        ballast.unlink()


def main(folder: Path) -> None:
    """Fill one disk after the other."""
    there = consortium(folder / "consortium", 2, least=2)
    site = next(iter(there.cohorts))
    (folder / "real").mkdir()
    with Federation(folder / "real", there.cohorts, there.study) as federation:
        federation.found()
        onto_a_small_disk(federation.home)
        federation.start_server()
        federation.wait_for_server()
        for name in there.cohorts:
            federation.join(name)
            federation.approve(name)
        onto_a_small_disk(federation.site_home(site))
        for name in there.cohorts:
            federation.start_site(name)
        told = Told(federation)
        wait_until(lambda: federation.status()["round"] >= 1, SECONDS, "the first round")

        with full(federation.site_home(site)):
            told.within("disk of a site full, the site", lambda: with_cause(told.site(site), "MMF-311"))
            told.within("disk of a site full, the server", lambda: missing(told.server(), site))
        goes_on(federation)
        with full(federation.home):
            told.within("disk of the server full, the server", lambda: with_cause(told.server(), *OF_SERVER))
            told.within("disk of the server full, the site", lambda: with_cause(told.site(site), "MMF-442"))
        goes_on(federation)
    print(*told.lines, sep="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
