"""From the node's reports to the site's status: pure, so that it can be tested line by line."""

from __future__ import annotations

from typing import Any

from mmfed_client.node import reports as r
from mmfed_client.status import Sent, State, Status, now_text
from mmfed_common.error_codes import CODES
from mmfed_common.errors import MmfedError

UNTIL_SENT = ("MMF-310", "MMF-311", "MMF-312")
"""Of a ledger that cannot be used: whether it can is not known before the next answer has its receipt."""

STANDS_STILL = "MMF-442"

ATTEMPT = (State.trying_again, State.opening, State.connecting)
OF_THE_WAY = "MMF-4"
"""Network and trust: that a cohort could be opened says nothing about them."""


def begun(status: Status, state: State, **changes: Any) -> Status:
    """Give the status after a step that went well; what is not known to be over by it stays told.

    So the reason for which the last attempt failed is told while the next one is under way, and what keeps
    answers from leaving until one has left.
    """
    code, cause = (status.code, status.cause) if _lasts(status, state) else ("", "")
    return status.entered(state, code, cause, **changes)


def _lasts(status: Status, state: State) -> bool:
    if status.code in UNTIL_SENT:
        return True
    if state is State.opening:
        return status.state in ATTEMPT
    return state is State.connecting and status.state in ATTEMPT and status.code.startswith(OF_THE_WAY)


def after_answer(status: Status, error: MmfedError | None) -> Status:
    """Give the status after the coordinator was asked for its offer: is it why this site waits?"""
    if status.state is not State.ready or status.code in UNTIL_SENT:
        return status  # what this site has to say of itself is the nearer cause
    if error is not None and error.code == STANDS_STILL:
        return status.troubled(State.ready, error)
    if error is None and status.code == STANDS_STILL:
        return status.entered(State.ready)
    return status


def after_report(status: Status, report: dict[str, Any]) -> Status:
    """Give the status after a report; one that says nothing about the status leaves it as it is."""
    event = report["event"]
    if event == r.OPENING:
        return begun(status, State.opening)
    if event == r.OPENED:
        return begun(status, State.connecting)
    if event == r.CONNECTED:
        return begun(status, State.ready, doing="", attempts=0)
    if event == r.WORKING:
        number = _count(report, "round") or status.round
        return begun(status, State.working, doing=str(report.get("kind", "")), round=number)
    if event == r.SENT:
        sent = Sent(
            str(report.get("kind", "")),
            now_text(),
            status.sent.messages + 1,
            status.sent.bytes + _count(report, "bytes"),
        )
        notice = str(report.get("notice", ""))
        meaning = CODES[notice].meaning if notice in CODES else ""
        cause = f"the coordinator did not take this site's last answer: {meaning}" if meaning else ""
        return status.entered(State.ready, notice if meaning else "", cause, doing="", sent=sent)
    if event == r.REFUSED:
        code, cause = str(report.get("code", "")), str(report.get("cause", ""))
        return status.entered(State.ready, code, cause, doing="")
    if event == r.ENDED:
        code, cause = str(report.get("code", "")), str(report.get("cause", ""))
        return status.entered(State.trying_again, code, cause, doing="")
    return status


def _count(report: dict[str, Any], name: str) -> int:
    value = report.get(name)
    return value if isinstance(value, int) and value > 0 else 0
