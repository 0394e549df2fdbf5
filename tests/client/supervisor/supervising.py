"""A site's program as a process of its own; the study on offer is a file, so that no portal is needed."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from mmfed_client.home import SiteHome
from mmfed_client.signed_files import read_signed
from mmfed_client.supervisor import offers, supervise
from mmfed_client.supervisor.supervise import Settings, Supervisor
from mmfed_common.signed_study import SignedStudy


def main() -> None:
    """``supervising.py HOME OFFER [SLOW]``; SLOW: seconds between two questions while a node is connected."""
    home, offer = SiteHome(Path(sys.argv[1])), Path(sys.argv[2])

    def ask() -> SignedStudy | None:
        offer.with_suffix(".asked").touch()
        return read_signed(offer) if offer.exists() else None

    supervise.INTERVAL_SECONDS = offers.INTERVAL_SECONDS = 0.2
    supervise.SLOW_SECONDS = float(sys.argv[3]) if len(sys.argv) > 3 else 0.2
    supervisor = Supervisor(home, ask, Settings())
    signal.signal(signal.SIGTERM, lambda *_: supervisor.stop())
    supervisor.run()


if __name__ == "__main__":
    main()
