"""A site's budget of privacy: what may be spent, what was, and how to say it."""

from mmfed_client.budget.budget import Budget, refuse_over_budget

__all__ = ["Budget", "refuse_over_budget"]
