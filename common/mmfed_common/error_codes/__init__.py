"""The table of error codes: what each means and what to do about it; one module for each subject."""

from __future__ import annotations

from mmfed_common.error_codes import (
    coordinator,
    data,
    guard,
    machine,
    masking,
    model,
    network,
    preflight,
    privacy,
    protection,
    runs,
    study,
    transport,
    trust,
    withdrawal,
)
from mmfed_common.error_codes.code import Code

__all__ = ["CODES", "Code"]

CODES: dict[str, Code] = {
    **machine.CODES,
    **preflight.CODES,
    **data.CODES,
    **privacy.CODES,
    **masking.CODES,
    **protection.CODES,
    **network.CODES,
    **trust.CODES,
    **guard.CODES,
    **transport.CODES,
    **study.CODES,
    **runs.CODES,
    **coordinator.CODES,
    **withdrawal.CODES,
    **model.CODES,
}
