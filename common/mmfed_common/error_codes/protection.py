"""Codes of 31x to 35x: what protects a site: policy, approval, ledger, gate."""

from __future__ import annotations

from mmfed_common.error_codes.code import Code

CODES: dict[str, Code] = {}
