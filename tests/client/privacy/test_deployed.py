"""A real site under differential privacy: paid before it leaves, refused when it was not, stopped in time."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from flwr.app import Message
from tests.client.privacy.private_sites import private_site, private_study
from tests.client.small_home import SmallHome, context, question, weights_of

from mmfed_client.approval import Guardian
from mmfed_client.gate import Gate
from mmfed_client.site import SiteData
from mmfed_client.training import LocalSite, LocalUpdate
from mmfed_common import messages as m
from mmfed_common.arrays import to_record
from mmfed_common.errors import PrivacyError
from mmfed_common.privacy import PrivacyPlan

POLICY = "largest_delta = 0.01\nmost_epsilon_per_study = 8.0\nmost_epsilon_lifetime = {lifetime}\n"


@pytest.fixture(scope="module")
def site() -> LocalSite:
    return private_site(private_study())


@pytest.fixture
def small(tmp_path: Path, site: LocalSite) -> SmallHome:
    found = SmallHome.make(tmp_path, POLICY.format(lifetime=16.0))
    found.approve(site.study)
    return found


def asked(site: LocalSite, number: int = 1) -> Message:
    """A round's message, with the weights that the study begins with."""
    untrained = LocalSite(site.study, small_data(site))
    return question(m.TRAIN, site.study.hash, number, **weights_of(untrained, number))


def small_data(site: LocalSite) -> SiteData:
    return SiteData(site.name, site.patients, site.held_out, site.topology)


def sent(answer: Message) -> dict[str, bytes]:
    assert answer.has_content(), answer.error.reason
    return {name: array.data for name, array in answer.content.array_records[m.ARRAYS].items()}


def refused(answer: Message) -> str:
    assert answer.has_error()
    return (answer.error.reason or "")[:7]


def test_an_update_is_paid_settled_and_then_leaves(small: SmallHome, site: LocalSite) -> None:
    answer = small.app(site)(asked(site), context())
    assert sent(answer)
    assert answer.content.metric_records[m.METRICS][m.LOSS] == 0.0
    plan = PrivacyPlan.of(site.study, len(site.fit))
    steps = ["privacy-step"] * plan.steps_of_round
    assert small.kinds() == ["approval", "privacy-plan", *steps, "privacy-round", "receipt"]
    account = small.ledger.privacy().of(site.study.hash)
    assert account is not None
    assert account.spent == plan.mechanisms(rounds=1)


def test_the_same_round_again_is_the_same_update_and_costs_nothing(small: SmallHome, site: LocalSite) -> None:
    first = sent(small.app(site)(asked(site), context()))
    again = sent(small.app(private_site(site.study))(asked(site), context()))
    assert first == again
    assert small.kinds().count("privacy-step") == PrivacyPlan.of(site.study, len(site.fit)).steps_of_round


def test_other_weights_cost_anew(small: SmallHome, site: LocalSite) -> None:
    first = sent(small.app(site)(asked(site), context()))
    message = asked(site)
    shifted = {name: tensor + 0.25 for name, tensor in site.model.state_dict().items()}
    names = message.content.array_records[m.ARRAYS]
    message.content[m.ARRAYS] = to_record({name: shifted[name] for name in names})
    second = sent(small.app(site)(message, context()))
    assert first != second
    plan = PrivacyPlan.of(site.study, len(site.fit))
    assert small.kinds().count("privacy-step") == 2 * plan.steps_of_round


def test_without_budget_there_is_no_update(small: SmallHome, site: LocalSite) -> None:
    small.policy(POLICY.format(lifetime=0.05))
    length = small.ledger.head.length
    policy = small.guardian().policy()
    assert policy.most_epsilon_lifetime == 0.05
    assert refused(small.app(site)(asked(site), context())) == "MMF-329"
    assert small.ledger.head.length == length + 1  # the receipt of the refusal


def test_a_study_that_other_studies_left_no_room_for_does_not_begin(
    small: SmallHome, site: LocalSite
) -> None:
    small.app(site)(asked(site), context())
    other = private_study(study={"name": "another"})
    small.approve(other)
    small.policy(POLICY.format(lifetime=8.0))
    with pytest.raises(PrivacyError) as error:
        Guardian(small.home, small.ledger, lambda: small.now).allow(other, len(site.fit))
    assert error.value.code == "MMF-308"
    small.guardian().allow(site.study, len(site.fit))


@pytest.mark.parametrize("paid", [False, True])
def test_an_update_that_was_not_paid_does_not_leave(small: SmallHome, site: LocalSite, paid: bool) -> None:
    """As if training had gone past the account: the exit looks into the ledger itself."""
    if paid:
        small.app(site)(asked(site, 1), context())
    number = 2 if paid else 1
    message = asked(site, number)
    names = message.content.array_records[m.ARRAYS]
    update = LocalUpdate({name: site.model.state_dict()[name] for name in names}, len(site.fit), 0.0)
    gate = Gate(site.study, site.name, small.way_out())
    with pytest.raises(PrivacyError) as error:
        gate.update(message, update, 0.0, {name: site.shapes[name] for name in names})
    assert error.value.code == "MMF-309"


def test_another_secret_is_paid_for_anew(small: SmallHome, site: LocalSite) -> None:
    first = sent(small.app(site)(asked(site), context()))
    small.home.privacy_key_file.unlink()
    second = sent(small.app(site)(asked(site), context()))
    assert first != second
    plan = PrivacyPlan.of(site.study, len(site.fit))
    assert small.kinds().count("privacy-step") == 2 * plan.steps_of_round
    assert dataclasses.asdict(plan)["patients"] == len(site.fit)
