"""The defences that an attack is measured against: the bundle's own study with one thing changed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmfed_common.compression import Compression
from mmfed_common.errors import ModelError
from mmfed_common.study import Study

RELEASED = "released"
"""The bundle as it is."""
COMPRESSIONS: dict[str, Compression] = {"fp16": "fp16", "bf16": "bf16", "int8": "int8"}
LARGEST_DELTA = 1e-5
"""At a small site n^-1.1 alone would promise next to nothing: .013 for fifty patients."""
DELTA_POWER = 1.1
OPEN = {"mode": "none", "epsilon": None, "delta": None, "scaling_epsilon": None, "noise": "site"}
"""The privacy section of a study without differential privacy."""
MASKS_NOTHING_RELEASED = {
    "secure": "masked sums hide single updates from the server; the released model is the same"
}
"""Why a defence has no bearing on what a released model tells."""


@dataclass(frozen=True)
class Defence:
    """One defence.

    Attributes
    ----------
    name
        ``released``, ``none``, ``dp8`` (any ε), ``fp16``, ``bf16``, ``int8`` or ``secure``.
    epsilon
        Of ``dp…``; None otherwise.
    """

    name: str
    epsilon: float | None = None

    @staticmethod
    def parse(name: str) -> Defence:
        """Read a name.

        Raises
        ------
        ModelError
            ``MMF-620`` when there is no such defence.
        """
        if name in (RELEASED, "none", "secure", *COMPRESSIONS):
            return Defence(name)
        found = re.fullmatch(r"dp(\d+(?:\.\d+)?)", name)
        if found is None or float(found[1]) <= 0:
            known = ", ".join([RELEASED, "none", "dp8 (or another ε)", *COMPRESSIONS, "secure"])
            raise ModelError("MMF-620", f"{name!r} is none of {known}")
        return Defence(name, float(found[1]))

    @staticmethod
    def of(study: Study) -> Defence:
        """The strongest defence that a study has for its updates."""
        if study.privacy.mode == "dp" and study.privacy.epsilon is not None:
            return Defence(f"dp{study.privacy.epsilon:g}", study.privacy.epsilon)
        if study.aggregation.secure:
            return Defence("secure")
        return Defence(study.aggregation.compression)

    @property
    def compression(self) -> Compression:
        """In how many bits changes of weights travel."""
        return COMPRESSIONS.get(self.name, "none")

    @property
    def label(self) -> str:
        """What a table calls it."""
        if self.epsilon is not None:
            return f"DP, ε = {self.epsilon:g}"
        names = {RELEASED: "as released", "none": "no defence", "secure": "masked sums"}
        return names.get(self.name, f"{self.name} updates")

    def applied(self, study: Study, largest_site: int) -> Study:
        """The study with this defence and without any other.

        Under differential privacy nothing private may enter unpaid: scaling is by the study's references
        (unless the study pays for sums), relations are the study's, nothing stops early. δ is 1e-5, or, where
        that is less, ``largest_site`` to the power -1.1: below one in the number of patients at every site.

        Parameters
        ----------
        largest_site
            Training patients of the largest site.

        Raises
        ------
        StudyError
            ``MMF-501`` when the study cannot be run so.
        PrivacyError
            What the study's rules say against it.
        """
        if self.name == RELEASED:
            return study
        changes: dict[str, dict[str, Any]] = {
            "privacy": dict(OPEN),
            "aggregation": {"secure": self.name == "secure", "compression": "none"},
        }
        if self.name in COMPRESSIONS:
            changes["aggregation"]["compression"] = self.name
        if self.epsilon is not None:
            changes |= _private(study, self.epsilon, min(LARGEST_DELTA, largest_site**-DELTA_POWER))
        return study.with_changes(**changes)


def parse_defences(names: list[str] | None) -> list[Defence]:
    """Read the names given; ``released`` where none is."""
    return [Defence.parse(name) for name in dict.fromkeys(names or [RELEASED])]


def _private(study: Study, epsilon: float, delta: float) -> Mapping[str, dict[str, Any]]:
    contract = study.contract
    own = study.privacy.scaling_epsilon
    paid = contract.normalisation == "federated" and own is not None and own < epsilon
    relations = contract.relations.model_dump(mode="json")
    if contract.relations.source == "site":
        relations["source"] = "none"
    return {
        "privacy": {
            "mode": "dp",
            "epsilon": epsilon,
            "delta": delta,
            "scaling_epsilon": own if paid else None,
            "noise": "site",
        },
        "contract": {
            "normalisation": "federated" if paid else "reference",
            "relations": relations,
        },
        "training": {"patience": None, "validation_fraction": 0.0},
    }


def refuse_meaningless(defences: list[Defence], pointless: Mapping[str, str]) -> None:
    """Refuse a defence that has no bearing on an attack.

    Raises
    ------
    StudyError
        ``MMF-621``, with the reason.
    """
    for defence in defences:
        if defence.name in pointless:
            raise ModelError("MMF-621", pointless[defence.name], defence.name)
