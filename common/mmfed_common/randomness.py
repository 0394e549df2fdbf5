"""Seeds that depend only on what they are for, so that a resumed or repeated run draws the same numbers."""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def derive_seed(seed: int, *purpose: str | int) -> int:
    """Derive a 63-bit seed from the study's seed and a purpose, e.g. ``("batches", site, round, epoch)``."""
    text = "\x1f".join([str(seed), *(str(part) for part in purpose)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def torch_generator(seed: int, *purpose: str | int) -> torch.Generator:
    """Make a CPU generator for one purpose."""
    return torch.Generator().manual_seed(derive_seed(seed, *purpose))


def numpy_generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """Make a NumPy generator for one purpose."""
    return np.random.default_rng(derive_seed(seed, *purpose))
