"""The gate: the one way out of a site. It checks what leaves, and writes a receipt before it does."""

from mmfed_client.gate.exit import Exit, error_reply
from mmfed_client.gate.gate import Gate

__all__ = ["Exit", "Gate", "error_reply"]
