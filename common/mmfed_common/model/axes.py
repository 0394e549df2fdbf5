"""What the rows and columns of each weight stand for, by name."""

from __future__ import annotations

from collections.abc import Hashable

from mmfed_common.contract import Contract
from mmfed_common.model.clinical import CLINICAL
from mmfed_common.node_names import NodeNames
from mmfed_common.study import Study

Axis = tuple[Hashable, ...] | None
"""Names along one dimension; None: places that mean something only together, as those of a hidden layer."""


def axes_of(parameter: str, dimensions: int, study: Study, names: NodeNames) -> tuple[Axis, ...]:
    """Give the names along each dimension of a parameter.

    Parameters
    ----------
    parameter
        Its name in the model's state.
    dimensions
        How many it has.
    study, names
        The study that the weights belong to, and the names of its nodes.
    """
    contract = study.contract
    match parameter.split("."):
        case ["clinical", "baseline", "survival", _]:
            return None, _bins(contract)
        case ["clinical", "baseline", task, _]:
            return None, _outputs(contract, task)
        case ["clinical", "linear", task, _]:
            return _outputs(contract, task), _clinical(contract)
        case ["clinical", "log_variance", _]:
            return None, contract.tasks
        case ["additive", "pathways", "weight", _]:
            return names.memberships, names.channels["gene"]
        case ["additive", "gates", kind, task, _]:
            return _outputs(contract, task), _scores(kind, study, names)
        case ["full", "embeddings", kind, "values", "weight"]:
            return None, _inputs(kind, names)
        case ["full", "embeddings", kind, "identity", _]:
            return _nodes(kind, contract, names), None
        case ["full", "gates", task, _]:
            return _outputs(contract, task), None
        case ["full", "fusion", "absent", _]:
            return contract.node_types, None
        case ["full", "decoders", kind, "values", which]:
            return (names.channels[kind], None) if which == "weight" else (names.channels[kind],)
    return (None,) * dimensions


def _bins(contract: Contract) -> Axis:
    edges = () if contract.survival is None else contract.survival.bins
    return tuple(zip((0.0, *edges), edges, strict=False))


def _outputs(contract: Contract, task: str) -> Axis:
    if task == "response" and contract.response is not None:
        return contract.response.classes
    if task == "toxicity" and contract.toxicity is not None:
        return contract.toxicity.labels
    return (task,)


def _clinical(contract: Contract) -> Axis:
    """Clinical features with their kind: a column that is read in another way is another feature."""
    kinds = {name: column.kind for name, column in contract.columns.items()}
    return tuple((name, kinds.get(name, "category")) for name in contract.clinical_features())


def _nodes(kind: str, contract: Contract, names: NodeNames) -> Axis:
    return _clinical(contract) if kind == CLINICAL else names.nodes[kind]


def _inputs(kind: str, names: NodeNames) -> Axis:
    """Inputs of an embedding: values, their presence, and for genes whether the patient is linked to them."""
    channels = names.channels[kind]
    own = [(part, channel) for part in ("value", "present") for channel in channels]
    return (*own, "linked") if kind == "gene" else tuple(own)


def _scores(kind: str, study: Study, names: NodeNames) -> Axis:
    """What enters an additive gate: pathway scores, features of imaging, or every value of every node."""
    channels = names.channels[kind]
    if kind == "imaging_feature":
        return channels
    by_pathway = kind == "gene" and study.model.pathway_tokens and bool(names.pathways)
    rows = names.groups if by_pathway else names.nodes[kind]
    return tuple((row, channel) for row in rows for channel in channels)
