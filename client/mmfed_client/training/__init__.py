"""Local training: what a site does with its patients in one round."""

from mmfed_client.training.compressing import as_sent
from mmfed_client.training.local import LocalUpdate, train_round
from mmfed_client.training.local_site import LocalSite
from mmfed_client.training.losses import LossSum, loss_of
from mmfed_client.training.personal import Personalised, personalise

__all__ = [
    "LocalSite",
    "LocalUpdate",
    "LossSum",
    "Personalised",
    "as_sent",
    "loss_of",
    "personalise",
    "train_round",
]
