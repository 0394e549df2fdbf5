"""Tasks: survival, response, toxicity and their weighted sum; every loss is separable over patients."""

from mmfed_common.tasks import multitask, response, survival, toxicity

__all__ = ["multitask", "response", "survival", "toxicity"]
