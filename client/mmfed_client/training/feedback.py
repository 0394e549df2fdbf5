"""What rounding lost of a site's last updates: error feedback for 8-bit changes, kept at the site.

The server says by its digest which update of this site it took last in the stage; what that one lost is added
to the next change. So it does not matter whether an update came too late, was refused, or was computed twice
because server or site were killed: the next change is the same as in a run in which nothing went wrong.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from mmfed_common.arrays import Shapes, shapes_of
from mmfed_common.durable import write_durably
from mmfed_common.errors import PrivacyError
from mmfed_common.names import is_sha256
from mmfed_common.signing import PRIVATE_MODE

MOST_KEPT = 4
"""Updates of which the loss is kept: the server may come back to the state before its last ones."""
ENDING = ".safetensors"


class Feedback:
    """Keeps what was lost, by the digest of the update.

    Parameters
    ----------
    folder
        Where; None: in memory, for a site that lives no longer than its process.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._memory: dict[str, dict[str, Tensor]] = {}

    def lost(self, digest: str, shapes: Shapes) -> dict[str, Tensor] | None:
        """What an update lost; None when it is not kept, or not whole: then nothing is added.

        Parameters
        ----------
        shapes
            Of the trained parameters.
        """
        if not is_sha256(digest):
            return None
        kept = None if self.folder is None else self.folder / f"{digest}{ENDING}"
        found = self._memory.get(digest) if kept is None else _read(kept)
        return found if found is not None and shapes_of(found) == dict(shapes) else None

    def keep(self, digest: str, lost: Mapping[str, Tensor], used: str = "") -> None:
        """Keep what an update lost, before it leaves; the oldest are forgotten.

        Parameters
        ----------
        used
            The digest of the update whose loss is in this one; it stays, as the server may ask for it again.

        Raises
        ------
        PrivacyError
            ``MMF-311`` when it cannot be written.
        """
        if self.folder is None:
            self._memory[digest] = {name: tensor.clone() for name, tensor in lost.items()}
            for old in [d for d in self._memory if d not in (digest, used)][: -(MOST_KEPT - 2)]:
                del self._memory[old]
            return
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_durably(self.folder / f"{digest}{ENDING}", save(dict(lost)), PRIVATE_MODE)
            self._forget_oldest({digest, used})
        except OSError as error:
            raise PrivacyError("MMF-311", f"{error.strerror}", str(self.folder)) from None

    def _forget_oldest(self, needed: set[str]) -> None:
        assert self.folder is not None
        files = sorted(self.folder.glob(f"*{ENDING}"), key=lambda file: file.stat().st_mtime_ns)
        others = [file for file in files if file.stem not in needed]
        for file in others[: -(MOST_KEPT - 2)]:
            os.unlink(file)


def digest_of(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of weights, as the server reckons it over an update that it takes."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(weights[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


def _read(path: Path) -> dict[str, Tensor] | None:
    try:
        return load(path.read_bytes())
    except (OSError, SafetensorError):
        return None
