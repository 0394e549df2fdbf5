"""The record of runs: state, status and diary of each, in a folder or in a database."""

from mmfed_server.record.catalogue import RunCatalogue, RunSummary
from mmfed_server.record.database_record import DatabaseRecord
from mmfed_server.record.events import EVENTS_FILE, EventLog
from mmfed_server.record.folder import FolderRecord, StateFile
from mmfed_server.record.record import RunRecord, RunStatus
from mmfed_server.record.state import RunState, SiteTotals

__all__ = [
    "EVENTS_FILE",
    "DatabaseRecord",
    "EventLog",
    "FolderRecord",
    "RunCatalogue",
    "RunRecord",
    "RunState",
    "RunStatus",
    "RunSummary",
    "SiteTotals",
    "StateFile",
]
