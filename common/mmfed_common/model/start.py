"""First weights from a released model: what fits by name is taken over, the rest begins anew."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from mmfed_common.bundle import Bundle
from mmfed_common.errors import ModelError
from mmfed_common.model.axes import Axis, axes_of
from mmfed_common.node_names import NodeNames
from mmfed_common.study import Study
from mmfed_common.topology import Topology
from mmfed_common.trainable import is_frozen

PARTS: dict[str, str] = {
    "clinical.baseline": "baseline",
    "clinical.linear": "clinical",
    "clinical.log_variance": "task weights",
    "additive.pathways": "pathways",
    "additive.gates": "additive",
    "full.embeddings": "embeddings",
    "full.layers": "attention",
    "full.pools": "fusion",
    "full.fusion": "fusion",
    "full.gates": "gates",
    "full.decoders": "pre-training heads",
    "full.contrast": "pre-training heads",
}
"""The first two words of a parameter's name → the part of the model."""

BY_KIND = ("additive.gates", "full.embeddings")


@dataclass(frozen=True)
class PartTaken:
    """How many numbers of a part of the model were taken over, and whether it stays as it is."""

    part: str
    taken: int
    numbers: int
    frozen: bool


@dataclass(frozen=True)
class Taken:
    """What a study took over from a released model.

    Attributes
    ----------
    bundle
        The bundle's hash.
    study
        Name of the study that made it.
    parts
        Part by part, in the model's order.
    nodes
        Node type → how many of its nodes the bundle knows, and how many there are.
    """

    bundle: str
    study: str
    parts: tuple[PartTaken, ...]
    nodes: Mapping[str, tuple[int, int]]

    def as_dict(self) -> dict[str, Any]:
        """For results and diaries."""
        return asdict(self)


def start_from(
    bundle: Bundle, study: Study, topology: Topology, weights: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], Taken]:
    """Put a released model's weights into the first weights of a study.

    Genes, proteins, metabolites, pathways, clinical features, bins, outcomes and their classes go by their
    names, whatever their order; layers of the attention by the model's sizes, which must be the same.

    Parameters
    ----------
    bundle
        The released model, with the names of its nodes.
    study, topology
        Of the run that begins.
    weights
        The weights that it would begin with.

    Raises
    ------
    ModelError
        ``MMF-630`` when the bundle is not the one that the study names, or knows no names; ``MMF-631`` when
        nothing fits, or nothing of a part that is to stay as it is.
    """
    reference = study.model.start_from
    if reference is None or bundle.hash != reference.sha256:
        raise ModelError("MMF-630", f"the bundle's hash is {bundle.hash}")
    if bundle.names is None:
        raise ModelError("MMF-630", "it was released without the names of its nodes; export it again")
    names = NodeNames.of(topology)
    first: dict[str, Tensor] = {}
    counts: dict[tuple[str, bool], list[int]] = {}
    for name, begun in weights.items():
        found = bundle.state.get(name)
        old = () if found is None else axes_of(name, found.dim(), bundle.study, bundle.names)
        new = axes_of(name, begun.dim(), study, names)
        first[name], taken = _taken_over(begun, new, found, old)
        count = counts.setdefault((_part(name), is_frozen(name, study.model.frozen)), [0, 0])
        count[0] += taken
        count[1] += begun.numel()
    parts = tuple(PartTaken(part, count[0], count[1], frozen) for (part, frozen), count in counts.items())
    _refuse_nothing(parts, study, bundle)
    nodes = {
        kind: (len(set(listed) & set(bundle.names.nodes.get(kind, ()))), len(listed))
        for kind, listed in names.nodes.items()
        if kind != "imaging_feature"
    }
    return first, Taken(bundle.hash, bundle.study.study.name, parts, nodes)


def _taken_over(
    begun: Tensor, new: tuple[Axis, ...], found: Tensor | None, old: tuple[Axis, ...]
) -> tuple[Tensor, int]:
    """The weight with all that fits, and how many numbers that is."""
    if found is None or found.dim() != begun.dim():
        return begun, 0
    into, out_of = [], []
    for place, (here, there) in enumerate(zip(new, old, strict=True)):
        if here is None or there is None:
            if begun.shape[place] != found.shape[place]:
                return begun, 0
            every = torch.arange(begun.shape[place])
            into.append(every)
            out_of.append(every)
        else:
            if (len(here), len(there)) != (begun.shape[place], found.shape[place]):
                raise ValueError("names do not stand for the places of a weight")
            where: dict[Hashable, int] = {name: position for position, name in enumerate(there)}
            pairs = [(position, where[name]) for position, name in enumerate(here) if name in where]
            into.append(torch.tensor([pair[0] for pair in pairs], dtype=torch.int64))
            out_of.append(torch.tensor([pair[1] for pair in pairs], dtype=torch.int64))
    taken = begun.clone()
    block = found[torch.meshgrid(*out_of, indexing="ij")].to(begun)
    taken[torch.meshgrid(*into, indexing="ij")] = block
    return taken, block.numel()


def _part(parameter: str) -> str:
    words = parameter.split(".")
    start = ".".join(words[:2])
    return f"{PARTS[start]}: {words[2]}" if start in BY_KIND else PARTS[start]


def _refuse_nothing(parts: tuple[PartTaken, ...], study: Study, bundle: Bundle) -> None:
    where = f"bundle of {bundle.study.study.name}"
    if not any(part.taken for part in parts):
        raise ModelError("MMF-631", "no name and no size of it is one of this study's", where)
    for frozen in study.model.frozen:
        mine = [p for p in parts if p.frozen and _word(p.part) == frozen]
        if mine and not any(part.taken for part in mine):
            raise ModelError("MMF-631", f"{frozen} is to stay as it was, and nothing of it fits", where)


def _word(part: str) -> str:
    return part.partition(":")[0]


__all__ = ["PartTaken", "Taken", "start_from"]
