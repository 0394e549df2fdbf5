"""Codes of 1xx: this machine and its installation."""

from __future__ import annotations

from mmfed_common.error_codes.code import Code

CODES: dict[str, Code] = {}
