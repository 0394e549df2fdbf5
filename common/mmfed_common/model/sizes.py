"""Sizes of the model: presets, and what a study overrides."""

from __future__ import annotations

from dataclasses import dataclass

from mmfed_common.errors import ModelError
from mmfed_common.study import ModelSection


@dataclass(frozen=True)
class Sizes:
    """Widths and depths of the attention block."""

    hidden: int
    heads: int
    layers: int
    fusion_layers: int

    @staticmethod
    def of(section: ModelSection) -> Sizes:
        """Take the preset's sizes where the study gives none.

        Raises
        ------
        ModelError
            ``MMF-609`` when ``hidden`` is not a multiple of ``heads``.
        """
        preset = PRESETS[section.preset]
        sizes = Sizes(
            preset.hidden if section.hidden is None else section.hidden,
            preset.heads if section.heads is None else section.heads,
            preset.layers if section.layers is None else section.layers,
            preset.fusion_layers if section.fusion_layers is None else section.fusion_layers,
        )
        if sizes.hidden % sizes.heads:
            what = f"hidden = {sizes.hidden} cannot be divided among {sizes.heads} heads"
            raise ModelError("MMF-609", what, "[model]")
        return sizes


PRESETS: dict[str, Sizes] = {"small": Sizes(64, 4, 2, 1), "paper": Sizes(256, 8, 3, 2)}
