"""A released model: a folder with weights, scaling, study, model card and a list of hashes. Never pickle.

``weights.safetensors`` weights and the scaling that belongs to them · ``study.json`` the study in canonical
form · ``metrics.json`` figures with intervals, calibration · ``model_card.md`` for readers · ``nodes.json``
the names of genes, proteins, pathways, clinical features, by which another study can take the weights over ·
``bundle.json`` format, versions, hash of the study, of the knowledge pack and of every other file.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from mmfed_common.durable import PARTIAL
from mmfed_common.errors import MmfedError, ModelError
from mmfed_common.model_card import ModelFacts, write_model_card
from mmfed_common.node_names import NodeNames
from mmfed_common.privacy import told_privacy
from mmfed_common.scaling import Scaling
from mmfed_common.study import Study
from mmfed_common.topology import Topology

FORMAT = 1
WEIGHTS, STUDY, METRICS, CARD, INDEX = (
    "weights.safetensors",
    "study.json",
    "metrics.json",
    "model_card.md",
    "bundle.json",
)
NODES = "nodes.json"
CONTENT = (WEIGHTS, STUDY, METRICS, CARD)
"""Files of every bundle; those of older versions have no names of nodes."""
FORMER = ".former"
"""Ends the name of a bundle for the moment in which another takes its place."""
CALIBRATION = "calibration"
"""Key of ``metrics.json`` beside the arms."""
WEIGHT_PREFIX, SCALING_PREFIX = "weights/", "scaling/"


@dataclass(frozen=True)
class Bundle:
    """What a bundle holds.

    Attributes
    ----------
    study
        The study that the model was trained by.
    state
        The model's parameters by name.
    scaling
        Means and deviations that its inputs need; None when each site has its own.
    metrics
        Arms → task → metric → figure with its interval.
    index
        Content of ``bundle.json``.
    names
        Names of the model's nodes; None where it was released without them.
    calibration
        How lower bounds and temperatures are applied to its curves, and how well calibrated it was found; see
        :class:`.model_card.ModelFacts`. None where nothing is known.
    """

    study: Study
    state: dict[str, Tensor]
    scaling: Scaling | None
    metrics: dict[str, Any]
    index: dict[str, Any]
    names: NodeNames | None = None
    calibration: dict[str, Any] | None = None

    @property
    def hash(self) -> str:
        """SHA-256 of the index, which holds the hash of every file: the bundle's identity."""
        return hashlib.sha256(_canonical(self.index)).hexdigest()


def software_versions() -> dict[str, str]:
    """Versions of what computes the figures."""
    names = ("mmfed", "torch", "flwr", "lifelines", "torchsurv", "torchmetrics", "numpy", "pandas")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def save_bundle(
    folder: Path,
    study: Study,
    state: Mapping[str, Tensor],
    scaling: Scaling | None,
    facts: ModelFacts,
    topology: Topology | None = None,
) -> Bundle:
    """Write a bundle; a reader sees the whole folder or none.

    An older bundle at the same place is replaced.

    Parameters
    ----------
    topology
        The graph of the study's patients, for the names of its nodes; without it no other study can start
        from this bundle.

    Raises
    ------
    ModelError
        ``MMF-606`` when the folder exists and is something else than a bundle.
    """
    if folder.exists() and not (folder / INDEX).is_file() and any(folder.iterdir()):
        raise ModelError("MMF-606", "the folder exists and is not a bundle; choose another", str(folder))
    partial = folder.with_name(folder.name + PARTIAL)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    tensors = {WEIGHT_PREFIX + name: value for name, value in state.items()}
    if scaling is not None:
        tensors |= {SCALING_PREFIX + name: value for name, value in scaling.to_arrays().items()}
    content = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    (partial / WEIGHTS).write_bytes(save(content))
    (partial / STUDY).write_bytes(study.canonical())
    known = {} if facts.calibration is None else {CALIBRATION: facts.calibration}
    (partial / METRICS).write_bytes(_canonical({**facts.metrics, **known}))
    write_model_card(partial / CARD, study, facts)
    names = None if topology is None else NodeNames.of(topology)
    if names is not None:
        (partial / NODES).write_bytes(_canonical(names.as_dict()))
    listed = CONTENT if names is None else (*CONTENT, NODES)
    knowledge, privacy = study.contract.knowledge, told_privacy(study, facts.sites)
    index: dict[str, Any] = {
        "format": FORMAT,
        "study": {"name": study.study.name, "version": study.study.version, "hash": study.hash},
        "knowledge_sha256": None if knowledge is None else knowledge.sha256,
        "epsilon": None if privacy is None else privacy["epsilon"],
        "versions": software_versions(),
        "files": {name: _file_hash(partial / name) for name in listed},
    }
    if privacy is not None:
        index["privacy"] = privacy
    (partial / INDEX).write_bytes(_canonical(index))
    _put(partial, folder)
    return Bundle(study, dict(state), scaling, facts.metrics, index, names, facts.calibration)


def load_bundle(folder: Path) -> Bundle:
    """Read a bundle and check every hash before anything is used.

    Raises
    ------
    ModelError
        ``MMF-606`` when a file is missing, altered or not readable, or when the study is not the one named.
    """
    try:
        index = json.loads((folder / INDEX).read_bytes())
        if index["format"] != FORMAT:
            raise ModelError("MMF-606", f"format {index['format']} is unknown to this version", str(folder))
        named: dict[str, str] = index["files"]
        for name in (*CONTENT, NODES) if NODES in named else CONTENT:
            if _file_hash(folder / name) != named[name]:
                raise ModelError(
                    "MMF-606", f"{name} does not have the hash that bundle.json names", str(folder)
                )
        document = (folder / STUDY).read_bytes()
        study = Study.from_content(json.loads(document), str(folder / STUDY))
        metrics = json.loads((folder / METRICS).read_bytes())
        tensors = load_file(folder / WEIGHTS)
        names = NodeNames.from_dict(json.loads((folder / NODES).read_bytes())) if NODES in named else None
        # Of the bytes: read by a later version, which knows more keys, the same study has another hash.
        if hashlib.sha256(document).hexdigest() != index["study"]["hash"]:
            raise ModelError("MMF-606", "the study is not the one that bundle.json names", str(folder))
    except MmfedError as error:
        if error.code == "MMF-606":
            raise
        raise ModelError("MMF-606", f"its study cannot be read: {error.what}", str(folder)) from None
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ModelError("MMF-606", f"cannot be read: {type(error).__name__}: {error}", str(folder)) from None
    arrays = _under(tensors, SCALING_PREFIX)
    scaling = Scaling.from_arrays(arrays) if arrays else None
    calibration = metrics.pop(CALIBRATION, None)
    return Bundle(study, _under(tensors, WEIGHT_PREFIX), scaling, metrics, index, names, calibration)


def copy_bundle(source: Path, target: Path, sha256: str) -> None:
    """Copy a bundle of a certain hash, unless it is at the target already; a reader sees all of it or none.

    Raises
    ------
    ModelError
        ``MMF-630`` when there is none or it has another hash, ``MMF-606`` when it is damaged.
    OSError
        When it cannot be written.
    """
    if (target / INDEX).is_file() and load_bundle(target).hash == sha256:
        return
    if not (source / INDEX).is_file():
        raise ModelError("MMF-630", "there is no bundle", str(source))
    found = load_bundle(source).hash
    if found != sha256:
        raise ModelError("MMF-630", f"its hash is {found}, the study names {sha256}", str(source))
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + PARTIAL)
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(source, partial)
    _put(partial, target)


def note_on_card(folder: Path, section: str, key: str, text: str) -> Bundle:
    """Write one line into a section at the end of a bundle's model card, in the place of an earlier one.

    The card's hash is part of the bundle, so the bundle has another identity afterwards; a reader sees the
    whole folder as it was or as it is then, or for a moment none.

    Parameters
    ----------
    section
        Heading of the section; made where it is missing.
    key
        What the line is about: one line for each.

    Raises
    ------
    ModelError
        ``MMF-606`` when the bundle is damaged.
    """
    index = load_bundle(folder).index
    partial = folder.with_name(folder.name + PARTIAL)
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(folder, partial)
    card = partial / CARD
    card.write_text(_with_note(card.read_text(encoding="utf-8"), section, key, text), encoding="utf-8")
    noted = {**index, "files": {**index["files"], CARD: _file_hash(card)}}
    (partial / INDEX).write_bytes(_canonical(noted))
    _put(partial, folder)
    return load_bundle(folder)


def _put(partial: Path, folder: Path) -> None:
    """Put a whole folder in the place of another, which nobody sees half removed."""
    if not folder.exists():
        partial.rename(folder)
        return
    former = folder.with_name(folder.name + FORMER)
    shutil.rmtree(former, ignore_errors=True)
    folder.rename(former)
    try:
        partial.rename(folder)
    except OSError:
        former.rename(folder)
        raise
    shutil.rmtree(former, ignore_errors=True)


def _with_note(card: str, section: str, key: str, text: str) -> str:
    before, _, notes = card.partition(f"## {section}\n")
    start = f"- **{key}**: "
    kept = [line for line in notes.splitlines() if line.strip() and not line.startswith(start)]
    lines = sorted([*kept, start + " ".join(text.split())])
    return "\n".join([before.rstrip("\n"), "", f"## {section}", *lines, ""])


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _canonical(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False).encode()


def _file_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
