"""One of five sites sends something bad, of 30 kinds: the run ends as if that site had never been there."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.common.constant import ErrorCode
from tests.bad_updates import KINDS
from tests.server.faulty_federation import reference_contract, run_streamed
from tests.simulations.small_federation import CLINICAL_STAGE, small_sites, small_study

from mmfed_common import messages as m
from mmfed_common.errors import NetworkError
from mmfed_common.study import Study
from mmfed_server.plan import RoundReport
from mmfed_server.record.state import RunState

BAD = "site-2"


def study() -> Study:
    return small_study(evaluation={"every": 0, "rule": "none"}, contract=reference_contract())


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> RunState:
    sites = [data for data in small_sites(study(), (20, 24, 30, 22, 26)) if data.name != BAD]
    return run_streamed(study(), sites, tmp_path_factory.mktemp("without"))


def same_as(weights: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> bool:
    return all(torch.allclose(weights[n], expected[n], rtol=0, atol=1e-6) for n in expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_update_is_refused_and_spoils_nothing(kind: str, without: RunState, tmp_path: Path) -> None:
    change, code = KINDS[kind]
    told: list[tuple[str, str]] = []
    praised: list[str] = []
    notices: list[object] = []

    def spoil(site: str, request: Message, reply: Message) -> Message:
        if site == BAD and request.metadata.message_type == m.TRAIN:
            notices.append(request.content.config_records[m.CONFIG].get(m.NOTICE))
            change(reply.content)
        return reply

    state = run_streamed(
        study(),
        small_sites(study(), (20, 24, 30, 22, 26)),
        tmp_path,
        spoil,
        on_refusal=lambda site, found, reason: told.append((site, found)),
        on_success=praised.append,
    )
    assert same_as(state.weights, without.weights)
    assert told == [(BAD, code)] * 3
    assert notices == [None, code, code]
    assert state.sites[BAD].last_refusal.startswith(code)
    assert state.sites[BAD].rounds == 0
    assert sorted(set(praised)) == ["site-0", "site-1", "site-3", "site-4"]


def test_an_update_sent_twice_is_refused_the_second_time(tmp_path: Path) -> None:
    """The hostile site writes the new round's number over its old answer."""
    kept: list[RecordDict] = []

    def spoil(site: str, request: Message, reply: Message) -> Message:
        if site == BAD and request.metadata.message_type == m.TRAIN:
            kept.append(copy.deepcopy(reply.content))
            number = request.content.config_records[m.CONFIG][m.ROUND]
            reply.content = RecordDict(
                {
                    m.ARRAYS: copy.deepcopy(kept[0].array_records[m.ARRAYS]),
                    m.METRICS: kept[0].metric_records[m.METRICS],
                    m.ABOUT: ConfigRecord({**kept[0].config_records[m.ABOUT], m.ROUND: number}),
                }
            )
        return reply

    state = run_streamed(study(), small_sites(study(), (20, 24, 30, 22, 26)), tmp_path, spoil)
    assert state.sites[BAD].rounds == 1
    assert state.sites[BAD].last_refusal.startswith("MMF-458")


@pytest.mark.parametrize("code", ["MMF-466", "MMF-487"])
def test_what_is_refused_before_it_is_read_is_told_and_counts(code: str, tmp_path: Path) -> None:
    """The link says of an answer that is too long, or no message, that it is an error of its site."""
    told: list[tuple[str, str]] = []
    notices: list[object] = []

    def spoil(site: str, request: Message, reply: Message) -> Message:
        if site != BAD or request.metadata.message_type != m.TRAIN:
            return reply
        notices.append(request.content.config_records[m.CONFIG].get(m.NOTICE))
        return Message(
            Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, f"{code} as the link says"), reply_to=request
        )

    sites = small_sites(study(), (20, 24, 30, 22, 26))
    state = run_streamed(
        study(), sites, tmp_path, spoil, on_refusal=lambda site, found, reason: told.append((site, found))
    )
    assert told == [(BAD, code)] * 3
    assert notices == [None, code, code]
    assert state.sites[BAD].last_refusal.startswith(code)


def test_a_site_that_comes_by_another_sites_connection_is_refused(tmp_path: Path) -> None:
    def spoil(site: str, request: Message, reply: Message) -> Message:
        if site == BAD:
            reply.content.config_records[m.ABOUT][m.SITE] = "site-1"
        return reply

    told: list[tuple[str, str]] = []
    state = run_streamed(
        study(),
        small_sites(study(), (20, 24, 30, 22, 26)),
        tmp_path,
        spoil,
        on_refusal=lambda site, code, reason: told.append((site, code)),
    )
    assert state.sites["site-1"].rounds == 3
    assert set(told) == {(BAD, "MMF-457")}


def test_an_update_without_the_sites_seal_is_refused(without: RunState, tmp_path: Path) -> None:
    def seals(site: str, answer: Message) -> None:
        if site == BAD and m.LOSS in answer.content.metric_records[m.METRICS]:
            raise NetworkError("MMF-416", "the answer is not signed")

    sites = small_sites(study(), (20, 24, 30, 22, 26))
    state = run_streamed(study(), sites, tmp_path, seals=seals)
    assert same_as(state.weights, without.weights)
    assert state.sites[BAD].last_refusal.startswith("MMF-416")


def test_a_site_in_quarantine_is_not_asked_and_comes_back_when_it_is_lifted(tmp_path: Path) -> None:
    """Also not for its loss in the very round; one last word tells it why, whether it answers or not."""
    asked: list[tuple[str, int]] = []
    barred: dict[str, str] = {}

    def spoil(site: str, request: Message, reply: Message) -> Message | None:
        if site != BAD:
            return reply
        asked.append(
            (request.metadata.message_type, int(str(request.content.config_records[m.CONFIG][m.ROUND])))
        )
        if barred:
            return None
        if asked[-1] == (m.TRAIN, 1):
            KINDS["NaN"][0](reply.content)
        return reply

    def lift(report: RoundReport) -> None:
        if report.round == 3:
            assert asked == [(m.HELLO, 0), (m.TRAIN, 1), (m.HELLO, 0)]
            asked.clear()
            barred.clear()

    seen = small_study(
        training={"stages": [{**CLINICAL_STAGE, "rounds": 4}]},
        evaluation={"every": 1},
        contract=reference_contract(),
    )
    sites = small_sites(seen, (20, 24, 30, 22, 26))
    state = run_streamed(
        seen,
        sites,
        tmp_path,
        spoil,
        quarantined=lambda: barred,
        on_refusal=lambda site, code, reason: barred.update({site: code}),
        progress=lift,
    )
    assert asked == [(m.HELLO, 0), (m.TRAIN, 4), (m.EVALUATE_HELD_OUT, 4)]
    assert state.sites[BAD].rounds == 1
