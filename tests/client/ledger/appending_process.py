"""A process that adds entries to a ledger until it is killed; prints each number once it is on the disk."""

from __future__ import annotations

import sys
from pathlib import Path

from mmfed_client.ledger import Ledger

if __name__ == "__main__":
    ledger = Ledger(Path(sys.argv[1]))
    for number in range(int(sys.argv[2])):
        entry = ledger.append("note", {"by": sys.argv[3], "number": number, "text": "x" * 200})
        print(entry.number, flush=True)
