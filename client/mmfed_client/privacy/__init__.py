"""Differential privacy at a site: training by clipped gradients and noise, and the account of its cost.

Other packages use ``train_private_round``, ``private_sums``, ``means_of`` and ``removal_test``.
"""

from mmfed_client.privacy.means import Means, means_of
from mmfed_client.privacy.round import train_private_round
from mmfed_client.privacy.separable import Sensitivity, removal_test
from mmfed_client.privacy.shared import NoisyShare, noisy_share
from mmfed_client.privacy.spender import Spender
from mmfed_client.privacy.sums import private_sums

__all__ = [
    "Means",
    "NoisyShare",
    "Sensitivity",
    "Spender",
    "means_of",
    "noisy_share",
    "private_sums",
    "removal_test",
    "train_private_round",
]
