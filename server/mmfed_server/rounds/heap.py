"""The process's heap: what was freed goes back to the machine, whatever the order in which it was freed.

glibc keeps a heap for each thread and raises, with every large block that is freed, the size from which it
asks the machine for a block of its own. A server that handles one model after another then holds the freed
ones in pieces of many heaps. With both settings fixed, a large block is the machine's again when it is freed.
"""

from __future__ import annotations

import ctypes
import logging

logger = logging.getLogger(__name__)

M_MMAP_THRESHOLD = -3
M_ARENA_MAX = -8
OWN_BLOCK = 256 * 1024
"""Bytes from which a block is asked of the machine, and given back to it."""
ARENAS = 2


def bound_heap() -> bool:
    """Fix both settings for this process; gives False where the C library has no such settings."""
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        logger.info("the C library has no mallopt: freed memory may stay with the process")
        return False
    return all(
        bool(set_option(option, value))
        for option, value in ((M_MMAP_THRESHOLD, OWN_BLOCK), (M_ARENA_MAX, ARENAS))
    )
