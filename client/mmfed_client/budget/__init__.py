"""A site's budget of privacy: what may be spent, what was, and how to say it."""

from mmfed_client.budget.budget import Budget, refuse_over_budget
from mmfed_client.budget.words import Spending, called, entry_in_words, names_of, outlook, spending_of

__all__ = [
    "Budget",
    "Spending",
    "called",
    "entry_in_words",
    "names_of",
    "outlook",
    "refuse_over_budget",
    "spending_of",
]
