"""A site's prepared patients and topologies as safetensors bytes: the same patients give the same bytes."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mmfed_client.site import SiteData
from mmfed_common.errors import StudyError
from mmfed_common.patients import NodeTensors, Outcomes, PatientTensors
from mmfed_common.topology import EdgeList, Topology

HEADER = "content"


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def serialise_site(data: SiteData) -> bytes:
    """Everything of a site but its topology, which the header names by its digest."""
    patients = data.patients
    tensors = {"held_out": torch.from_numpy(np.array(data.held_out, dtype=np.bool_))}
    for name, node in patients.nodes.items():
        tensors[f"nodes/{name}/values"] = node.values
        tensors[f"nodes/{name}/present"] = node.present
        if node.neighbours is not None:
            tensors[f"nodes/{name}/neighbours"] = node.neighbours
    for name in Outcomes.__dataclass_fields__:
        tensors[f"outcomes/{name}"] = getattr(patients.outcomes, name)
    content = {
        "site": data.name,
        "patient_ids": list(patients.patient_ids),
        "folds": None if data.folds is None else list(data.folds),
        "topology": digest(serialise_topology(data.topology)),
    }
    return _save(tensors, content)


def read_site(path: Path, topologies: Path) -> SiteData:
    """Read what :func:`serialise_site` gave.

    Parameters
    ----------
    path
        The site's file.
    topologies
        The folder of topologies, each named by its digest.

    Raises
    ------
    StudyError
        ``MMF-509`` when a file is missing or damaged.
    """
    tensors, content = _load(path)
    try:
        values = sorted(key for key in tensors if key.startswith("nodes/") and key.endswith("/values"))
        nodes = {}
        for key in values:
            stem = key.removesuffix("/values")
            node = NodeTensors(tensors[key], tensors[f"{stem}/present"], tensors.get(f"{stem}/neighbours"))
            nodes[stem.removeprefix("nodes/")] = node
        fields = {name: tensors[f"outcomes/{name}"] for name in Outcomes.__dataclass_fields__}
        patients = PatientTensors(tuple(content["patient_ids"]), nodes, Outcomes(**fields))
        folds = None if content["folds"] is None else tuple(content["folds"])
        topology = read_topology(topologies / f"{content['topology']}.safetensors")
        return SiteData(content["site"], patients, tensors["held_out"].numpy(), topology, folds)
    except KeyError as error:
        raise StudyError("MMF-509", f"{error} is missing", str(path)) from None


def serialise_topology(topology: Topology) -> bytes:
    """Nodes, channels, edges, pathways and references."""
    relations = sorted(topology.edges)
    tensors = {
        "membership/source": topology.membership.source,
        "membership/target": topology.membership.target,
    }
    for number, relation in enumerate(relations):
        tensors[f"edges/{number}/source"] = topology.edges[relation].source
        tensors[f"edges/{number}/target"] = topology.edges[relation].target
    tensors |= {f"references/{name}": known for name, known in topology.references.items()}
    content = {
        "nodes": {name: list(nodes) for name, nodes in topology.nodes.items()},
        "channels": {name: list(channels) for name, channels in topology.channels.items()},
        "relations": [list(relation) for relation in relations],
        "pathways": list(topology.pathways),
    }
    return _save(tensors, content)


@lru_cache(maxsize=64)
def read_topology(path: Path) -> Topology:
    """Read what :func:`serialise_topology` gave, once for all sites that share it.

    Raises
    ------
    StudyError
        ``MMF-509`` when the file is missing or damaged.
    """
    tensors, content = _load(path)
    try:
        edges = {
            (relation[0], relation[1], relation[2]): EdgeList(
                tensors[f"edges/{number}/source"], tensors[f"edges/{number}/target"]
            )
            for number, relation in enumerate(content["relations"])
        }
        return Topology(
            {name: tuple(nodes) for name, nodes in content["nodes"].items()},
            {name: tuple(channels) for name, channels in content["channels"].items()},
            edges,
            tuple(content["pathways"]),
            EdgeList(tensors["membership/source"], tensors["membership/target"]),
            {k.partition("/")[2]: v for k, v in tensors.items() if k.startswith("references/")},
        )
    except KeyError as error:
        raise StudyError("MMF-509", f"{error} is missing", str(path)) from None


def _save(tensors: dict[str, Tensor], content: dict[str, Any]) -> bytes:
    plain, seen = {}, set()
    for name, tensor in tensors.items():
        own = tensor.cpu().contiguous()
        memory = own.untyped_storage().data_ptr()
        plain[name] = own.clone() if memory in seen else own
        seen.add(memory)
    header = {HEADER: json.dumps(content, sort_keys=True)}
    return bytes(safetensors.torch.save(plain, header))


def _load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118 - no mapping
            return tensors, json.loads(file.metadata()[HEADER])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise StudyError("MMF-509", f"cannot be read: {error}", str(path)) from None
