"""A federation on a small disk: ``unshare -rm python -m …full_disk FOLDER SEED`` mounts it over the folder.

Fills the disk at a random moment of each of some rounds, sees the run end with a code, frees it, lets the run
go on, and prints the codes and a digest of the final weights. With ``undisturbed`` it only runs.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import random
import sys
from contextlib import suppress
from pathlib import Path

from flwr.app import Message
from tests.server.faulty_federation import federation
from tests.simulations.killed_run import study_for
from tests.simulations.small_federation import small_sites

from mmfed_common.errors import MmfedError
from mmfed_server.database import open_database
from mmfed_server.plan import RunPlan
from mmfed_server.record.catalogue import RunCatalogue
from mmfed_server.record.database_record import DatabaseRecord
from mmfed_server.record.state import RunState
from mmfed_server.rounds import run_rounds

DISK = "size=8m"
FAULTS = 12
MOST_ATTEMPTS = 100


def mount(folder: Path) -> None:
    """Put a file system of a few megabytes over the folder, for this process only."""
    if ctypes.CDLL(None, use_errno=True).mount(b"none", os.fsencode(folder), b"tmpfs", 0, DISK.encode()):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def fill(ballast: Path, left: int) -> None:
    """Leave so many bytes of the disk."""
    with suppress(OSError), open(ballast, "wb", buffering=0) as file:
        while file.write(bytes(2**16)):
            continue
    os.truncate(ballast, max(0, ballast.stat().st_size - left))


class Faults:
    """Fills the disk while sites answer, at moments that the seed says."""

    def __init__(self, folder: Path, seed: int, most: int) -> None:
        self.ballast, self.most = folder / "ballast", most
        self.draw = random.Random(seed)
        self.done = 0

    def spoil(self, site: str, request: Message, reply: Message) -> Message:
        """Fill the disk now and then; the answer itself stays as it is."""
        if self.done < self.most and not self.ballast.exists() and self.draw.random() < 0.15:
            fill(self.ballast, self.draw.choice([0, 0, 4096, 16384, 65536]))
            self.done += 1
        return reply


def main(folder: Path, seed: int, most: int) -> None:
    """Run to the end over full disks."""
    mount(folder)
    study = study_for("fedadam")
    sites = small_sites(study)
    faults = Faults(folder, seed, most)
    engine = open_database(f"sqlite:///{folder / 'runs.sqlite'}")
    run = RunCatalogue(engine).begin(study)
    names = tuple(data.name for data in sites)
    codes: list[str] = []
    state: RunState | None = None
    for _ in range(MOST_ATTEMPTS):
        record = DatabaseRecord(engine, run, folder / "spool")
        plan = RunPlan(study, names, sites[0].topology, folder / "spool", resume=True, record=record)
        try:
            state = run_rounds(federation(study, sites, faults.spoil), plan)
            break
        except MmfedError as error:
            codes.append(error.code)
            faults.ballast.unlink(missing_ok=True)
    faults.ballast.unlink(missing_ok=True)
    assert state is not None
    parts = [name.encode() + state.weights[name].numpy().tobytes() for name in sorted(state.weights)]
    rounds = [entry["round"] for entry in RunCatalogue(engine).rounds(run)]
    digest = hashlib.sha256(b"".join(parts)).hexdigest()
    print(json.dumps({"codes": codes, "faults": faults.done, "rounds": rounds, "digest": digest}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), FAULTS if "undisturbed" not in sys.argv else 0)
