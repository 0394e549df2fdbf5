"""The sparse operations of the model: a plain form, which is the oracle, and fast forms of the same maths."""

from mmfed_common.model.kernels.choice import Kernels, choose

__all__ = ["Kernels", "choose"]
