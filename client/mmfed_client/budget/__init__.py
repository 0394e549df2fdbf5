"""A site's budget of privacy: what may be spent, what was, and how to say it."""

from mmfed_client.budget.budget import Budget, refuse_over_budget
from mmfed_client.budget.words import Spending, entry_in_words, outlook, spending_of

__all__ = ["Budget", "Spending", "entry_in_words", "outlook", "refuse_over_budget", "spending_of"]
