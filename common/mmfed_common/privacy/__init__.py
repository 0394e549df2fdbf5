"""Privacy accounting: what noise a guarantee needs, what a schedule of noisy steps costs, a study's plan."""

from mmfed_common.mechanism import Mechanism
from mmfed_common.privacy.accounting import (
    ACCOUNTANT,
    MECHANISM,
    UNIT,
    composed,
    epsilon_of,
    noise_for,
)
from mmfed_common.privacy.plan import PrivacyPlan
from mmfed_common.privacy.told import holds_against, told_epsilon, told_privacy

__all__ = [
    "ACCOUNTANT",
    "MECHANISM",
    "UNIT",
    "Mechanism",
    "PrivacyPlan",
    "composed",
    "epsilon_of",
    "holds_against",
    "noise_for",
    "told_epsilon",
    "told_privacy",
]
