"""Where the objects of messages wait: on disk, so that the server's memory does not grow with the sites.

What is on disk is encrypted with a key that exists in this process's memory only: after a crash nothing of it
can be read by anyone, and nothing of it is needed.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.inflatable.inflatable_object import is_valid_sha256_hash, iterate_object_tree
from flwr.supercore.object_store import NoObjectInStoreError, ObjectStore

from mmfed_common.errors import NetworkError

SMALL = 64 * 2**10
"""Objects of fewer bytes stay in memory."""
SUFFIX = ".spool"
NONCE = 12


@dataclass
class _Entry:
    """One object: who needs it, and where its bytes are once they are there."""

    holders: set[str] = field(default_factory=set)
    content: bytes = b""
    path: Path | None = None

    @property
    def there(self) -> bool:
        return bool(self.content) or self.path is not None


class Spool(ObjectStore):
    """Flower's ObjectStore over a folder.

    An object lives as long as a message needs it. Which objects a message has is what its tree says; no count
    of references is taken from anyone's claim, and no name that came from outside becomes a path.

    Parameters
    ----------
    folder
        Belongs to this process alone; what an earlier one left there is removed.

    Raises
    ------
    NetworkError
        ``MMF-486`` when the folder cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.RLock()
        self._cipher = AESGCM(AESGCM.generate_key(256))
        self._entries: dict[str, _Entry] = {}
        self._trees: dict[str, ObjectTree] = {}
        self._runs: dict[int, set[str]] = {}
        self.trouble: NetworkError | None = None
        """Why the last object could not be written; None when it could."""
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder.chmod(0o700)
            for left in folder.glob(f"*{SUFFIX}"):
                left.unlink()
        except OSError as error:
            raise NetworkError("MMF-486", f"{error.strerror}", str(folder)) from None

    def preregister(self, run_id: int, object_tree: ObjectTree) -> list[str]:
        """Note what a message consists of; give all of it as still to come, children first.

        What is here already, because another site sent the same, is asked for all the same: no site learns
        what others sent, and what a site sends is what its receipt lists.
        """
        names = list(dict.fromkeys(node.object_id for node in iterate_object_tree(object_tree)))
        if not all(is_valid_sha256_hash(name) for name in names):
            raise ValueError("an object id is not a SHA-256")
        root = object_tree.object_id
        with self._lock:
            self._trees[root] = object_tree
            self._runs.setdefault(run_id, set()).add(root)
            for name in names:
                self._entries.setdefault(name, _Entry()).holders.add(root)
        return names

    def get_object_tree(self, object_id: str) -> ObjectTree:
        """Give the tree of a message."""
        with self._lock:
            if object_id not in self._trees:
                raise NoObjectInStoreError(f"{object_id} is no message of ours")
            return self._trees[object_id]

    def hold(self, holder: str, object_id: str, content: bytes) -> None:
        """Store an object that somebody needs before its message is known; ends with :meth:`delete`.

        The caller has computed the id from the content.

        Raises
        ------
        NetworkError
            ``MMF-486`` when it cannot be written.
        """
        with self._lock:
            self._entries.setdefault(object_id, _Entry()).holders.add(holder)
        self._store(object_id, content)

    def put(self, object_id: str, object_content: bytes) -> None:
        """Store an announced object that came from outside.

        Raises
        ------
        ValueError
            When its bytes are not those that the id promises.
        NetworkError
            ``MMF-486`` when it cannot be written.
        """
        if hashlib.sha256(object_content).hexdigest() != object_id:
            raise ValueError("the bytes are not those of the id")
        self._store(object_id, object_content)

    def _store(self, name: str, content: bytes) -> None:
        with self._lock:
            entry = self._entries.get(name)
            if entry is None:
                raise NoObjectInStoreError(f"{name} was not announced")
            if entry.there:
                return
        path = self._write(name, content) if len(content) >= SMALL else None
        with self._lock:
            if self._entries.get(name) is not entry or entry.there:
                _remove(path)
            elif path is None:
                entry.content = content
            else:
                entry.path = path

    def _write(self, name: str, content: bytes) -> Path:
        path = self.folder / f"{secrets.token_hex(16)}{SUFFIX}"
        nonce = secrets.token_bytes(NONCE)
        sealed = self._cipher.encrypt(nonce, content, name.encode())
        try:
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(nonce)
                file.write(sealed)
        except OSError as error:
            _remove(path)
            self.trouble = NetworkError("MMF-486", f"{error.strerror}", str(self.folder))
            raise self.trouble from None
        self.trouble = None
        return path

    def get(self, object_id: str) -> bytes | None:
        """Give an object's bytes: nothing when it is unknown, empty when it has not come yet.

        Raises
        ------
        NetworkError
            ``MMF-486`` when they cannot be read from the disk, or were changed there.
        """
        with self._lock:
            entry = self._entries.get(object_id)
            if entry is None:
                return None
            if entry.path is None:
                return entry.content
            try:
                sealed = memoryview(entry.path.read_bytes())
            except OSError as error:
                raise NetworkError("MMF-486", f"{error.strerror}", str(self.folder)) from None
        try:
            return self._cipher.decrypt(bytes(sealed[:NONCE]), sealed[NONCE:], object_id.encode())
        except InvalidTag:
            raise NetworkError("MMF-486", "a file was changed by another", str(self.folder)) from None

    def delete(self, object_id: str) -> None:
        """Forget a message, or a holder, and whatever nobody else needs."""
        with self._lock:
            tree = self._trees.pop(object_id, None)
            for roots in self._runs.values():
                roots.discard(object_id)
            if tree is None:
                names = [name for name, entry in self._entries.items() if object_id in entry.holders]
            else:
                names = [node.object_id for node in iterate_object_tree(tree)]
            for name in names:
                self._release(name, object_id)

    def _release(self, name: str, holder: str) -> None:
        entry = self._entries.get(name)
        if entry is None:
            return
        entry.holders.discard(holder)
        if not entry.holders:
            del self._entries[name]
            _remove(entry.path)

    def delete_objects_in_run(self, run_id: int) -> None:
        """Forget every message of a run."""
        with self._lock:
            for root in list(self._runs.pop(run_id, ())):
                self.delete(root)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            for entry in self._entries.values():
                _remove(entry.path)
            self._entries.clear()
            self._trees.clear()
            self._runs.clear()

    def __contains__(self, object_id: str) -> bool:
        with self._lock:
            return object_id in self._entries

    def __len__(self) -> int:
        with self._lock:
            return len(self._entries)


def _remove(path: Path | None) -> None:
    if path is not None:
        path.unlink(missing_ok=True)
