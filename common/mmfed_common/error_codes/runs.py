"""Codes of 53x to 55x: the coordinator's runs and their record."""

from __future__ import annotations

from mmfed_common.error_codes.code import Code

CODES: dict[str, Code] = {}
