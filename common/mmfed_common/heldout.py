"""Which patients are held out: a function of the study and the patient id, fixed before round 1.

Promise 10 (no test patient trains) rests on this module: every step that reads data for training calls
:meth:`HeldOutRule.refuse_held_out`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmfed_common.errors import StudyError


def hash_fraction(seed: int, patient_id: str, purpose: str = "held-out") -> float:
    """Map a patient id to [0, 1), the same on every machine."""
    digest = hashlib.sha256(f"{seed}\x1f{purpose}\x1f{patient_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2.0**64


def hash_folds(seed: int, patient_ids: Sequence[str], folds: int) -> tuple[int, ...]:
    """Lay patients into folds by hash, the same on every machine: 0 … ``folds`` - 1."""
    return tuple(int(hash_fraction(seed, patient, "fold") * folds) for patient in patient_ids)


@dataclass(frozen=True)
class HeldOutRule:
    """The study's held-out rule.

    Attributes
    ----------
    rule
        ``"hash"``: a fixed fraction by hash of the patient id. ``"fold"``: the fold number ``fold`` of
        ``folds``, from the cohort's ``fold_column``; a cohort without one is refused, so that no site
        falls back to another rule than the others.
        ``"site"``: every patient of the sites named. ``"none"``: nobody.
    """

    seed: int
    rule: str
    fraction: float = 0.2
    folds: int = 5
    fold: int = 0
    sites: tuple[str, ...] = ()

    def held_out(
        self, patient_ids: Sequence[str], site: str, cohort_folds: Sequence[int] | None = None
    ) -> npt.NDArray[np.bool_]:
        """Tell for each patient whether it is held out.

        Returns
        -------
        (patients,) bool

        Raises
        ------
        StudyError
            ``MMF-507`` when the rule needs folds that the cohort does not have, or they do not fit it.
        """
        n = len(patient_ids)
        if self.rule == "none":
            return np.zeros(n, dtype=np.bool_)
        if self.rule == "site":
            return np.full(n, site in self.sites, dtype=np.bool_)
        if self.rule == "hash":
            return np.array(
                [hash_fraction(self.seed, p) < self.fraction for p in patient_ids], dtype=np.bool_
            )
        if cohort_folds is None:
            raise StudyError("MMF-507", "the study holds out by fold, and the cohort has no folds", site)
        number = [int(f) for f in cohort_folds]
        if len(number) != n or (n and not 0 <= min(number) <= max(number) < self.folds):
            raise StudyError("MMF-507", f"folds must be 0 … {self.folds - 1}, one for each patient", site)
        return np.array([f == self.fold for f in number], dtype=np.bool_)

    @staticmethod
    def refuse_held_out(is_held_out: npt.NDArray[np.bool_], patient_ids: Sequence[str]) -> None:
        """Raise ``MMF-505`` if any of these patients, about to train, is held out."""
        if bool(np.any(is_held_out)):
            first = patient_ids[int(np.flatnonzero(is_held_out)[0])]
            raise StudyError("MMF-505", f"patient {first} is held out and must not train")
