"""The conditions under which the same work gives the same bits, on any back end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def same_bits(seed: int) -> Iterator[None]:
    """Run a block with its own random state and one thread, and put both back afterwards.

    With one thread every sum is taken in one order, whatever the machine or back end; sites run in parallel
    in worker processes instead. Dropout draws from torch's global generators, which are seeded here.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    graphics = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices=graphics):
            # Not torch.manual_seed: without a GPU it stores the stack each time, for one that may come.
            torch.default_generator.manual_seed(seed)
            if graphics:
                torch.cuda.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)


def training_device() -> torch.device:
    """Use the GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
