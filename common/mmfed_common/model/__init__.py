"""The hierarchical multimodal model: clinical, additive and full block over one shared topology.

Other packages use ``build_model``, ``MultimodalNetwork`` and ``Predictions``.
"""

from mmfed_common.model.network import MultimodalNetwork, build_model
from mmfed_common.model.predictions import Predictions

__all__ = ["MultimodalNetwork", "Predictions", "build_model"]
