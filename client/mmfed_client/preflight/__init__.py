"""``mmfed-client check``: everything that could keep a site from taking part, found before it does."""

from mmfed_client.preflight.finding import Finding, State, exit_code
from mmfed_client.preflight.items import NAMES, SECONDS, all_findings, check_site
from mmfed_client.preflight.limits import Limits
from mmfed_client.preflight.subject import Subject

__all__ = [
    "NAMES",
    "SECONDS",
    "Finding",
    "Limits",
    "State",
    "Subject",
    "all_findings",
    "check_site",
    "exit_code",
]
