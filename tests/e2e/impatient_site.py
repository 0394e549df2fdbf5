"""``mmfed-client start`` as a process of its own that asks for offers five times a second."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from mmfed_client.enrolment import PortalClient
from mmfed_client.home import SiteHome
from mmfed_client.supervisor import offers, supervise
from mmfed_client.supervisor.supervise import Settings, Supervisor


def main() -> None:
    """``impatient_site.py HOME``."""
    home = SiteHome(Path(sys.argv[1]))
    supervise.INTERVAL_SECONDS = supervise.SLOW_SECONDS = offers.INTERVAL_SECONDS = 0.2
    supervisor = Supervisor(home, lambda: PortalClient(home).offer(), Settings())
    signal.signal(signal.SIGTERM, lambda *_: supervisor.stop())
    supervisor.run()


if __name__ == "__main__":
    main()
