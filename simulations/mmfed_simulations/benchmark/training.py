"""Training throughput: our dense form against the same mathematics in PyG, on one graph and one machine."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmfed_common.graph import build_topology
from mmfed_common.graph.patient_graph import PatientGraphBuilder
from mmfed_common.knowledge import KnowledgePack, Pair, Protein, restrict
from mmfed_common.model import MultimodalNetwork, build_model
from mmfed_common.patients import NodeTensors, Outcomes, PatientTensors
from mmfed_common.randomness import numpy_generator, torch_generator
from mmfed_common.scaling import Scaling
from mmfed_common.study import Study
from mmfed_common.tasks import multitask
from mmfed_common.topology import PROTEIN_INTERACTS, REGULATES, Topology
from mmfed_simulations.benchmark.pyg_reference import PygNetwork

SEED = 20
PATIENTS = 64
RESAMPLES = 2000
NOISE = 0.05
GENE_DEGREE, PROTEIN_DEGREE, PATHWAYS, PATHWAY_GENES = 6, 6, 300, 25


@dataclass(frozen=True)
class TrainingBenchmark:
    """What to measure.

    Attributes
    ----------
    genes, proteins
        Panel sizes; fewer where the pack has fewer.
    hidden, heads, layers
        Sizes of the model.
    batch
        Patients in a step.
    repeats
        How often each form is measured, in turns.
    threads
        Threads that torch and the fused kernels use.
    """

    genes: int = 1500
    proteins: int = 250
    hidden: int = 64
    heads: int = 8
    layers: int = 2
    batch: int = 32
    repeats: int = 7
    threads: int = 2


def run_training_benchmark(
    pack: KnowledgePack | Path | None = None, settings: TrainingBenchmark | None = None
) -> dict[str, Any]:
    """Measure patients per second, forward and backward, of both forms on the same weights and patients.

    A step takes a batch of prepared patients (ours: select rows; PyG: collate ``HeteroData``), predicts,
    computes the loss per patient and its gradients. The two forms are measured in turns, so that a change of
    the machine's load meets both.

    Parameters
    ----------
    pack
        A pack or its file. Takes its best connected genes and proteins with their relations; ``None``: a
        random graph of about the same size, and the result says so.
    settings
        Sizes.

    Returns
    -------
    dict
        ``"ours"`` and ``"pyg"`` (median patients per second), ``"ratio"`` with ``"low"`` and ``"high"``
        (bootstrap over the repeats, 95 %), the largest difference between the two outputs, and the sizes.
    """
    wanted = settings or TrainingBenchmark()
    before = torch.get_num_threads()
    torch.set_num_threads(wanted.threads)
    try:
        return _measure(KnowledgePack.load(pack) if isinstance(pack, Path) else pack, wanted)
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class Case:
    """A study over a graph, with its model, every gate open, and patients."""

    study: Study
    topology: Topology
    patients: PatientTensors
    scaling: Scaling
    model: MultimodalNetwork


def case_of(pack: KnowledgePack | None, wanted: TrainingBenchmark) -> Case:
    """Make what is measured: from the best connected part of a pack, or over a random graph."""
    used = _random_pack(wanted) if pack is None else _connected(pack, wanted)
    study, topology = _study(used, wanted)
    model = build_model(study, topology)
    _open_gates(model)
    scaling = Scaling.from_reference(study.contract, topology)
    return Case(study, topology, _patients(study, topology), scaling, model)


def _measure(pack: KnowledgePack | None, wanted: TrainingBenchmark) -> dict[str, Any]:
    case = case_of(pack, wanted)
    study, topology, patients = case.study, case.topology, case.patients
    scaling, model = case.scaling, case.model
    reference = PygNetwork(model, study.contract, topology)
    builder = PatientGraphBuilder(study.contract, topology, scaling)
    graphs = [builder.build_patient_graph(patients.select(torch.tensor([i]))) for i in range(len(patients))]
    drawn = torch.randperm(len(patients), generator=torch_generator(SEED, "batch"))[: wanted.batch]

    def ours() -> Tensor:
        some = patients.select(drawn)
        predictions = model(some, scaling)
        return _step(model, multitask.patient_losses(model, predictions, some.outcomes))

    from torch_geometric.data import Batch

    def theirs() -> Tensor:
        batch = Batch.from_data_list([graphs[i] for i in drawn.tolist()])
        outcomes = Outcomes(**{name: batch[name] for name in Outcomes.__dataclass_fields__})
        return _step(reference, multitask.patient_losses(model, reference(batch), outcomes))

    difference = float((ours() - theirs()).abs().max())
    seconds = in_turns({"ours": ours, "pyg": theirs}, wanted.repeats)
    rate = {name: wanted.batch / np.array(times) for name, times in seconds.items()}
    ratio = rate["ours"] / rate["pyg"]
    draws = numpy_generator(SEED, "bootstrap").integers(0, len(ratio), (RESAMPLES, len(ratio)))
    low, high = np.quantile(np.median(ratio[draws], axis=1), [0.025, 0.975])
    return {
        "graph": "random" if pack is None else "knowledge pack",
        "nodes": {name: len(nodes) for name, nodes in topology.nodes.items()},
        "edges": {"__".join(relation): len(edges) for relation, edges in topology.edges.items()},
        "memberships": len(topology.membership),
        "hidden": wanted.hidden,
        "heads": wanted.heads,
        "layers": wanted.layers,
        "batch": wanted.batch,
        "threads": wanted.threads,
        "repeats": wanted.repeats,
        "largest_loss_difference": difference,
        "ours": float(np.median(rate["ours"])),
        "pyg": float(np.median(rate["pyg"])),
        "ratio": {"estimate": float(np.median(ratio)), "low": float(low), "high": float(high)},
    }


def _open_gates(model: nn.Module) -> None:
    """Move every weight from where it starts: with gates at zero there is nothing to compare."""
    generator = torch_generator(SEED, "gates")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(NOISE * torch.randn(parameter.shape, generator=generator))


def _step(model: nn.Module, losses: Tensor) -> Tensor:
    model.zero_grad(set_to_none=True)
    losses.mean().backward()  # type: ignore[no-untyped-call]
    return losses.detach()


def in_turns(forms: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds that each form takes, measured in turns after one that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for form in forms.values():
        form()
    for _ in range(repeats):
        for name, form in forms.items():
            start = time.perf_counter()
            form()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def _most_connected(names: Iterable[str], pairs: Iterable[Pair], count: int) -> list[str]:
    degree = Counter(end for pair in pairs for end in (pair.source, pair.target))
    return sorted(names, key=lambda name: (-degree[name], name))[:count]


def _connected(pack: KnowledgePack, wanted: TrainingBenchmark) -> KnowledgePack:
    between_genes = pack.relations.get(REGULATES, ())
    between_proteins = pack.relations.get(PROTEIN_INTERACTS, ())
    genes = _most_connected(pack.genes, between_genes, wanted.genes)
    proteins = _most_connected((p.name for p in pack.proteins), between_proteins, wanted.proteins)
    return restrict(pack, genes, proteins)


def _random_pack(wanted: TrainingBenchmark) -> KnowledgePack:
    generator = numpy_generator(SEED, "pack")
    genes = [f"G{i}" for i in range(wanted.genes)]
    proteins = [Protein(f"P{i}", (genes[i % len(genes)],)) for i in range(wanted.proteins)]

    def pairs(names: list[str], degree: int) -> list[Pair]:
        ends = generator.integers(0, len(names), (len(names) * degree, 2))
        return [Pair(names[a], names[b], 1.0, "random") for a, b in ends if a != b]

    members = generator.integers(0, len(genes), (PATHWAYS, PATHWAY_GENES))
    return KnowledgePack.assemble(
        genes,
        proteins,
        relations={
            REGULATES: pairs(genes, GENE_DEGREE),
            PROTEIN_INTERACTS: pairs([p.name for p in proteins], PROTEIN_DEGREE),
        },
        pathways={f"W{i}": [genes[g] for g in row] for i, row in enumerate(members)},
    )


def _study(pack: KnowledgePack, wanted: TrainingBenchmark) -> tuple[Study, Topology]:
    study = Study.from_content(
        {
            "study": {"name": "benchmark", "seed": SEED},
            "contract": {
                "clinical": {name: {"kind": "number"} for name in ("age", "grade", "stage", "size")},
                "gene": {"panel": pack.genes, "layers": {"expression": {}}},
                "protein": {"panel": [protein.name for protein in pack.proteins]},
                "survival": {"bins": [365.0 * i for i in range(1, 11)]},
            },
            "training": {"stages": [{"level": "full", "rounds": 1}], "batch": wanted.batch},
            "model": {
                "hidden": wanted.hidden,
                "heads": wanted.heads,
                "layers": wanted.layers,
                "dropout": 0.0,
                "modality_dropout": 0.0,
            },
        }
    )
    return study, build_topology(study.contract, pack)


def _patients(study: Study, topology: Topology) -> PatientTensors:
    generator = torch_generator(SEED, "patients")
    nodes = {}
    for name in study.contract.node_types:
        shape = (PATIENTS, len(topology.nodes[name]), len(topology.channels[name]))
        present = torch.rand(shape, generator=generator) > 0.05
        nodes[name] = NodeTensors(torch.randn(shape, generator=generator) * present, present)
    nothing = torch.zeros(PATIENTS, 0)
    outcomes = Outcomes(
        time_days=torch.rand(PATIENTS, generator=generator) * 3650,
        event=(torch.rand(PATIENTS, generator=generator) > 0.5).float(),
        survival_known=torch.ones(PATIENTS, dtype=torch.bool),
        response=torch.full((PATIENTS,), -1),
        toxicity=nothing,
        toxicity_known=nothing.bool(),
    )
    return PatientTensors(tuple(f"patient-{i}" for i in range(PATIENTS)), nodes, outcomes)
