"""The node's process; the supervisor starts it, a person has no need to."""

from __future__ import annotations

import argparse
import faulthandler
import logging
import os
import signal
import sys
from pathlib import Path
from types import FrameType

from mmfed_client.home import SiteHome
from mmfed_client.logs import about, send_logs
from mmfed_client.node import reports as r
from mmfed_client.node.reports import Reports, end_with_supervisor, first_line, own_reports
from mmfed_common.errors import MachineError, MmfedError

logger = logging.getLogger("mmfed_client.node")

FAILED = 1


class StopNodeError(SystemExit):
    """Someone asked the node to end. Not an :class:`Exception`: no handler of failures may catch it."""


def main() -> int:
    """Run a node until it is asked to end (0) or something forbids or breaks it (1)."""
    faulthandler.enable()
    parser = argparse.ArgumentParser(prog="mmfed-client node")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--study", required=True)
    arguments = parser.parse_args()
    reports = own_reports()
    passphrase = first_line(sys.stdin.fileno())
    end_with_supervisor(sys.stdin.fileno())
    send_logs(reports.log)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stop)
    try:
        _serve(SiteHome(arguments.home), arguments.study, passphrase or None, reports)
    except StopNodeError:
        logger.info("the node was asked to end")
        return 0
    except MmfedError as error:
        logger.error("the node ends: %s", error, extra=about(code=error.code))
        reports.error(r.ENDED, error)
    except Exception as error:
        logger.exception("the node ends because of a defect", extra=about(code="MMF-118"))
        reports.error(r.ENDED, MachineError("MMF-118", f"{type(error).__name__}: {error}"))
    return FAILED


def _serve(home: SiteHome, study_hash: str, passphrase: str | None, reports: Reports) -> None:
    reports.tell(r.OPENING)
    from mmfed_client.node.prepare import prepare
    from mmfed_client.node.serve import Node

    prepared = prepare(home, study_hash, passphrase)
    reports.tell(r.OPENED)
    Node(prepared, reports).serve()


def _stop(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise StopNodeError


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # all is on the disk; taking the libraries down in order would take seconds
