"""Back-off, patience, and what the node's reports become in the status."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmfed_client.node import reports as r
from mmfed_client.status import State, Status
from mmfed_client.supervisor.backoff import Backoff
from mmfed_client.supervisor.metrics import Metrics, MetricsServer
from mmfed_client.supervisor.patience import OPENING_SECONDS, SILENT_SECONDS, Patience
from mmfed_client.supervisor.reading import after_answer, after_report
from mmfed_common.errors import MachineError, NetworkError

STATUS = Status("north", "lungs", study="small", rounds=10)


def test_attempts_are_never_given_up_and_never_rare() -> None:
    backoff = Backoff()
    assert [backoff.failed() for _ in range(7)] == [1, 2, 4, 8, 16, 20, 20]
    for _ in range(5000):
        assert backoff.failed() == 20
    backoff.worked()
    assert backoff.failed() == 1


def test_silence_is_allowed_according_to_the_work() -> None:
    now = [0.0]
    patience = Patience(deadline=600.0, clock=lambda: now[0])
    now[0] = SILENT_SECONDS + 1
    assert patience.exhausted(State.ready) == SILENT_SECONDS + 1
    assert patience.exhausted(State.working) == 0
    assert patience.exhausted(State.opening) == 0
    now[0] = 721.0
    assert patience.exhausted(State.working)
    now[0] = OPENING_SECONDS + 1
    assert patience.exhausted(State.opening)
    patience.heard()
    assert patience.exhausted(State.ready) == 0


def told(status: Status, *reports: dict[str, Any]) -> Status:
    """The status after reports, as they come through the pipe."""
    for report in reports:
        parsed = r.parse_report(json.dumps(report))
        assert parsed is not None
        status = after_report(status, parsed)
    return status


def test_a_round_as_the_status_tells_it() -> None:
    working = {"event": r.WORKING, "kind": "train", "round": 3}
    status = told(STATUS, {"event": r.OPENING})
    assert status.state is State.opening
    status = told(status, {"event": r.OPENED}, {"event": r.CONNECTED})
    assert status.state is State.ready
    status = told(status, working)
    assert (status.state, status.doing, status.round) == (State.working, "train", 3)
    status = told(status, {"event": r.SENT, "kind": "train", "bytes": 500}, working)
    status = told(status, {"event": r.SENT, "kind": "train", "bytes": 50})
    assert (status.sent.kind, status.sent.messages, status.sent.bytes) == ("train", 2, 550)
    status = told(status, {"event": r.REFUSED, "code": "MMF-405", "cause": "the study has no round 99"})
    assert (status.state, status.code) == (State.ready, "MMF-405")
    status = told(status, {"event": r.ENDED, "code": "MMF-200", "cause": "2 faults"})
    assert (status.code, status.cause) == ("MMF-200", "2 faults")


@given(st.text())
def test_a_line_that_is_no_report_is_no_report(line: str) -> None:
    parsed = r.parse_report(line)
    assert parsed is None or isinstance(parsed["event"], str)


@given(st.dictionaries(st.sampled_from(["round", "bytes", "kind", "code", "cause"]), st.none() | st.text()))
def test_no_report_breaks_the_supervisor(content: dict[str, Any]) -> None:
    for event in (r.WORKING, r.SENT, r.REFUSED, r.ENDED, r.HEARTBEAT, "something else"):
        status = after_report(STATUS, {**content, "event": event})
        assert isinstance(status, Status)
        assert status.state in State
        assert status.round >= 0
        assert status.sent.bytes >= 0


def test_metrics_are_served_on_loopback_and_say_what_the_status_says() -> None:
    metrics = Metrics("north")
    with MetricsServer(metrics, 0) as server:
        status = STATUS
        for code in ("MMF-110", "MMF-110", "MMF-111"):
            status = status.entered(State.trying_again, code, "text of a table", round=4)
            metrics.show(status)
        metrics.show(status.entered(State.opening, code, "of the last attempt"))
        metrics.show(status)
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        with pytest.raises(MachineError) as caught:
            MetricsServer(metrics, server.port)
    assert caught.value.code == "MMF-117"
    assert 'mmfed_client_state{site="north",state="trying_again"} 1.0' in text
    assert 'mmfed_client_state{site="north",state="working"} 0.0' in text
    assert 'mmfed_client_round{site="north"} 4.0' in text
    assert 'mmfed_client_errors_total{code="MMF-111",site="north"} 1.0' in text
    assert "text of a table" not in text


def test_a_notice_of_the_coordinator_is_shown_until_an_answer_comes_without_one() -> None:
    sent = {"event": r.SENT, "kind": "query.hello", "round": 0, "bytes": 9}
    status = told(STATUS, {**sent, "notice": "MMF-441"})
    assert (status.state, status.code) == (State.ready, "MMF-441")
    assert "no longer holds an entry" in status.cause
    assert status.next_step
    assert told(status, {**sent, "notice": ""}).code == ""
    assert told(STATUS, {**sent, "notice": "made up"}).cause == ""


def test_a_ledger_that_cannot_be_written_is_told_until_an_answer_has_left() -> None:
    status = after_report(STATUS, {"event": r.ENDED, "code": "MMF-311", "cause": "No space left on device"})
    steps: list[dict[str, Any]] = [{"event": name} for name in (r.OPENING, r.OPENED, r.CONNECTED)]
    for step in [*steps, {"event": r.WORKING, "kind": "train", "round": 3}]:
        status = after_report(status, step)
        assert (status.code, status.cause) == ("MMF-311", "No space left on device")
    assert after_report(status, {"event": r.SENT, "kind": "train", "bytes": 9}).code == ""
    lost = after_report(STATUS, {"event": r.ENDED, "code": "MMF-470", "cause": "no connection"})
    assert after_report(lost, {"event": r.CONNECTED}).code == ""


def test_why_an_attempt_failed_is_told_until_it_is_over() -> None:
    steps: list[dict[str, Any]] = [{"event": name} for name in (r.OPENING, r.OPENED, r.CONNECTED)]

    def codes(code: str) -> list[str]:
        status = told(STATUS.entered(State.ready), {"event": r.ENDED, "code": code, "cause": "why"})
        assert (status.state, status.code) == (State.trying_again, code)
        return [status.code for step in steps if (status := after_report(status, step))]

    assert codes("MMF-470") == ["MMF-470", "MMF-470", ""]
    assert codes("MMF-200") == ["MMF-200", "", ""]
    allowed = STATUS.entered(State.waiting_for_approval, "MMF-332", "nobody approved it")
    assert after_report(allowed, steps[0]).code == ""


def test_a_server_that_stands_still_is_why_a_ready_site_waits() -> None:
    still = NetworkError("MMF-442", "MMF-508: The disk is full.")
    ready = STATUS.entered(State.ready)
    waiting = after_answer(ready, still)
    assert (waiting.state, waiting.code) == (State.ready, "MMF-442")
    assert "MMF-508" in waiting.cause
    assert waiting.next_step
    assert after_answer(waiting, NetworkError("MMF-428", "no route")) == waiting
    assert after_answer(waiting, None).code == ""
    assert after_report(waiting, {"event": r.WORKING, "kind": "train", "round": 3}).code == ""
    late = STATUS.entered(State.ready, "MMF-477", "no reply is waited for")
    assert after_answer(late, still).code == "MMF-442"  # the newer cause
    assert after_answer(late, None) == late
    for other in (STATUS.entered(State.working), STATUS.entered(State.ready, "MMF-311", "the ledger")):
        assert after_answer(other, still) == other
        assert after_answer(other, None) == other
