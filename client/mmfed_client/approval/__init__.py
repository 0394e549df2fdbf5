"""Approval: nothing runs at a site before somebody there agreed to that very document."""

from mmfed_client.approval.decisions import (
    Approval,
    approve,
    approved,
    last_approved,
    record_refusal,
    revoke,
    state_of,
)
from mmfed_client.approval.guardian import Guardian
from mmfed_client.approval.offer import verify_offer

__all__ = [
    "Approval",
    "Guardian",
    "approve",
    "approved",
    "last_approved",
    "record_refusal",
    "revoke",
    "state_of",
    "verify_offer",
]
