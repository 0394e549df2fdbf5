"""What a ledger's receipts say left, counted as they are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from mmfed_common import messages as m
from mmfed_common.ledger import Entry

RECEIPT = "receipt"
TRAINED = frozenset({m.TRAIN, m.MOMENTS})
EVALUATED = frozenset({m.EVALUATE_HELD_OUT, m.EVALUATE_VALIDATION})


class Receipts:
    """The receipts of a ledger, without what makes them long.

    Attributes
    ----------
    answers
        (study, kind, round) → how many answers left. Errors count where that they happened could say
        something about patients (``telling``).
    sums
        Study → name of the sums of features that left for it.
    told
        Studies for which something that was computed from patients left, in order.
    """

    def __init__(self) -> None:
        self.answers: Counter[tuple[str, str, int]] = Counter()
        self.sums: dict[str, str] = {}
        self.told: dict[str, None] = {}

    def take_in(self, entry: Entry) -> None:
        """Count an entry; one that is no receipt is passed over."""
        body = entry.body
        if entry.kind != RECEIPT:
            return
        if "error" not in body or "telling" in body:
            self.answers[body["study"], body["kind"], body["round"]] += 1
        if "sums" in body:
            self.sums[body["study"]] = body["sums"]
        if "error" not in body and _of_patients(body):
            self.told[body["study"]] = None


def _of_patients(body: Mapping[str, Any]) -> bool:
    """An evaluation of nobody, as below the least cell or under differential privacy, tells nothing."""
    if body["kind"] in EVALUATED:
        return bool(body["metrics"].get(m.NUM_EXAMPLES))
    return body["kind"] in TRAINED
