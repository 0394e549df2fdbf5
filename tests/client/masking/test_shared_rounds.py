"""A real site's rounds with shared noise: what is paid, what it refuses, what its people are told."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message
from scipy.optimize import brentq
from scipy.stats import norm
from tests.client.masking.coordinator import Coordinator, code
from tests.client.privacy.private_sites import private_site
from tests.client.privacy.shared_sites import shared_study
from tests.client.small_home import OPEN, SmallHome, weights_of
from tests.server.masking.protocol import enrolled

from mmfed_client.budget import entry_in_words, spending_of
from mmfed_client.masking.session import MaskingSession
from mmfed_client.policy import Policy
from mmfed_client.review.sentences import statements
from mmfed_client.training import LocalSite
from mmfed_common import messages as m
from mmfed_common.masking import fields as f
from mmfed_common.masking.keys import (
    adds_mask,
    agree,
    commitment_of,
    mask_seed,
    round_digest,
    set_digest,
)
from mmfed_common.masking.layout import HEAD
from mmfed_common.masking.shamir import SHARE_BYTES, recover
from mmfed_common.masking.stream import Mask, Vector, add_masks
from mmfed_common.privacy import PrivacyPlan, epsilon_of


def shared_site(
    tmp_path: Path, policy: str = "allow_shared_noise = true\n", **aggregation: Any
) -> tuple[SmallHome, LocalSite]:
    study = shared_study(aggregation=aggregation)
    small = SmallHome.make(tmp_path, f"{OPEN}largest_delta = 0.01\n{policy}")
    if policy:
        small.approve(study)
    return small, private_site(study, name="site-0")


def opened_by_itself(there: Coordinator, answer: Message) -> Vector:
    """The site's own numbers: its masks taken off with the secrets of all peers, and its own seed."""
    vector = answer.content.array_records[m.ARRAYS][f.MASKED].numpy().copy()
    names = [peer.site for peer in there.listed]
    masked = there.session.seen_alike(round_digest(there.listed, 3)).seen_alike(set_digest(names))
    own = there.listed[0]
    for name, peer in there.peers.items():
        seed = mask_seed(masked, *agree(peer._masking, [own.masking]), name, own.site)
        add_masks(vector, [Mask(seed, negative=adds_mask(own.site, name))])
    shares = {
        place: peer._shares[own.site][:SHARE_BYTES] for place, peer in enumerate(there.peers.values(), 2)
    }
    found = recover(shares, 3, lambda seed: commitment_of(seed) == own.commitment)
    assert found is not None
    add_masks(vector, [Mask(found.secret, negative=True)])
    return vector


def test_each_attempt_at_a_round_with_shared_noise_is_paid_and_has_noise_of_its_own(tmp_path: Path) -> None:
    """The same weights, patients and sites: with all of the noise at the site it would cost nothing more."""
    small, site = shared_site(tmp_path)
    there, seen = Coordinator(small.app(site), site), []
    for _ in range(2):
        there.again()
        answers = there.all()
        assert [code(answer) for answer in answers] == [""] * 5
        seen.append(opened_by_itself(there, answers[2]))
    plan = PrivacyPlan.of(site.study, len(site.fit))
    account = small.ledger.privacy().of(site.study.hash)
    assert account is not None
    assert account.spent == (plan.mechanism(2),)
    assert (account.honest_sites, account.colluding_sites) == (2, 1)
    assert not (seen[0][HEAD:] == seen[1][HEAD:]).any()
    assert [int(vector[0]) for vector in seen] == [len(site.fit)] * 2
    assert [int(vector[1]) for vector in seen] == [0, 0]  # no loss


def test_what_is_left_of_the_budget_ends_the_attempts(tmp_path: Path) -> None:
    small, site = shared_site(tmp_path)
    there = Coordinator(small.app(site), site)
    codes = []
    for _ in range(5):  # three rounds, and one for rounds that are broken off
        there.again()
        there.keys()
        there.shares()
        codes.append(code(there.ask(m.TRAIN, there.for_me(), **weights_of(there.site))))
    assert codes == ["", "", "", "", "MMF-308"]
    spent = small.ledger.privacy().of(site.study.hash)
    assert spent is not None
    assert spent.steps == 4
    assert epsilon_of(spent.spent, 1e-3) <= 8.0


def test_the_epsilon_in_the_ledger_is_that_of_the_gaussian_mechanism(tmp_path: Path) -> None:
    """Balle and Wang 2018, theorem 8: T steps of noise σ are one of σ / √T, whose δ is known exactly."""
    small, site = shared_site(tmp_path)
    for number in (1, 2, 3):
        there = Coordinator(small.app(site), site, number)
        assert [code(answer) for answer in there.all()] == [""] * 5
    (study,) = spending_of(small.ledger, None).studies
    (mechanism,) = small.ledger.privacy().spent()
    mu = math.sqrt(3) / mechanism.noise_multiplier

    def delta(epsilon: float) -> float:
        upper = norm.cdf(mu / 2 - epsilon / mu)
        return float(upper - math.exp(epsilon) * norm.cdf(-mu / 2 - epsilon / mu))

    exact = brentq(lambda epsilon: delta(epsilon) - 1e-3, 0.0, 50.0)
    assert study.spent == pytest.approx(exact, rel=0.01)
    assert study.spent >= exact * (1 - 1e-4)
    assert "shared by 2 sites or more" in study.text
    words = [entry_in_words(entry.kind, entry.body) or "" for entry in small.ledger.entries()]
    assert sum("the noise is that of 2 sites together" in line for line in words) == 3


def test_numbers_that_could_not_be_masked_are_neither_computed_nor_paid(tmp_path: Path) -> None:
    small, site = shared_site(tmp_path)
    there = Coordinator(small.app(site), site)
    there.keys()
    there.shares()
    few = {f.SITES: ["site-0", "site-1"], f.SEALED: [b"", b""]}
    assert code(there.ask(m.TRAIN, few, **weights_of(site))) == "MMF-388"
    assert "privacy-plan" not in small.kinds()
    there.train()
    steps = small.kinds().count("privacy-step")
    assert code(there.ask(m.TRAIN, there.for_me(), **weights_of(site))) == "MMF-387"
    assert small.kinds().count("privacy-step") == steps == 1


def test_a_coordinator_cannot_have_noise_shared_by_fewer_sites_than_the_study_says(tmp_path: Path) -> None:
    """Of five sites three open a sum, so two quorums have one site in common: it might help.

    The study's own smallest round, three of four, is sound.
    """
    small, site = shared_site(tmp_path, minimum_sites=4, secure_threshold=0.6)
    there = Coordinator(small.app(site), site)
    rule = site.study.aggregation
    there.peers["site-4"] = MaskingSession(there.session, "site-4", enrolled("site-4"), rule)
    there.keys()
    assert code(there.shares(3)) == "MMF-397"
    assert "privacy-plan" not in small.kinds()
    there = Coordinator(small.app(site), site)
    there.keys()
    assert code(there.shares(2)) == "MMF-380"


def test_a_policy_that_does_not_allow_shared_noise_refuses_it(tmp_path: Path) -> None:
    """Also where differential privacy is demanded: a share is not that of the site alone."""
    small, site = shared_site(tmp_path, "")
    found = small.guardian().policy().violations(site.study, "")
    assert [violation.code for violation in found] == ["MMF-396"]
    strict = "require_privacy = true\nlargest_delta = 0.01\n"
    assert [v.code for v in Policy.from_text(strict).violations(site.study, "")] == ["MMF-396"]
    allowed = Policy.from_text(f"{strict}allow_shared_noise = true\n")
    assert allowed.violations(site.study, "") == []
    assert "holds for sums only" in " ".join(s.text for s in statements(site.study, allowed))


def test_a_policy_that_changes_its_mind_ends_it(tmp_path: Path) -> None:
    small, site = shared_site(tmp_path)
    there = Coordinator(small.app(site), site)
    there.keys()
    there.shares()
    small.policy(f"{OPEN}largest_delta = 0.01\n")
    assert code(there.ask(m.TRAIN, there.for_me(), **weights_of(site))) == "MMF-396"
    assert "privacy-plan" not in small.kinds()
