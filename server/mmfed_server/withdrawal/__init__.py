"""Sites that leave a study: what they contributed, and runs that are trained again without them."""

from mmfed_server.withdrawal.contributions import Contribution, contributions_of, missing_receipts
from mmfed_server.withdrawal.register import LEFT, WITHOUT, Withdrawal, Withdrawals
from mmfed_server.withdrawal.replay import Replay, contributors_of, prepare_replay

__all__ = [
    "LEFT",
    "WITHOUT",
    "Contribution",
    "Replay",
    "Withdrawal",
    "Withdrawals",
    "contributions_of",
    "contributors_of",
    "missing_receipts",
    "prepare_replay",
]
