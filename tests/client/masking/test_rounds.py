"""A real site's masked rounds, message by message: receipts, the policy's peers, one sum a round."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message
from tests.client.masking.coordinator import OTHERS, Coordinator, code
from tests.client.small_home import OPEN, SmallHome, context, local_site, question, weights_of
from tests.server.faulty_federation import reference_contract
from tests.server.masking.protocol import enrolled
from tests.simulations.small_federation import small_study

from mmfed_client.app import make_client_app
from mmfed_client.gate import Gate
from mmfed_client.masking.numbers import numbers_of
from mmfed_client.masking.peers import PEERS
from mmfed_client.privacy.noise import keyed_digest
from mmfed_client.privacy.secret import secret_of
from mmfed_client.training import LocalSite, LocalUpdate
from mmfed_common import messages as m
from mmfed_common.errors import PrivacyError
from mmfed_common.masking import fields as f
from mmfed_common.masking.fixed_point import FixedPoint
from mmfed_common.masking.layout import Layout
from mmfed_common.masking.wide import encode_wide
from mmfed_common.seal import check_seal
from mmfed_common.study import Study


def secure_study(**aggregation: Any) -> Study:
    rule = {"minimum_sites": 3, "secure": True, "secure_threshold": 0.6, **aggregation}
    return small_study(aggregation=rule, contract=reference_contract())


@pytest.fixture(scope="module")
def study() -> Study:
    return secure_study()


@pytest.fixture(scope="module")
def site(study: Study) -> LocalSite:
    return local_site(study)


@pytest.fixture
def small(tmp_path: Path, study: Study) -> SmallHome:
    found = SmallHome.make(tmp_path)
    found.approve(study)
    return found


def test_every_step_is_signed_and_has_its_receipt_and_the_peers_are_written_down(
    small: SmallHome, site: LocalSite, study: Study
) -> None:
    there = Coordinator(small.app(site), site)
    answers = there.all(gone=["site-3"])
    assert [code(answer) for answer in answers] == [""] * 5
    for answer in answers:
        check_seal(answer, small.key.public, "question-1")
    entries = list(small.ledger.entries())
    kinds = [entry.body["kind"] for entry in entries if entry.kind == "receipt"]
    assert kinds == [m.MASK_KEYS, m.MASK_SHARES, m.TRAIN, m.MASK_AGREE, m.MASK_OPEN]
    (peers,) = [entry.body for entry in entries if entry.kind == PEERS]
    assert peers["study"] == study.hash
    assert peers["peers"]["site-2"] == enrolled("site-2").public.fingerprint
    assert set(peers["peers"]) == {"site-0", *OTHERS}


def test_a_second_sum_of_the_round_for_other_sites_is_refused_also_after_a_restart(
    small: SmallHome, site: LocalSite
) -> None:
    there = Coordinator(small.app(site), site)
    there.all(gone=["site-3"])
    for app in (there.app, small.app(site)):
        there.app = app
        there.again()
        assert [code(step()) for step in (there.keys, there.shares, there.train)] == [""] * 3
        assert code(there.agree()) == "MMF-389"
        there.again()
        assert [code(answer) for answer in there.all(gone=["site-3"])] == [""] * 5  # the very same sum


def test_another_round_may_have_another_sum(small: SmallHome, site: LocalSite) -> None:
    there = Coordinator(small.app(site), site)
    there.all(gone=["site-3"])
    there.number = 2
    there.again()
    assert [code(answer) for answer in there.all()] == [""] * 5


def test_a_site_that_was_restarted_is_one_that_dropped_out(small: SmallHome, site: LocalSite) -> None:
    there = Coordinator(small.app(site), site)
    there.keys()
    there.app = small.app(site)
    assert code(there.shares()) == "MMF-387"
    assert [code(answer) for answer in there.all()] == [""] * 5


def test_an_opening_asked_twice_or_out_of_order_is_refused(small: SmallHome, site: LocalSite) -> None:
    there = Coordinator(small.app(site), site)
    there.keys()
    there.shares()
    there.train()
    assert code(there.ask(m.MASK_OPEN, {f.SITES: [], f.TAGS: []})) == "MMF-387"
    there.agree()
    assert code(there.open()) == ""
    assert code(there.open()) == "MMF-387"


def test_without_the_steps_before_it_nothing_is_trained(small: SmallHome, site: LocalSite) -> None:
    plain = question(m.TRAIN, site.study.hash, 1, **weights_of(site))
    assert code(small.app(site)(plain, context())) == "MMF-394"
    there = Coordinator(small.app(site), site)
    record = {f.SITES: ["site-0"], f.SEALED: [b""]}
    assert code(there.ask(m.TRAIN, record, **weights_of(site))) == "MMF-387"


def test_a_study_without_secure_aggregation_answers_none_of_it(tmp_path: Path) -> None:
    plain = secure_study(secure=False)
    small, site = SmallHome.make(tmp_path), local_site(plain)
    small.approve(plain)
    there = Coordinator(small.app(site), site)
    assert code(there.keys()) == "MMF-394"


@pytest.mark.parametrize(
    ("kind", "record"),
    [
        (m.MASK_KEYS, {f.SESSION: "../../etc"}),
        (m.MASK_KEYS, {f.SESSION: 7}),
        (m.MASK_SHARES, {f.THRESHOLD: 3}),
        (m.MASK_SHARES, {f.THRESHOLD: "3"}),
        (m.MASK_AGREE, {f.ALIVE: "site-0", f.GONE: []}),
        (m.MASK_AGREE, {f.ALIVE: [1, 2], f.GONE: []}),
        (m.MASK_OPEN, {f.SITES: ["x" * 5000], f.TAGS: [b""]}),
        (m.MASK_OPEN, {}),
    ],
)
def test_records_of_another_form_are_refused(
    kind: str, record: dict[str, Any], small: SmallHome, site: LocalSite
) -> None:
    there = Coordinator(small.app(site), site)
    there.keys()
    assert code(there.ask(kind, record)) == "MMF-394"


def test_the_policy_may_list_the_peers(tmp_path: Path, study: Study, site: LocalSite) -> None:
    known = [enrolled(name).public.fingerprint for name in OTHERS]
    strict = f'{OPEN}peers = ["{known[0]}", "{known[1].replace(" ", "").upper()}"]\n'
    small = SmallHome.make(tmp_path, strict)
    small.approve(study)
    there = Coordinator(small.app(site), site)
    there.keys()
    assert code(there.shares()) == "MMF-386"
    assert PEERS not in small.kinds()
    small.policy(f"{strict[:-2]}, {known[2]!r}]\n")
    assert [code(answer) for answer in there.all()] == [""] * 5


def test_counts_stay_hidden_where_the_policy_says_so(tmp_path: Path, study: Study, site: LocalSite) -> None:
    small = SmallHome.make(tmp_path, f"{OPEN}hide_counts = true\n")
    small.approve(study)
    app = small.app(site)
    hello = app(question(m.HELLO, study.hash, 0), context())
    assert hello.content.metric_records[m.METRICS][m.NUM_EXAMPLES] == study.aggregation.minimum_patients
    held_out = app(question(m.EVALUATE_HELD_OUT, study.hash, 1, **weights_of(site)), context())
    assert dict(held_out.content.metric_records[m.METRICS]) == {m.NUM_EXAMPLES: 0, m.LOSS: 0.0}
    there = Coordinator(app, site)
    assert all(a.content.metric_records[m.METRICS][m.NUM_EXAMPLES] == 0 for a in there.all())
    plain = secure_study(secure=False)
    violations = small.guardian().policy().violations(plain, "")
    assert [violation.code for violation in violations] == ["MMF-395"]


def test_more_patients_than_sums_can_hold_are_an_error(site: LocalSite) -> None:
    layout = Layout({}, FixedPoint(1.0))
    with pytest.raises(ValueError, match="overflow"):
        numbers_of(LocalUpdate({}, 2_000_000, 0.1), {}, layout)


def test_the_gate_lets_no_update_out_without_masks(site: LocalSite) -> None:
    update = LocalUpdate({}, 20, 0.1)
    asked = question(m.TRAIN, site.study.hash, 1)
    with pytest.raises(PrivacyError) as caught:
        Gate.for_simulation(site.study, site.name).update(asked, update, 1.0, {})
    assert caught.value.code == "MMF-394"


def test_sums_of_features_leave_masked_and_a_study_has_one_set_of_them(tmp_path: Path) -> None:
    federated = small_study(aggregation={"minimum_sites": 3, "secure": True, "secure_threshold": 0.6})
    small = SmallHome.make(tmp_path)
    small.approve(federated)

    def told(site: LocalSite) -> Message:
        there = Coordinator(small.app(site), site, number=0)
        there.keys()
        there.shares()
        record = {f.SITES: [p.site for p in there.listed], f.SEALED: [s[0] for s in there.sealed]}
        return there.ask(m.MOMENTS, record)

    first, second = (told(local_site(federated)) for _ in range(2))
    assert [code(first), code(second)] == ["", ""]
    arrays = [answer.content.array_records[m.ARRAYS][f.MASKED].numpy() for answer in (first, second)]
    assert not (arrays[0] == arrays[1]).any()
    names = [e.body["sums"] for e in small.ledger.entries() if e.body.get("kind") == m.MOMENTS]
    sums = local_site(federated).moments().to_arrays()
    flat = encode_wide(np.concatenate([sums[key].numpy().reshape(-1) for key in sorted(sums)]))
    assert names[0] == names[1]
    assert hashlib.sha256(flat.tobytes()).hexdigest() not in names, "sums could be guessed from their hash"
    assert names[0] == keyed_digest(secret_of(small.home), "sums", flat.tobytes()).hex()
    assert code(told(local_site(federated, size=41))) == "MMF-344"
    huge = local_site(federated)
    huge.patients.nodes["clinical_feature"].values.mul_(1e18)
    assert code(told(huge)) == "MMF-383"
    plain = question(m.MOMENTS, federated.hash, 0)
    assert code(small.app(local_site(federated))(plain, context())) == "MMF-394"


def test_in_a_simulation_sites_sign_with_keys_of_their_own(site: LocalSite) -> None:
    there = Coordinator(make_client_app(lambda _: site), site)
    assert [code(answer) for answer in there.all()] == [""] * 5
    assert there.listed[0].fault(there.session) == ""


def test_a_private_update_is_paid_first_and_masked_then(tmp_path: Path) -> None:
    private = secure_study().with_changes(
        privacy={"mode": "dp", "epsilon": 8.0, "delta": 1e-3}, training={"gradient_clip": None}
    )
    small, site = SmallHome.make(tmp_path, f"{OPEN}largest_delta = 0.01\n"), local_site(private)
    small.approve(private)
    there = Coordinator(small.app(site), site)
    assert [code(answer) for answer in there.all()] == [""] * 5
    kinds = small.kinds()
    assert kinds.index("privacy-plan") < kinds.index("privacy-step")
    receipts = [e for e in small.ledger.entries() if e.kind == "receipt" and e.body["kind"] == m.TRAIN]
    last_step = max(e.number for e in small.ledger.entries() if e.kind == "privacy-step")
    assert last_step < receipts[0].number
    assert receipts[0].body["metrics"][m.LOSS] == 0.0
