"""``mmfed-server`` that renews the signature of a study only when it has ended, to see one end."""

from __future__ import annotations

import sys
from datetime import timedelta

from mmfed_server.cli.program import run
from mmfed_server.studies import shelf

if __name__ == "__main__":
    shelf.RENEW_BEFORE = timedelta(0)
    sys.exit(run(sys.argv[1:]))
