"""The process in which the patients are read and the step is made.

A process of its own can be stopped when it hangs in a driver, and its death, by lack of memory or by a broken
driver, is a finding instead of the end of the check. It prints one JSON line for each finding.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mmfed_client.preflight.finding import Finding, fault, from_error, not_applicable
from mmfed_client.preflight.limits import Limits
from mmfed_client.preflight.runner import Item, defect
from mmfed_client.preflight.subject import Subject
from mmfed_common.errors import MmfedError

TRIAL_ITEMS = (
    ("cohort", 45.0),
    ("patients", 10.0),
    ("privacy", 30.0),
    ("device", 20.0),
    ("memory", 10.0),
    ("training step", 40.0),
    ("round time", 5.0),
)
"""Items of :class:`~mmfed_client.preflight.trial.Trial`, known without importing torch."""
DONE = "done"
OUT_OF_MEMORY = "its process was killed (signal 9), most likely because the memory was used up"


class Workbench:
    """Runs the trial in a process of its own, started with the first of its items.

    Parameters
    ----------
    seconds
        After this time the process ends itself, whatever becomes of this one.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._process: subprocess.Popen[str] | None = None
        self._lines: dict[str, queue.Queue[dict[str, Any] | None]] = {
            name: queue.Queue() for name, _ in TRIAL_ITEMS
        }
        self._errors = tempfile.TemporaryFile(mode="w+", errors="replace")  # noqa: SIM115 - see close
        self._over = ""

    @property
    def items(self) -> tuple[Item, ...]:
        """The trial's items; each waits for the process to report on it."""
        return tuple(Item(name, deadline, self._of(name)) for name, deadline in TRIAL_ITEMS)

    def close(self) -> None:
        """Stop the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def _of(self, name: str) -> Callable[[Subject], Iterator[Finding]]:
        return lambda subject: self._wait_for(name, subject)

    def _wait_for(self, name: str, subject: Subject) -> Iterator[Finding]:
        if self._process is None:
            self._start(subject)
        while not self._over:
            line = self._lines[name].get()
            if line is None:
                yield self._died(name)
            elif DONE in line:
                return
            else:
                yield Finding.from_record(line)
        if self._over != name:
            yield not_applicable(f"not checked: the process ended in the item {self._over}")

    def _start(self, subject: Subject) -> None:
        task = {
            "home": str(subject.home.path),
            "given": str(subject.given) if subject.given else None,
            "offered": str(subject.offered) if subject.offered else None,
            "limits": asdict(subject.limits),
            "seconds": max(1, int(self._seconds)),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "mmfed_client.preflight.workbench", json.dumps(task)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        threading.Thread(target=self._read, args=(self._process,), daemon=True).start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            record = json.loads(line)
            self._lines[record["name"]].put(record)
        process.wait()
        for lines in self._lines.values():
            lines.put(None)

    def _died(self, name: str) -> Finding:
        self._over = name
        assert self._process is not None
        status = self._process.returncode
        if status == -signal.SIGKILL:
            return fault("MMF-137", OUT_OF_MEMORY, name)
        self._errors.seek(0)
        last = self._errors.read().strip().splitlines()[-1:] or ["it said nothing"]
        how = f"by signal {-status}" if status < 0 else f"with status {status}"
        return fault("MMF-139", f"its process ended {how}: {last[0][:300]}", name)


def main(arguments: Sequence[str]) -> int:
    """Run the trial; gives the exit code."""
    from mmfed_client.home import SiteHome

    task = json.loads(arguments[0])
    # Findings have the pipe to themselves: what libraries print goes to stderr.
    pipe = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    signal.alarm(task["seconds"])
    given, offered = (Path(task[name]) if task[name] else None for name in ("given", "offered"))
    subject = Subject(SiteHome(Path(task["home"])), given, Limits(**task["limits"]), offered=offered)
    from mmfed_client.preflight.trial import Trial

    for item in Trial().items:
        try:
            for finding in item.check(subject):
                _tell(pipe, finding.of(item.name, 0.0).as_record)
        except MmfedError as error:
            _tell(pipe, from_error(error).of(item.name, 0.0).as_record)
        except MemoryError:
            _tell(pipe, fault("MMF-137", "no more memory was to be had").of(item.name, 0.0).as_record)
        except Exception as error:  # noqa: BLE001 - the other items must still be checked
            _tell(pipe, defect(error, item.name).of(item.name, 0.0).as_record)
        _tell(pipe, {"name": item.name, DONE: True})
    return 0


def _tell(pipe: Any, record: dict[str, Any]) -> None:
    print(json.dumps(record), file=pipe, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
