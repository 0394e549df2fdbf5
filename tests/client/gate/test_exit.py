"""A real site's answers: signed, with a receipt that lists them byte for byte, or none at all."""

from __future__ import annotations

import hashlib
import os
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from flwr.app import Message
from tests.client.small_home import (
    SmallHome,
    context,
    every_question,
    local_site,
    question,
    weights_of,
)
from tests.simulations.small_federation import small_study

from mmfed_client.app import make_client_app
from mmfed_client.approval import revoke
from mmfed_client.fleet.objects import objects_of
from mmfed_client.gate import Gate
from mmfed_client.gate import exit as module
from mmfed_client.training import LocalSite, LocalUpdate
from mmfed_common import messages as m
from mmfed_common.errors import MmfedError, PrivacyError
from mmfed_common.scaling import Scaling
from mmfed_common.seal import check_seal
from mmfed_common.study import Study


@pytest.fixture(scope="module")
def study() -> Study:
    return small_study(training={"validation_fraction": 0.3})


@pytest.fixture(scope="module")
def site(study: Study) -> LocalSite:
    return local_site(study)


@pytest.fixture
def small(tmp_path: Path, study: Study) -> SmallHome:
    found = SmallHome.make(tmp_path)
    found.approve(study)
    return found


def refused(answer: Message) -> str:
    """The code of an answer that must hold nothing else."""
    assert answer.has_error()
    assert not answer.has_content()
    reason: str = answer.error.reason or ""
    return reason[:7]


def test_every_answer_is_signed_and_has_its_receipt(small: SmallHome, site: LocalSite) -> None:
    app = small.app(site)
    for asked in every_question(site):
        before = small.ledger.head
        answer = app(asked, context())
        assert answer.has_content(), answer.error.reason
        check_seal(answer, small.key.public, asked.metadata.message_id)
        about = answer.content.config_records[m.ABOUT]
        assert (about[m.LEDGER_LENGTH], about[m.LEDGER_HEAD]) == (before.length, before.hash)
        *_, receipt = small.ledger.entries()
        sent = objects_of(answer)
        assert receipt.kind == "receipt"
        assert receipt.body["objects"] == [[name, len(content)] for name, content in sent]
        assert all(name == hashlib.sha256(content).hexdigest() for name, content in sent)
        names = "".join(name for name, _ in sent)
        assert receipt.body["sha256"] == hashlib.sha256(names.encode()).hexdigest()
        assert receipt.body["bytes"] == sum(len(content) for _, content in sent)
        assert receipt.body["metrics"] == dict(answer.content.metric_records[m.METRICS])
        assert receipt.body["kind"] == asked.metadata.message_type
    assert small.ledger.verify() == []


def test_what_is_pushed_is_what_the_receipt_lists_and_is_not_made_twice(
    small: SmallHome, site: LocalSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    way_out = small.way_out()
    app = make_client_app(lambda _: site, way_out)
    earlier = app(question(m.HELLO, site.study.hash, 0), context())
    answer = app(question(m.TRAIN, site.study.hash, 1, **weights_of(site)), context())
    again = objects_of(answer)
    with monkeypatch.context() as patch:
        patch.setattr(module, "objects_of", lambda message: pytest.fail("made again"))
        sent = way_out.take_objects(answer)
    *_, receipt = small.ledger.entries()
    assert receipt.body["objects"] == [[name, len(content)] for name, content in sent]
    assert sent == again == way_out.take_objects(answer)
    assert way_out.take_objects(earlier) == objects_of(earlier)


def test_only_a_hello_names_the_software(small: SmallHome, site: LocalSite) -> None:
    answers = [small.app(site)(asked, context()) for asked in every_question(site)]
    named = [m.SOFTWARE in answer.content.config_records[m.ABOUT] for answer in answers]
    assert named == [True, False, False, False, False]


def test_a_real_site_gives_the_bits_of_a_simulated_one(small: SmallHome, site: LocalSite) -> None:
    asked = question(m.TRAIN, site.study.hash, 1, **weights_of(site))
    simulated = make_client_app(lambda _: site)(asked, context())
    real = small.app(site)(asked, context())
    for name, array in simulated.content.array_records[m.ARRAYS].items():
        assert real.content.array_records[m.ARRAYS][name].data == array.data


def test_an_error_has_its_receipt_too(small: SmallHome, site: LocalSite) -> None:
    answer = small.app(site)(question(m.TRAIN, site.study.hash, 99), context())
    assert refused(answer) == "MMF-405"
    *_, receipt = small.ledger.entries()
    sent = objects_of(answer)
    assert receipt.body["objects"] == [[name, len(content)] for name, content in sent]
    assert receipt.body["error"] == answer.error.reason
    assert (receipt.body["study"], receipt.body["round"]) == (site.study.hash, 99)


def test_without_a_receipt_nothing_leaves(small: SmallHome, site: LocalSite) -> None:
    small.home.ledger_file.write_bytes(small.home.ledger_file.read_bytes()[10:])
    for asked in every_question(site):
        with pytest.raises(PrivacyError) as caught:
            small.app(site)(asked, context())
        assert caught.value.code == "MMF-310"
    os.unlink(small.home.ledger_file)
    os.mkdir(small.home.ledger_file)
    with pytest.raises(PrivacyError) as caught:
        small.app(site)(question(m.HELLO, site.study.hash, 0), context())
    assert caught.value.code == "MMF-311"


def test_an_update_does_not_leave_once_approval_is_withdrawn(small: SmallHome, site: LocalSite) -> None:
    gate = Gate(site.study, "site-0", small.way_out())
    revoke(small.ledger, "Ada")
    with pytest.raises(PrivacyError) as caught:
        gate.hello(question(m.HELLO, site.study.hash, 0), 30)
    assert caught.value.code == "MMF-332"
    assert "receipt" not in small.kinds()


def test_errors_without_end_are_not_answered(small: SmallHome, site: LocalSite) -> None:
    app = small.app(site)
    for _ in range(60):
        assert refused(app(question(m.TRAIN, "0" * 64), context())) == "MMF-332"
    with pytest.raises(PrivacyError) as caught:
        app(question(m.TRAIN, "0" * 64), context())
    assert caught.value.code == "MMF-342"


def test_the_same_round_is_not_answered_without_end(small: SmallHome, site: LocalSite) -> None:
    small.policy("require_privacy = false\nmost_answers_per_round = 2\n")
    app, asked = small.app(site), question(m.TRAIN, site.study.hash, 1, **weights_of(site))
    assert [app(asked, context()).has_error() for _ in range(3)] == [False, False, True]
    assert refused(app(asked, context())) == "MMF-343"
    assert not app(question(m.TRAIN, site.study.hash, 2, **weights_of(site, 2)), context()).has_error()
    assert not any(app(question(m.HELLO, site.study.hash, 0), context()).has_error() for _ in range(4))


POLICIES = [
    ("", m.TRAIN, "MMF-328"),
    ("require_privacy = false\nminimum_patients = 1000\n", m.TRAIN, "MMF-323"),
    ("require_privacy = false\nminimum_patients = 1000\n", m.MOMENTS, "MMF-323"),
    ("require_privacy = false\nallow_moments = false\n", m.MOMENTS, "MMF-330"),
    ("require_privacy = false\nlargest_update_megabytes = 0.0001\n", m.TRAIN, "MMF-340"),
    ('require_privacy = false\nhours = "00:00-00:01"\ndays = ["sun"]\n', m.HELLO, "MMF-327"),
    ("require_privacy = false\nmost_rounds = 1\n", m.TRAIN, "MMF-326"),
    ("require_privacy = false\nstrategies = []\n", m.TRAIN, "MMF-325"),
    ('require_privacy = false\ncoordinators = ["abcd"]\n', m.TRAIN, "MMF-324"),
    ("require_privacy = false\ntwo_person = true\n", m.TRAIN, "MMF-334"),
    ("require_privacy = maybe\n", m.TRAIN, "MMF-321"),
    ("require_privacy = false\nfirewall = true\n", m.TRAIN, "MMF-321"),
    (None, m.TRAIN, "MMF-320"),
]


@pytest.mark.parametrize(("policy", "kind", "code"), POLICIES)
def test_a_policy_changed_after_approval_acts_at_once(
    small: SmallHome, site: LocalSite, policy: str | None, kind: str, code: str
) -> None:
    if policy is None:
        small.home.policy_file.unlink()
    else:
        small.policy(policy)
    asked = next(q for q in every_question(site) if q.metadata.message_type == kind)
    assert refused(small.app(site)(asked, context())) == code


def test_an_approval_ends_with_the_study(small: SmallHome, site: LocalSite) -> None:
    small.now += timedelta(days=31)
    answer = small.app(site)(question(m.HELLO, site.study.hash, 0), context())
    assert refused(answer) == "MMF-333"


def test_what_the_policy_keeps_back_is_sent_as_zero(small: SmallHome, site: LocalSite) -> None:
    small.policy('require_privacy = false\nmetrics = ["num-examples"]\n')
    hello, _, train, validation, held_out = (small.app(site)(q, context()) for q in every_question(site))
    shown = dict(train.content.metric_records[m.METRICS])
    assert shown == {m.NUM_EXAMPLES: len(site.fit), m.LOSS: 0.0, m.SECONDS: 0.0}
    for answer in (validation, held_out):
        assert dict(answer.content.metric_records[m.METRICS]) == {m.NUM_EXAMPLES: 0, m.LOSS: 0.0}
    assert hello.content.metric_records[m.METRICS][m.NUM_EXAMPLES] == len(site.fit)


@pytest.mark.parametrize("policy", ["evaluation = false\n", "minimum_cell = 1000\n"])
def test_a_policy_can_keep_evaluations_back(small: SmallHome, site: LocalSite, policy: str) -> None:
    small.policy(f"require_privacy = false\n{policy}")
    answer = small.app(site)(every_question(site)[4], context())
    assert dict(answer.content.metric_records[m.METRICS]) == {m.NUM_EXAMPLES: 0, m.LOSS: 0.0}


def test_the_higher_floor_holds(small: SmallHome, site: LocalSite) -> None:
    small.policy("require_privacy = false\nminimum_patients = 1000\n")
    answer = small.app(site)(question(m.HELLO, site.study.hash, 0), context())
    assert answer.content.metric_records[m.METRICS][m.NUM_EXAMPLES] == 0
    small.policy("require_privacy = false\nminimum_patients = 1\n")
    gate = Gate(small_study(aggregation={"minimum_patients": 9}), "site-0", small.way_out())
    with pytest.raises(MmfedError) as caught:
        gate.update(question(m.TRAIN, site.study.hash), LocalUpdate({}, 8, 0.0), 1.0, {})
    assert caught.value.code == "MMF-406"


def test_rare_features_and_those_that_are_not_scaled_stay(small: SmallHome, study: Study) -> None:
    columns = {
        "age": {"kind": "number"},
        "smoker": {"kind": "binary"},
        "grade": {"kind": "category", "values": ["1", "2", "3"]},
    }
    study = study.with_changes(contract={"demographics": columns})
    small.approve(study)
    site = local_site(study, 30)
    node, names = site.patients.nodes["clinical_feature"], site.topology.nodes["clinical_feature"]
    rare = names.index("marker")
    node.present[:, rare] = False
    node.present[torch.from_numpy(site.fit[:3]), rare] = True
    asked = question(m.MOMENTS, study.hash, 0)
    answer = small.app(site)(asked, context())
    arrays = {n: torch.from_numpy(a.numpy()) for n, a in answer.content.array_records[m.ARRAYS].items()}
    for array in arrays.values():
        assert [name for name, row in zip(names, array, strict=True) if bool((row != 0).any())] == ["age"]


def test_scaling_is_the_same_without_what_it_does_not_use(study: Study) -> None:
    from mmfed_client.gate.feature_floor import keep_common_features, patients_measured

    study = study.with_changes(
        contract={"clinical": {"marker": {"kind": "number"}, "sex": {"kind": "binary"}}}
    )
    site = local_site(study)
    moments = site.moments()
    kept = keep_common_features(moments, patients_measured(site.patients), study.contract, site.topology, 1)
    one = Scaling.from_moments(moments, study.contract, site.topology).to_arrays()
    two = Scaling.from_moments(kept, study.contract, site.topology).to_arrays()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(kept.total["clinical_feature"], moments.total["clinical_feature"])
