"""Studies that somebody hostile would offer, each with the code by which the site must refuse it."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from tests.client.small_home import NOON, SmallHome
from tests.simulations.small_federation import small_study

from mmfed_common.signed_study import SignedStudy
from mmfed_common.signing import CoordinatorKey
from mmfed_common.study import Study

Offer = Callable[[SmallHome], SignedStudy]
PACK = {"file": "pack.mmfk", "sha256": "0" * 64}


def changed(**fields: Any) -> Offer:
    """A rightly signed study, changed afterwards."""
    return lambda small: small.signed(small_study()).model_copy(update=fields)


def document(text: str) -> Offer:
    """Any text, rightly signed by the coordinator."""

    def offer(small: SmallHome) -> SignedStudy:
        unsigned = small.signed(small_study()).model_copy(update={"document": text})
        return unsigned.model_copy(
            update={"signature": small.coordinator.sign(unsigned.signed_bytes()).hex()}
        )

    return offer


def content(change: Callable[[dict[str, Any]], object]) -> Offer:
    """A study's content, changed, then written canonically and rightly signed."""
    parsed = json.loads(small_study().canonical())
    change(parsed)
    return document(json.dumps(parsed, sort_keys=True, separators=(",", ":"), ensure_ascii=False))


def study(**sections: dict[str, Any]) -> Offer:
    """A valid study with other sections, rightly signed."""
    return lambda small: small.signed(small_study().with_changes(**sections))


def another_key(small: SmallHome) -> SignedStudy:
    """Signed by somebody else who says so."""
    return SignedStudy.sign(small_study(), CoordinatorKey.generate(), "lab", 30, NOON)


def forged(small: SmallHome) -> SignedStudy:
    """Signed by somebody else who claims to be the coordinator."""
    fingerprint = small.coordinator.public.fingerprint
    unsigned = another_key(small).model_copy(update={"coordinator_fingerprint": fingerprint})
    signature = CoordinatorKey.generate().sign(unsigned.signed_bytes()).hex()
    return unsigned.model_copy(update={"signature": signature})


def of_another_study(small: SmallHome) -> SignedStudy:
    """The coordinator's signature, but of another document."""
    other = small.signed(small_study(study={"name": "other"}))
    return small.signed(small_study()).model_copy(update={"signature": other.signature})


def dated(days: int) -> Offer:
    """Signed so many days from now, for 30 days."""
    return lambda small: SignedStudy.sign(
        small_study(), small.coordinator, "lab", 30, NOON + timedelta(days=days)
    )


def weaker_after_signing(small: SmallHome) -> SignedStudy:
    """The document's privacy is weakened after it was signed."""
    signed = small.signed(small_study())
    return signed.model_copy(
        update={"document": signed.document.replace('"epsilon":null', '"epsilon":900.0')}
    )


def of_another_federation(small: SmallHome) -> SignedStudy:
    """Meant for the coordinator's other federation."""
    return SignedStudy.sign(small_study(), small.coordinator, "factory", 30, NOON)


def with_pack(name: str) -> Offer:
    """A pack whose file is called so."""
    return study(contract={"knowledge": {**PACK, "file": name}})


def with_text(key: str, text: str) -> Offer:
    """A header with this text."""
    return study(study={key: text})


CANONICAL = small_study().canonical().decode()
HEADER = json.dumps(json.loads(CANONICAL)["study"])
UNTIL_2099 = "2099-01-01T00:00:00Z"

OFFERS: dict[str, tuple[Offer, str]] = {
    "no signature": (changed(signature="0" * 128), "MMF-414"),
    "signed by another key": (another_key, "MMF-414"),
    "signed by another key in the coordinator's name": (forged, "MMF-414"),
    "signature of another study": (of_another_study, "MMF-414"),
    "epsilon raised after signing": (weaker_after_signing, "MMF-414"),
    "document exchanged after signing": (changed(document="{}"), "MMF-414"),
    "life prolonged after signing": (changed(expires=UNTIL_2099), "MMF-414"),
    "issue date moved after signing": (changed(issued="2020-01-01T00:00:00Z"), "MMF-414"),
    "federation exchanged after signing": (changed(federation="factory"), "MMF-414"),
    "software exchanged after signing": (changed(software="mmfed 9; flwr 9; torch 9"), "MMF-414"),
    "signed for another federation": (of_another_federation, "MMF-417"),
    "expired": (dated(-31), "MMF-415"),
    "not valid yet": (dated(2), "MMF-415"),
    "code as a key": (content(lambda c: c.update(code="import os")), "MMF-501"),
    "code in the training section": (content(lambda c: c["training"].update(on_batch="exec")), "MMF-501"),
    "extra tensors asked": (content(lambda c: c["training"].update(also_send=["patients"])), "MMF-501"),
    "a held-out rule of their own": (content(lambda c: c["evaluation"].update(rule="theirs")), "MMF-501"),
    "a strategy of their own": (content(lambda c: c["aggregation"].update(strategy="all")), "MMF-501"),
    "a study's name that is a path": (content(lambda c: c["study"].update(name="../../root")), "MMF-501"),
    "a floor of no patients": (content(lambda c: c["aggregation"].update(minimum_patients=0)), "MMF-501"),
    "a cell of no patients": (content(lambda c: c["evaluation"].update(minimum_cell=0)), "MMF-501"),
    "a learning rate that is no number": (document(CANONICAL.replace("0.05", "NaN")), "MMF-418"),
    "a key written twice": (document(CANONICAL[:-1] + ',"study":' + HEADER + "}"), "MMF-418"),
    "spaces that hide a second reading": (document(CANONICAL.replace(":", ": ")), "MMF-418"),
    "no JSON": (document("study = 1"), "MMF-418"),
    "a pickle": (document(pickle.dumps(Study, 0).decode("ascii")), "MMF-418"),
    "deep nesting": (document("[" * 100_000), "MMF-418"),
    "a guarantee that cannot be given": (
        content(lambda c: c["privacy"].update(mode="dp", epsilon=1e9, delta=0.5)),
        "MMF-501",
    ),
    "a pack above the folder": (with_pack("../../etc/passwd"), "MMF-331"),
    "a pack at an absolute path": (with_pack("/etc/passwd"), "MMF-331"),
    "a pack in somebody's home": (with_pack("~root"), "MMF-331"),
    "a pack on a drive": (with_pack("C:pack"), "MMF-331"),
    "a pack at another address": (with_pack("http://127.0.0.1/x"), "MMF-331"),
    "a pack without a name": (with_pack(""), "MMF-331"),
    "a description that clears the screen": (with_text("description", "harmless\x1b[2J"), "MMF-331"),
    "a contact that reads backwards": (with_text("contact", "a\u202egro.live"), "MMF-331"),
    "a version with a hidden character": (with_text("version", "1\u200b"), "MMF-331"),
    "a description without end": (with_text("description", "a" * 100_000), "MMF-331"),
    "a column whose name hides": (
        study(contract={"clinical": {"mar\u200bker": {"kind": "number"}}}),
        "MMF-331",
    ),
    "a model without end": (content(lambda c: c["model"].update(hidden=10**9)), "MMF-501"),
    "layers without end": (content(lambda c: c["model"].update(fusion_layers=10**9)), "MMF-501"),
    "epochs without end": (content(lambda c: c["training"].update(local_epochs=10**9)), "MMF-501"),
    "a deadline without end": (
        content(lambda c: c["aggregation"].update(deadline_seconds=1e300)),
        "MMF-501",
    ),
    "a number that overflows": (document(CANONICAL.replace("3600.0", "1e999")), "MMF-501"),
    "a key that clears the screen": (content(lambda c: c.update({"\x1b[2J": 1})), "MMF-501"),
    "the site's own file as a pack": (with_pack("../key.pem"), "MMF-331"),
    "rounds without end": (study(training={"stages": [{"level": "clinical", "rounds": 10**6}]}), "MMF-326"),
    "a strategy that the site does not allow": (study(aggregation={"strategy": "fedadam"}), "MMF-325"),
}
