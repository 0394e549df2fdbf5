"""One run from its beginning, or from where it was left, to an end that is known and written down."""

from __future__ import annotations

import errno
from contextlib import suppress

from flwr.serverapp import Grid

from mmfed_common.errors import MmfedError, StudyError
from mmfed_server.plan import RunPlan
from mmfed_server.record.folder import FolderRecord
from mmfed_server.record.record import RunRecord, RunStatus
from mmfed_server.record.state import RunState
from mmfed_server.rounds.loop import Rounds

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def run_rounds(grid: Grid, plan: RunPlan) -> RunState:
    """Run a study to its end, and say in the record's status how it ended.

    Raises
    ------
    MmfedError
        What ended the run; the last whole round is committed.
    """
    record = plan.record if plan.record is not None else FolderRecord(plan.folder)
    try:
        record.write_status("running")
        try:
            state = Rounds(grid, plan, record).run()
        except BaseException as error:
            with suppress(MmfedError, OSError):  # the first error is the one to tell
                record.event(
                    "failed", code=error.code if isinstance(error, MmfedError) else type(error).__name__
                )
            raise
        finally:
            record.close()
        record.write_status("finished")
        return state
    except KeyboardInterrupt:
        _say(record, "failed", "MMF-521", "the run was interrupted")
        raise
    except MmfedError as error:
        stopped = plan.stop is not None and plan.stop.is_set()
        _say(record, "stopped" if stopped else "failed", error.code, error.what)
        raise
    except OSError as error:
        if error.errno not in DISK_FULL:
            _say(record, "failed", "", type(error).__name__)
            raise
        _say(record, "failed", "MMF-508", "the disk is full")
        raise StudyError("MMF-508", f"the disk is full: {error.strerror}", str(plan.folder)) from None
    except Exception as error:
        _say(record, "failed", "", type(error).__name__)
        raise


def _say(record: RunRecord, status: RunStatus, code: str, reason: str) -> None:
    """Write the status, where it can be written: a full disk or a lost database ends the run by itself."""
    with suppress(MmfedError, OSError):
        record.write_status(status, code, reason)
