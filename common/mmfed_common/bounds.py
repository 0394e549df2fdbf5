"""Public bounds of a feature, after its transform: what a contract says that any value lies between."""

from __future__ import annotations

import math

from mmfed_common.contract import Column, Contract, Layer


def bounds_of(source: Column | Layer) -> tuple[float, float] | None:
    """Give the least and the largest value that the contract allows; None where it does not bound them.

    An ordinal column's values are ranks; a layer's ``clip`` holds after its transform, ranges before it.
    """
    if isinstance(source, Column) and source.kind == "ordinal":
        return 0.0, float(len(source.values) - 1)
    low, high = -math.inf, math.inf
    if source.minimum is not None and source.maximum is not None:
        low, high = (_transformed(value, source.transform) for value in (source.minimum, source.maximum))
    if isinstance(source, Layer) and source.clip is not None:
        low, high = max(low, -source.clip), min(high, source.clip)
    return (low, high) if math.isfinite(low) and math.isfinite(high) and low < high else None


def unbounded(contract: Contract) -> tuple[str, ...]:
    """Names of columns and layers that the contract standardises without saying what bounds them."""
    sources: dict[str, Column | Layer] = {
        name: column for name, column in contract.columns.items() if column.kind in ("number", "ordinal")
    }
    if contract.gene is not None:
        sources |= {f"gene.{name}": layer for name, layer in contract.gene.layers.items()}
    for name, panel in (("protein", contract.protein), ("metabolite", contract.metabolite)):
        if panel is not None:
            sources[name] = panel.layer
    if contract.imaging is not None:
        sources["imaging"] = contract.imaging.layer
    return tuple(
        name
        for name, source in sources.items()
        if not (isinstance(source, Layer) and not source.standardise) and bounds_of(source) is None
    )


def _transformed(value: float, transform: str) -> float:
    if transform == "log1p":
        return math.log1p(max(value, 0.0))
    if transform == "signed_log1p":
        return math.copysign(math.log1p(abs(value)), value)
    return value
