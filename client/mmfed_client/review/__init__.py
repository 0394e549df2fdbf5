"""Review: what a study would do here, in plain words, and what changed since the last approved one."""

from mmfed_client.review.describe import Change, Review, describe

__all__ = ["Change", "Review", "describe"]
