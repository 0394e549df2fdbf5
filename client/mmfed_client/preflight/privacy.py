"""The item about differential privacy: can this site keep the study's promise, and who pays for all of it?"""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterator
from dataclasses import replace

from mmfed_client.budget import refuse_over_budget, spending_of
from mmfed_client.budget.words import up
from mmfed_client.ledger import Ledger
from mmfed_client.policy import Policy
from mmfed_client.preflight.finding import Finding, fault, from_error, not_applicable, ok, warning
from mmfed_client.preflight.subject import Subject
from mmfed_client.privacy.shared import refuse_inexact
from mmfed_client.privacy.spending import MemorySpender
from mmfed_client.site import SiteData
from mmfed_client.training import LocalSite
from mmfed_common.errors import MmfedError
from mmfed_common.masking.shared_noise import honest_sites, least_round, shares_noise
from mmfed_common.privacy import PrivacyPlan, holds_against
from mmfed_common.schedule import trained_parameters
from mmfed_common.study import Study

MUCH_NOISE = 0.25
"""Of what all patients together can contribute to a weight, over all steps: from here on a person is told."""
NO_LIMIT = 1e9


def privacy(subject: Subject, data: SiteData | None) -> Iterator[Finding]:
    """Before round 1: how much noise the study's ε needs with this site's patients, and what is left."""
    study = subject.study
    if study is None:
        yield not_applicable("there is no study yet")
        return
    if study.privacy.mode == "none":
        yield not_applicable("the study trains without differential privacy")
        return
    if data is None:
        yield not_applicable("the patients could not be counted: see the item cohort")
        return
    site = LocalSite(study, data)
    try:
        plan = PrivacyPlan.of(study, len(site.fit))
        if shares_noise(study):
            refuse_inexact(least_share(study, plan), most_parameters(site), site.name)
        yield from _budget(subject, study, plan)
    except MmfedError as error:
        yield from_error(error)


def trial_means(site: LocalSite) -> tuple[MemorySpender, bytes]:
    """Who pays for a step whose result is thrown away: nobody; its noise is of a secret made for it."""
    plan = PrivacyPlan(len(site.fit), NO_LIMIT, 0.5, 1.0, 1.0, 1, 1)
    return MemorySpender(plan), secrets.token_bytes(32)


def least_share(study: Study, plan: PrivacyPlan) -> PrivacyPlan:
    """The plan for the study's smallest round, in which a site's share of the noise is largest."""
    return replace(plan, honest_sites=honest_sites(study, *least_round(study.aggregation)))


def most_parameters(site: LocalSite) -> int:
    """How many numbers move in the stage that moves most."""
    sizes = {name: math.prod(shape) for name, (shape, _) in site.shapes.items()}
    moved = (
        trained_parameters(sizes, site.model.block_of, stage, site.study.privacy, site.study.model.frozen)
        for stage in site.study.training.stages
    )
    return max(sum(sizes[name] for name in names) for names in moved)


def _budget(subject: Subject, study: Study, plan: PrivacyPlan) -> Iterator[Finding]:
    home = subject.home
    shown = (
        f"{plan.patients} patients, {plan.total} steps: noise {plan.sigma:g} on the sum of "
        f"{plan.rate * plan.patients:.3g} patients a step gives ε = {plan.epsilon:g} at δ = {plan.delta:g}"
    )
    if not home.policy_file.is_file():
        yield ok(shown)
        return
    policy, ledger = Policy.load(home.policy_file), Ledger(home.ledger_file)
    try:
        refuse_over_budget(ledger.privacy(), study, policy, plan.patients)
    except MmfedError as error:
        yield fault(error.code, f"{shown}; {error.what}", str(home.policy_file))
        return
    found = spending_of(ledger, policy)
    left = f"{up(found.spent)} of {policy.most_epsilon_lifetime:g} was spent at this site before"
    if shares_noise(study):
        yield ok(f"{shown}, of which this site adds a share: {holds_against(study)} {left}")
        return
    weight = plan.sigma / (plan.rate * plan.patients * math.sqrt(plan.total))
    if weight > MUCH_NOISE:
        yield warning("MMF-371", f"{shown}: {weight:.0%} of what all can add to a weight")
    else:
        yield ok(f"{shown}; {left}", str(home.ledger_file))
