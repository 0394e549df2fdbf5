"""The guard: what a site answers is checked, by itself and against the others, before anything uses it."""

from mmfed_server.guard.norms import UpdateNorm, steps_of, suspicious_norms
from mmfed_server.guard.reply_check import (
    Checked,
    Expected,
    check_reply,
    each_array,
    each_array_in_place,
    each_weight_in_place,
)

__all__ = [
    "Checked",
    "Expected",
    "UpdateNorm",
    "check_reply",
    "each_array",
    "each_array_in_place",
    "each_weight_in_place",
    "steps_of",
    "suspicious_norms",
]
