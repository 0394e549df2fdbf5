"""The ledger file: entries are added at its end, each on the disk before the call returns.

Several processes of one site write it (the node, and people's commands). Each addition takes the file's lock,
reads what others added since, checks that it hangs on what was there, and only then writes. A line that a
crash left unfinished is cut off, and an entry says so. Nothing else ever changes what was written; whatever
does is noticed before the next entry, also where it leaves the file as long as it was.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import threading
import time
from array import array
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from mmfed_client.ledger.account import PRIVACY_KINDS, PrivacyAccount
from mmfed_client.ledger.receipts import RECEIPT, Receipts
from mmfed_common.durable import write_durably
from mmfed_common.errors import Fault, PrivacyError
from mmfed_common.ledger import (
    EMPTY,
    BrokenLineError,
    Entry,
    Head,
    parse_line,
    read_line,
    signed_export,
)
from mmfed_common.names import utc_now
from mmfed_common.signing import PRIVATE_MODE, SiteKey

LOCK_SECONDS = 30.0
"""How long to wait for another process that holds the file; an addition takes milliseconds."""

RECOVERY = "recovery"
READ_BYTES = 2**20
BULK = frozenset({RECEIPT, *PRIVACY_KINDS})
"""Kinds that come with every round; all others are kept in memory by :meth:`Ledger.decisions`."""


class Ledger:
    """A site's ledger; safe to use from several threads and processes at once.

    Parameters
    ----------
    path
        ``ledger.jsonl``; made with the first entry.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mutex = threading.RLock()
        self._forget()

    @property
    def head(self) -> Head:
        """Where the ledger ends now.

        Raises
        ------
        PrivacyError
            ``MMF-310`` when the chain is broken, ``MMF-311`` when the file cannot be read, ``MMF-312`` when
            another process keeps it locked.
        """
        with self._mutex:
            self._refresh()
            return self._head

    def hash_at(self, number: int) -> str:
        """The hash of an entry, as it stands on the disk now; empty when there are fewer entries.

        Parameters
        ----------
        number
            Counted from 1; 0 is before the first entry, whose hash is 64 zeros.

        Raises
        ------
        PrivacyError
            ``MMF-310`` when the chain is broken, ``MMF-311``, ``MMF-312``.
        """
        with self._mutex:
            self._refresh()
            if not 0 <= number <= self._head.length:
                return ""
            if number in (0, self._head.length):
                return self._head.hash if number else EMPTY.hash
            with self._open(fcntl.LOCK_SH) as descriptor:
                first, end = self._starts[number - 1], self._starts[number]
                return self._claimed(os.pread(descriptor, end - 1 - first, first), number)

    def append(self, kind: str, body: Mapping[str, Any], now: datetime | None = None) -> Entry:
        """Add an entry; it is on the disk when this returns.

        Parameters
        ----------
        kind
            What it records: lower-case letters and ``-``.
        body
            JSON values; finite numbers only.
        now
            The time to write down; default: this machine's clock.

        Raises
        ------
        PrivacyError
            ``MMF-310``, ``MMF-311``, ``MMF-312``: nothing was added then.
        """
        with self._mutex, self._open(fcntl.LOCK_EX) as descriptor:
            self._read_on(descriptor)
            self._recover(descriptor)
            return self._write(descriptor, kind, body, now)

    def entries(self, since: datetime | None = None, kind: str | None = None) -> Iterator[Entry]:
        """Yield entries, oldest first, checking the chain on the way; a torn last line is left out.

        Parameters
        ----------
        since
            Only those written at or after this time.
        kind
            Only those of this kind.
        """
        head = EMPTY
        for number, line in enumerate(self._lines()):
            entry = self._checked(line, head, number)
            head = entry.head
            if (since is None or entry.time >= since) and kind in (None, entry.kind):
                yield entry

    def decisions(self) -> tuple[Entry, ...]:
        """Give every entry but the bulk, oldest first; cheap to ask again and again."""
        with self._mutex:
            self._refresh()
            return tuple(self._decisions)

    def answers(self, study_hash: str, kind: str, round_number: int) -> int:
        """Count the receipts of one kind of answer for a round of a study.

        Errors count where that they happened could say something about patients (``telling``).
        """
        with self._mutex:
            self._refresh()
            return self._receipts.answers[study_hash, kind, round_number]

    def sums(self, study_hash: str) -> str | None:
        """Name of the sums of features that left for a study; None when none did."""
        with self._mutex:
            self._refresh()
            return self._receipts.sums.get(study_hash)

    def unpaid(self) -> tuple[str, ...]:
        """Studies for which something that was computed from patients left, and no privacy was spent."""
        with self._mutex:
            self._refresh()
            return tuple(study for study in self._receipts.told if study not in self._account.studies)

    def unpaid_sums(self) -> tuple[str, ...]:
        """Those of them for which sums of features left."""
        return tuple(study for study in self.unpaid() if self.sums(study) is not None)

    def privacy(self) -> PrivacyAccount:
        """What was spent of patients' privacy, by all studies."""
        with self._mutex:
            self._refresh()
            return self._account

    def verify(self) -> list[Fault]:
        """Find every broken link; empty when the ledger is whole.

        ``row`` of a fault is the line, counted from 0.
        """
        faults: list[Fault] = []
        head = EMPTY
        content = self._content()
        for row, line in enumerate(content.split(b"\n")[:-1]):
            try:
                head = read_line(line, head).head
            except BrokenLineError as error:
                faults.append(Fault("MMF-310", str(error), self.path.name, row))
                head = _claimed_head(line, row)
        if content and not content.endswith(b"\n"):
            what = "a crash left it unfinished; the next entry cuts it off and says so"
            row = content.count(b"\n")
            faults.append(Fault("MMF-310", what, self.path.name, row, severity="warning"))
        return faults

    def export(self, path: Path, key: SiteKey) -> Head:
        """Write all entries and, as last line, their count and head signed by the site's key.

        Raises
        ------
        PrivacyError
            ``MMF-310`` when the ledger is not whole, ``MMF-311`` when the export cannot be written.
        """
        lines = []
        head = EMPTY
        for number, line in enumerate(self._lines()):
            head = self._checked(line, head, number).head
            lines.append(line + b"\n")
        try:
            write_durably(path, b"".join(lines) + signed_export(head, key, utc_now()))
        except OSError as error:
            raise PrivacyError(
                "MMF-311", f"the export was not written: {error.strerror}", str(path)
            ) from None
        return head

    def _forget(self) -> None:
        self._inode = -1
        self._offset = 0
        self._head = EMPTY
        self._changed = -1
        self._seen = hashlib.sha256()
        self._starts = array("q")
        self._decisions: list[Entry] = []
        self._receipts = Receipts()
        self._account = PrivacyAccount()

    def _refresh(self) -> None:
        if self._inode == -1 and not self.path.exists():
            return
        with self._open(fcntl.LOCK_SH) as descriptor:
            self._read_on(descriptor)

    @contextmanager
    def _open(self, lock: int) -> Iterator[int]:
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_MODE)
        except OSError as error:
            raise self._unusable(error) from None
        try:
            self._lock(descriptor, lock)
            yield descriptor
        except OSError as error:
            self._forget()
            raise self._unusable(error) from None
        finally:
            os.close(descriptor)

    def _lock(self, descriptor: int, lock: int) -> None:
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, lock | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    what = f"it was locked for {LOCK_SECONDS:g} s"
                    raise PrivacyError("MMF-312", what, str(self.path)) from None
                time.sleep(0.005)
            else:
                return

    def _read_on(self, descriptor: int) -> None:
        """Take in what was added since the last look; what was there before must still be there."""
        status = os.fstat(descriptor)
        known = self._inode in (-1, status.st_ino) and status.st_size >= self._offset
        if not known or (status.st_ctime_ns != self._changed and not self._still_there(descriptor)):
            self._refuse_other_past(descriptor)
        self._inode = status.st_ino
        added = os.pread(descriptor, status.st_size - self._offset, self._offset)
        while len(added) < status.st_size - self._offset:
            more = os.pread(descriptor, status.st_size - self._offset - len(added), self._offset + len(added))
            if not more:
                break
            added += more
        for line in added.split(b"\n")[:-1]:
            entry = self._checked(line, self._head, self._head.length)
            self._take_in(entry, line + b"\n")
        self._changed = status.st_ctime_ns

    def _still_there(self, descriptor: int) -> bool:
        """Whether what was read before stands there as it did, byte for byte."""
        found, place = hashlib.sha256(), 0
        while place < self._offset:
            part = os.pread(descriptor, min(READ_BYTES, self._offset - place), place)
            if not part:
                return False
            found.update(part)
            place += len(part)
        return found.digest() == self._seen.digest()

    def _refuse_other_past(self, descriptor: int) -> None:
        """The file was replaced: accept it only where it still holds the head that is known."""
        known = self._head
        self._forget()
        content = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        lines = content.split(b"\n")[:-1]
        if known.length and (
            len(lines) < known.length or _claimed_head(lines[known.length - 1], known.length - 1) != known
        ):
            self._head, self._offset, self._inode = known, len(content) + 1, -2
            raise PrivacyError("MMF-310", "it was shortened or replaced while it was in use", str(self.path))

    def _recover(self, descriptor: int) -> None:
        """Cut off a line that a crash left unfinished; first a note of it is on the disk."""
        note = self.path.with_name(f"{self.path.name}.torn")
        size = os.fstat(descriptor).st_size
        if size > self._offset:
            fragment = os.pread(descriptor, size - self._offset, self._offset)
            body = {"bytes": len(fragment), "sha256": hashlib.sha256(fragment).hexdigest()}
            write_durably(note, json.dumps(body).encode(), PRIVATE_MODE)
            os.ftruncate(descriptor, self._offset)
        if note.exists():
            self._write(descriptor, RECOVERY, _noted(note.read_bytes()), None)
            note.unlink()

    def _write(self, descriptor: int, kind: str, body: Mapping[str, Any], now: datetime | None) -> Entry:
        entry = Entry.after(self._head, now or utc_now(), kind, body)
        line = entry.line()
        try:
            _write_whole(descriptor, line, self._offset)
            os.fsync(descriptor)
            if self._offset == 0:
                _sync_folder(self.path.parent)
        except OSError:
            os.ftruncate(descriptor, self._offset)
            raise
        self._take_in(entry, line)
        self._changed = os.fstat(descriptor).st_ctime_ns
        return entry

    def _take_in(self, entry: Entry, line: bytes) -> None:
        self._account.take_in(entry)
        self._head = entry.head
        self._starts.append(self._offset)
        self._seen.update(line)
        self._offset += len(line)
        if entry.kind not in BULK:
            self._decisions.append(entry)
        self._receipts.take_in(entry)

    def _content(self) -> bytes:
        if not self.path.exists():
            return b""
        with self._open(fcntl.LOCK_SH):
            return self.path.read_bytes()

    def _lines(self) -> list[bytes]:
        return self._content().split(b"\n")[:-1]

    def _checked(self, line: bytes, head: Head, row: int) -> Entry:
        try:
            return read_line(line, head)
        except BrokenLineError as error:
            raise PrivacyError("MMF-310", f"line {row + 1}: {error}", str(self.path)) from None

    def _claimed(self, line: bytes, number: int) -> str:
        head = _claimed_head(line, number - 1)
        if head.length != number or not head.hash:
            raise PrivacyError("MMF-310", f"line {number} is no entry any more", str(self.path))
        return head.hash

    def _unusable(self, error: OSError) -> PrivacyError:
        return PrivacyError("MMF-311", f"{error.strerror or type(error).__name__}", str(self.path))


def _noted(note: bytes) -> dict[str, Any]:
    """What the note about a crash says; a note that is itself damaged is named by its hash."""
    try:
        content = json.loads(note)
    except (ValueError, RecursionError):
        content = None
    return content if isinstance(content, dict) else {"note": hashlib.sha256(note).hexdigest()}


def _claimed_head(line: bytes, row: int) -> Head:
    """What a line says that its hash is, so that the lines after a broken one can still be judged."""
    try:
        entry = parse_line(line)
    except BrokenLineError:
        try:
            fields = json.loads(line)
            return Head(int(fields["number"]), str(fields["hash"]))
        except (ValueError, KeyError, TypeError, RecursionError):
            return Head(row + 1, "")
    return entry.head


def _write_whole(descriptor: int, content: bytes, offset: int) -> None:
    done = 0
    while done < len(content):
        done += os.pwrite(descriptor, content[done:], offset + done)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
