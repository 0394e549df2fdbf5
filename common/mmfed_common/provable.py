"""What a study cannot ask for together with differential privacy, as no guarantee would hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmfed_common.bounds import unbounded
from mmfed_common.errors import PrivacyError, StudyError

if TYPE_CHECKING:
    from mmfed_common.study import Study

SHOWN = 8


def refuse_unprovable(study: Study, where: str = "") -> None:
    """Refuse a private study that takes something from patients beside clipped and noised gradients.

    Raises
    ------
    StudyError
        ``MMF-501`` when it pays for sums that it does not take.
    PrivacyError
        ``MMF-304`` for correlation edges from patients, ``MMF-305`` for a scaling from patients that is not
        paid for, ``MMF-361`` where a paid one has features without bounds, ``MMF-360`` for early stopping,
        ``MMF-365`` for a stage that compares patients with each other.
    """
    if study.privacy.mode != "dp":
        return
    contract = study.contract
    if "contrastive" in study.training.objectives:
        raise PrivacyError("MMF-365", 'a stage has `objective = "contrastive"`', where)
    if contract.relations.source == "site":
        what = 'the study sets `[contract.relations] source = "site"` and `[privacy] mode = "dp"`'
        raise PrivacyError("MMF-304", what, where)
    paid = contract.normalisation == "federated" and study.privacy.scaling_epsilon is not None
    if contract.normalisation != "reference" and not paid:
        what = f'the study sets `normalisation = "{contract.normalisation}"`'
        raise PrivacyError("MMF-305", what, where)
    if study.privacy.scaling_epsilon is not None and not paid:
        what = 'privacy.scaling_epsilon pays for noisy sums, which only `normalisation = "federated"` takes'
        raise StudyError("MMF-501", what, where)
    open_ended = unbounded(contract) if paid else ()
    if open_ended:
        more = f" and {len(open_ended) - SHOWN} more" if len(open_ended) > SHOWN else ""
        raise PrivacyError("MMF-361", f"{', '.join(open_ended[:SHOWN])}{more}", where)
    if study.training.patience is not None:
        raise PrivacyError("MMF-360", "the study sets `[training] patience`", where)
