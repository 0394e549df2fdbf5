"""Weights of a released model are taken over by name, and what has no counterpart begins anew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.common.model.conftest import CONTENT, TOPOLOGY, draw_patients, randomise
from torch import Tensor

from mmfed_common.bundle import Bundle, load_bundle, save_bundle
from mmfed_common.errors import ModelError
from mmfed_common.model import build_model
from mmfed_common.model.pathways import pathway_edges
from mmfed_common.model.start import Taken, start_from
from mmfed_common.model_card import ModelFacts
from mmfed_common.node_names import OTHERS, NodeNames
from mmfed_common.patients import PatientTensors
from mmfed_common.scaling import Scaling
from mmfed_common.study import Study
from mmfed_common.topology import EdgeList, Topology

FACTS = ModelFacts({}, [], "Nobody was held out.")
ORDER = (3, 1, 5, 0, 4, 2)
"""The genes of the other study, as places of the first."""


def study_of(model: dict[str, Any] | None = None, **contract: Any) -> Study:
    changed = {**CONTENT["contract"], **contract}
    return Study.from_content(
        {**CONTENT, "contract": changed, "model": {**CONTENT["model"], **(model or {})}}
    )


def released(folder: Path, study: Study | None = None, topology: Topology = TOPOLOGY) -> Bundle:
    study = study or study_of()
    model = build_model(study, topology)
    randomise(model)
    return save_bundle(folder / "bundle", study, model.state_dict(), None, FACTS, topology)


def begin(
    bundle: Bundle, topology: Topology = TOPOLOGY, model: dict[str, Any] | None = None, **contract: Any
) -> tuple[Study, dict[str, Tensor], Taken]:
    start = {"file": "bundle", "sha256": bundle.hash}
    study = study_of({"start_from": start, **(model or {})}, **contract)
    drawn = build_model(study, topology).state_dict()
    return study, *start_from(bundle, study, topology, drawn)


def reordered() -> Topology:
    """The topology with its genes in another order, and its pathways the other way round."""
    place = {old: new for new, old in enumerate(ORDER)}

    def moved(edges: EdgeList, source: bool, target: bool) -> EdgeList:
        ends = []
        for end, moves in ((edges.source, source), (edges.target, target)):
            ends.append(torch.tensor([place[i] if moves else i for i in end.tolist()], dtype=torch.int64))
        return EdgeList.build(*ends)

    edges = {r: moved(e, r[0] == "gene", r[2] == "gene") for r, e in TOPOLOGY.edges.items()}
    membership = moved(TOPOLOGY.membership, source=True, target=False)
    return replace(
        TOPOLOGY,
        nodes={**TOPOLOGY.nodes, "gene": tuple(TOPOLOGY.nodes["gene"][i] for i in ORDER)},
        edges=edges,
        pathways=TOPOLOGY.pathways[::-1],
        membership=EdgeList.build(membership.source, 1 - membership.target),
    )


def of_reordered(patients: PatientTensors) -> PatientTensors:
    gene, order = patients.nodes["gene"], torch.tensor(ORDER)
    moved = replace(gene, values=gene.values[:, order], present=gene.present[:, order])
    return replace(patients, nodes={**patients.nodes, "gene": moved})


def test_names_stand_in_the_order_of_the_memberships_and_survive_a_file(tmp_path: Path) -> None:
    names = NodeNames.of(TOPOLOGY)
    edges = pathway_edges(TOPOLOGY)
    assert edges is not None
    groups = (*TOPOLOGY.pathways, OTHERS)
    genes = TOPOLOGY.nodes["gene"]
    pairs = zip(edges.source.tolist(), edges.target.tolist(), strict=True)
    assert names.memberships == tuple((genes[s], groups[t]) for s, t in pairs)
    assert names.groups == groups
    released(tmp_path)
    assert load_bundle(tmp_path / "bundle").names == names


def test_the_same_study_takes_everything_over(tmp_path: Path) -> None:
    bundle = released(tmp_path)
    _, weights, taken = begin(load_bundle(tmp_path / "bundle"))
    assert all(torch.equal(weights[name], bundle.state[name]) for name in bundle.state)
    assert all(part.taken == part.numbers for part in taken.parts)
    assert taken.nodes["gene"] == (6, 6)


@pytest.mark.parametrize("pathway_tokens", [True, False])
def test_the_same_genes_in_another_order_give_the_same_predictions(
    tmp_path: Path, pathway_tokens: bool
) -> None:
    """Rows of embeddings, memberships, gates: each goes where its name went."""
    model = {"pathway_tokens": pathway_tokens}
    bundle = released(tmp_path, study_of(model))
    other = reordered()
    gene = {**CONTENT["contract"]["gene"], "panel": list(other.nodes["gene"])}
    study, weights, taken = begin(bundle, other, model, gene=gene)
    assert all(part.taken == part.numbers for part in taken.parts)
    assert not torch.equal(
        weights["full.embeddings.gene.identity.weight"], bundle.state["full.embeddings.gene.identity.weight"]
    )
    patients = draw_patients(12)
    told = []
    for of, topology, state, some in (
        (bundle.study, TOPOLOGY, bundle.state, patients),
        (study, other, weights, of_reordered(patients)),
    ):
        network = build_model(of, topology).eval()
        network.load_state_dict(state)
        told.append(network(some, Scaling.from_reference(of.contract, topology)).hazard_logits)
    torch.testing.assert_close(told[0], told[1], rtol=1e-4, atol=1e-4)


def test_scores_of_pathways_are_not_taken_for_genes(tmp_path: Path) -> None:
    study, weights, taken = begin(released(tmp_path), model={"pathway_tokens": False})
    drawn = build_model(study, TOPOLOGY).state_dict()
    gates = [name for name in weights if name.startswith("additive.gates.gene.")]
    assert gates
    assert all(torch.equal(weights[name], drawn[name]) for name in gates)
    assert {part.taken for part in taken.parts if part.part == "additive: gene"} == {0}


def test_what_is_new_begins_anew_and_what_is_known_goes_by_name(tmp_path: Path) -> None:
    bundle = released(tmp_path)
    genes = ("new", "c", "a")
    topology = replace(
        TOPOLOGY,
        nodes={**TOPOLOGY.nodes, "gene": genes, "clinical_feature": ("stage", "weight")},
        edges={},
        pathways=("first",),
        membership=EdgeList.build(torch.tensor([1, 2]), torch.tensor([0, 0])),
    )
    gene = {**CONTENT["contract"]["gene"], "panel": list(genes)}
    clinical = {"stage": CONTENT["contract"]["clinical"]["stage"], "weight": {"kind": "number"}}
    study, weights, taken = begin(
        bundle, topology, gene=gene, clinical=clinical, response={"classes": ["complete", "none"]}
    )
    drawn = build_model(study, topology).state_dict()
    identity = weights["full.embeddings.gene.identity.weight"]
    old = bundle.state["full.embeddings.gene.identity.weight"]
    assert torch.equal(identity[0], drawn["full.embeddings.gene.identity.weight"][0])
    assert torch.equal(identity[1], old[2])
    assert torch.equal(identity[2], old[0])
    linear, was = (s["clinical.linear.response.weight"] for s in (weights, bundle.state))
    assert torch.equal(linear[:, 0], was[[2, 0], 1])
    assert torch.equal(linear[:, 1], torch.zeros(2))
    assert taken.nodes == {
        "clinical_feature": (1, 2),
        "gene": (2, 3),
        "protein": (3, 3),
        "metabolite": (2, 2),
    }
    part = {p.part: p for p in taken.parts}["embeddings: gene"]
    assert part.numbers - part.taken == 16


def test_a_column_that_is_read_in_another_way_is_another_feature(tmp_path: Path) -> None:
    clinical = {**CONTENT["contract"]["clinical"], "age": {"kind": "binary"}}
    _, weights, _ = begin(released(tmp_path), clinical=clinical)
    assert torch.equal(weights["clinical.linear.survival.weight"][0, :1], torch.zeros(1))


def test_nothing_taken_over_is_an_error(tmp_path: Path) -> None:
    bundle = released(tmp_path, study_of({"intra_attention": False}))
    topology = replace(
        TOPOLOGY,
        nodes={"clinical_feature": ("weight",)},
        channels={"clinical_feature": ("value",)},
        edges={},
        pathways=(),
        membership=EdgeList.build(torch.zeros(0), torch.zeros(0)),
    )
    gone = dict.fromkeys(("gene", "protein", "metabolite", "imaging", "response", "toxicity"))
    with pytest.raises(ModelError) as caught:
        begin(
            bundle,
            topology,
            model={"hidden": 12},
            clinical={"weight": {"kind": "number"}},
            relations={"source": "none"},
            survival={"bins": [50.0, 75.0], "horizons": [50.0]},
            **gone,
        )
    assert caught.value.code == "MMF-631"


def test_a_part_that_is_to_stay_must_have_been_trained(tmp_path: Path) -> None:
    bundle = released(tmp_path)
    with pytest.raises(ModelError, match="embeddings") as caught:
        begin(bundle, model={"hidden": 20, "frozen": ["clinical", "embeddings"]})
    assert caught.value.code == "MMF-631"


@pytest.mark.parametrize("fault", ["another bundle", "no names"])
def test_another_bundle_or_one_without_names_is_refused(fault: str, tmp_path: Path) -> None:
    bundle = released(tmp_path)
    study = study_of({"start_from": {"file": "bundle", "sha256": "0" * 64}})
    if fault == "no names":
        bundle = replace(bundle, names=None)
        study = study_of({"start_from": {"file": "bundle", "sha256": bundle.hash}})
    with pytest.raises(ModelError) as caught:
        start_from(bundle, study, TOPOLOGY, build_model(study, TOPOLOGY).state_dict())
    assert caught.value.code == "MMF-630"


def test_names_that_do_not_fit_the_weights_are_an_error(tmp_path: Path) -> None:
    """Rather than weights in the wrong places."""
    bundle = released(tmp_path)
    assert bundle.names is not None
    genes = {**bundle.names.nodes, "gene": bundle.names.nodes["gene"][:-1]}
    with pytest.raises(ValueError, match="names do not stand for the places"):
        begin(replace(bundle, names=replace(bundle.names, nodes=genes)))
