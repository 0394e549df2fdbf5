"""Faults of what may run: the study, its signature and software, the policy, the approval, the knowledge pack."""

# ruff: noqa: E501  (one case a line)

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from tests.client.cohort.conftest import GENES
from tests.client.preflight.faults_machine import removed, written
from tests.client.preflight.planting import Bench, Plant, Planted
from tests.client.preflight.small_site import POLICY, Site

from mmfed_client.preflight import State
from mmfed_common.knowledge import KnowledgePack
from mmfed_common.names import utc_now
from mmfed_common.signed_study import SignedStudy
from mmfed_common.signing import CoordinatorKey


def given(make: Callable[[Site], str]) -> Plant:
    """Check against a document that is given."""

    def plant(site: Site, bench: Bench) -> None:
        site.given = bench.folder / "study.json"
        site.given.write_text(make(site))

    return plant


def changed(**values: Any) -> Callable[[Site], str]:
    """Change fields of the signed study without signing it again."""

    def make(site: Site) -> str:
        return site.coordinator.sign(site.study).model_copy(update=values).to_json()

    return make


def resigned(**values: Any) -> Callable[[Site], str]:
    """Let the coordinator sign other fields."""

    def make(site: Site) -> str:
        key = site.coordinator.federation.coordinator_key
        signed = site.coordinator.sign(site.study).model_copy(update=values)
        return signed.model_copy(update={"signature": key.sign(signed.signed_bytes()).hex()}).to_json()

    return make


def forged(site: Site) -> str:
    signed = site.coordinator.sign(site.study)
    document = signed.document.replace('"seed":7', '"seed":9')
    return signed.model_copy(update={"document": document}).to_json()


def of_another_coordinator(site: Site) -> str:
    return SignedStudy.sign(site.study, CoordinatorKey.generate(), "lung", 90).to_json()


def unknown_key(site: Site) -> str:
    return json.dumps(json.loads(site.study.canonical()) | {"extra": {}})


def draft(site: Site, bench: Bench) -> None:
    site.given = bench.folder / "study.toml"
    site.given.write_text('[study]\nname = "small"\nseed = "seven"\n')


def expired(site: Site, bench: Bench) -> None:
    """Let signature and approval end while the study is still there."""
    site.content["study"]["version"] = "2"
    site.approve(days=5, now=utc_now() - timedelta(days=9))


def other_file_name(site: Site, bench: Bench) -> None:
    """Exchange the approved study for another one that the coordinator signed."""
    approved = next(site.home.studies.glob("*.json"))
    site.content["study"]["seed"] = 99
    approved.write_text(site.coordinator.sign(site.study).to_json())


def software(**versions: str) -> Callable[[Site], str]:
    def make(site: Site) -> str:
        line = site.coordinator.sign(site.study).software
        parts = dict(part.split(" ") for part in line.split("; ")) | versions
        return resigned(software="; ".join(f"{name} {number}" for name, number in parts.items()))(site)

    return make


def policy(text: str) -> Plant:
    return written("policy.toml", POLICY + text)


def two_people(site: Site, bench: Bench) -> None:
    policy("two_person = true\n")(site, bench)
    site.content["study"]["version"] = "2"
    site.approve()


def with_pack(site: Site, kept: Callable[[KnowledgePack], bytes | KnowledgePack], bench: Bench) -> None:
    """Let the study use a knowledge pack, and keep something under its name."""
    pack = KnowledgePack.assemble(GENES)
    site.content["contract"]["gene"]["panel"] = "knowledge"
    site.content["contract"]["knowledge"] = {"file": "pack.mmfk", "sha256": pack.sha256}
    site.approve()
    file = site.home.pack_file(pack.sha256)
    what = kept(pack)
    if isinstance(what, bytes):
        file.write_bytes(what)
    else:
        what.save(file)
    file.chmod(0o600)


def pack_damaged(site: Site, bench: Bench) -> None:
    with_pack(site, lambda pack: b"\x1f\x8b no pack", bench)


def other_pack(site: Site, bench: Bench) -> None:
    with_pack(site, lambda pack: KnowledgePack.assemble((*GENES, "BRCA1")), bench)


def too_much_noise(site: Site, bench: Bench) -> None:
    """Ask for an ε for which so few patients vanish in the noise."""
    site.content["contract"]["normalisation"] = "reference"
    site.content["privacy"] = {"mode": "dp", "epsilon": 0.05, "delta": 1e-3}
    site.home.policy_file.write_text("largest_delta = 0.01\n")
    site.approve()


ENDED = frozenset({"MMF-333", "MMF-415"})
FAULTS: dict[str, Planted] = {
    "study forged": Planted(given(forged), "study", "MMF-414", "by telephone", "changed"),
    "study of another coordinator": Planted(
        given(of_another_coordinator), "study", "MMF-414", "by telephone", "another key"
    ),
    "study of another federation": Planted(
        given(resigned(federation="colon")), "study", "MMF-417", "--home", "colon"
    ),
    "signature expired": Planted(expired, "study", "MMF-415", "sign the study again", "expired", also=ENDED),
    "study for next year": Planted(
        given(resigned(issued="2098-01-01T00:00:00Z", expires="2099-01-01T00:00:00Z")),
        "study",
        "MMF-415",
        "clock",
        "2098",
    ),
    "study cut short": Planted(
        given(lambda site: site.coordinator.sign(site.study).to_json()[:500]),
        "study",
        "MMF-418",
        "mmfed-client review",
    ),
    "study with an unknown key": Planted(given(resigned(document="{}")), "study", "MMF-501", "docs/study.md"),
    "draft with a wrong value": Planted(draft, "study", "MMF-501", "docs/study.md", "seed"),
    "study exchanged": Planted(other_file_name, "study", "MMF-341", "Restore the signed study"),
    "other mmfed": Planted(
        given(software(mmfed="9.9.9")), "study's software", "MMF-136", "mmfed 9.9.9", "mmfed is 9.9.9 there"
    ),
    "other torch": Planted(
        given(software(torch="2.8.0")),
        "study's software",
        "MMF-136",
        "torch 2.8.0",
        "torch is 2.8.0 there",
        State.WARNING,
    ),
    "policy missing": Planted(
        removed("policy.toml"), "policy", "MMF-320", "docs/policy.md", "no policy.toml"
    ),
    "policy with an unknown key": Planted(
        policy("most_round = 3\n"), "policy", "MMF-321", "docs/policy.md", "most_round"
    ),
    "policy: strategy": Planted(
        policy('strategies = ["fedprox"]\n'), "policy", "MMF-325", "strategies", "fedavg"
    ),
    "policy: rounds": Planted(policy("most_rounds = 3\n"), "policy", "MMF-326", "most_rounds", "4 rounds"),
    "policy: privacy": Planted(
        written("policy.toml", "require_privacy = true\n"), "policy", "MMF-328", "require_privacy"
    ),
    "policy: coordinator": Planted(policy('coordinators = ["abcd"]\n'), "policy", "MMF-324", "fingerprint"),
    "policy: moments": Planted(policy("allow_moments = false\n"), "policy", "MMF-330", "allow_moments"),
    "second person missing": Planted(
        two_people, "approval", "MMF-334", "Somebody else", "2 people", State.WARNING
    ),
    "approval ended": Planted(expired, "approval", "MMF-333", "sign it anew", "ended at", also=ENDED),
    "pack damaged": Planted(
        pack_damaged, "knowledge pack", "MMF-603", "Delete", "not a whole knowledge pack"
    ),
    "another pack": Planted(other_pack, "knowledge pack", "MMF-602", "Delete", "the study names"),
    "too much noise": Planted(too_much_noise, "privacy", "MMF-371", "epsilon", "patients"),
}
