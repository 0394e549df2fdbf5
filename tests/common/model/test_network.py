"""The network: gates that start at zero, blocks, presence, determinism, presets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mmfed_common.errors import ModelError
from mmfed_common.model import MultimodalNetwork, Predictions, build_model
from mmfed_common.model.kernels import choose
from mmfed_common.model.presence import drop_modalities
from mmfed_common.model.sizes import Sizes
from mmfed_common.patients import NodeTensors, PatientTensors
from mmfed_common.scaling import Scaling
from mmfed_common.study import ModelSection, Study
from mmfed_common.tasks.survival import survival_at
from mmfed_common.topology import Topology

MakeModel = Callable[..., MultimodalNetwork]
MakePatients = Callable[..., PatientTensors]
LOGITS = ("hazard_logits", "response_logits", "toxicity_logits")


def _logits(predictions: Predictions) -> list[Tensor]:
    return [tensor for name in LOGITS if (tensor := getattr(predictions, name)) is not None]


def _without(patients: PatientTensors, name: str) -> PatientTensors:
    node = patients.nodes[name]
    empty = NodeTensors(torch.zeros_like(node.values), torch.zeros_like(node.present), node.neighbours)
    return replace(patients, nodes={**patients.nodes, name: empty})


def test_starts_as_the_clinical_model(
    make_model: MakeModel, make_patients: MakePatients, scaling: Scaling
) -> None:
    model = make_model(opened=False).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if model.block_of(name) == "clinical":
                parameter += 0.1
    patients = make_patients(9)
    clinical, additive, full = (
        _logits(model(patients, scaling, level)) for level in ("clinical", "additive", "full")
    )
    for a, b, c in zip(clinical, additive, full, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(b, c)
    assert clinical[0].std(dim=0).max() > 0.01


@pytest.mark.parametrize("alive", [0.2, 0.85, 0.999])
def test_hazards_begin_where_survival_is_publicly_known(
    make_study: Callable[..., Study], topology: Topology, alive: float
) -> None:
    """Whatever the bins' widths: as many are alive after so many days, at the same rate on each of them."""
    survival = {"bins": (90.0, 365.25, 1000.0, 1826.25, 2555.0), "horizons": (365.25,)}
    known = {**survival, "reference_survival": {"days": 1826.25, "alive": alive}}
    contract = make_study().contract.model_dump(mode="json")
    plain, told = (
        build_model(make_study().with_changes(contract={**contract, "survival": section}), topology)
        for section in (survival, known)
    )
    name = "clinical.baseline.survival.weight"
    logits = told.state_dict()[name].double()
    found = survival_at(logits, survival["bins"], (365.25, 1000.0, 1826.25))[0]
    expected = [alive ** (days / 1826.25) for days in (365.25, 1000.0, 1826.25)]
    assert found.tolist() == pytest.approx(expected, rel=1e-5)
    others = plain.state_dict()
    assert all(torch.equal(others[n], t) for n, t in told.state_dict().items() if n != name)
    assert torch.sigmoid(others[name])[0].tolist() == pytest.approx([0.05] * 5)


def test_each_block_changes_the_output_once_open(
    make_model: MakeModel, make_patients: MakePatients, scaling: Scaling
) -> None:
    model, patients = make_model().eval(), make_patients(9)
    clinical, additive, full = (
        _logits(model(patients, scaling, level)) for level in ("clinical", "additive", "full")
    )
    for a, b, c in zip(clinical, additive, full, strict=True):
        assert not torch.allclose(a, b)
        assert not torch.allclose(b, c)


def test_absent_modalities_add_nothing_in_the_additive_block(
    make_model: MakeModel, make_patients: MakePatients, scaling: Scaling
) -> None:
    model, patients = make_model().eval(), make_patients(6)
    for name in ("gene", "protein", "metabolite", "imaging_feature"):
        patients = _without(patients, name)
    for a, b in zip(
        _logits(model(patients, scaling, "clinical")),
        _logits(model(patients, scaling, "additive")),
        strict=True,
    ):
        assert torch.equal(a, b)


def _added_by(
    name: str, make_model: MakeModel, patients: PatientTensors, scaling: Scaling, **section: float
) -> Tensor:
    """What one modality alone adds to the hazard."""
    model = make_model(**section).eval()
    for other in ("gene", "protein", "metabolite", "imaging_feature"):
        if other != name:
            patients = _without(patients, other)
    of = {level: _logits(model(patients, scaling, level))[0] for level in ("clinical", "additive")}
    return of["additive"] - of["clinical"]


def test_wide_inputs_are_scaled_by_the_wide_gain(
    make_model: MakeModel, make_patients: MakePatients, scaling: Scaling
) -> None:
    patients = make_patients(9)
    for name in ("protein", "metabolite", "imaging_feature"):
        default, small = (
            _added_by(name, make_model, patients, scaling, wide_gain=gain) for gain in (3.0, 1.0)
        )
        assert default.abs().max() > 0.01
        torch.testing.assert_close(default, 3 * small, rtol=1e-4, atol=1e-5)
        assert torch.equal(default, _added_by(name, make_model, patients, scaling))


def test_pathway_scores_are_nearly_linear_with_a_small_pathway_gain(
    make_model: MakeModel, make_patients: MakePatients, scaling: Scaling
) -> None:
    patients = make_patients(9)
    of = {
        gain: _added_by("gene", make_model, patients, scaling, pathway_gain=gain) / gain
        for gain in (1e-4, 1e-3, 0.3)
    }
    torch.testing.assert_close(of[1e-4], of[1e-3], rtol=1e-2, atol=1e-3)
    assert (of[0.3] - of[1e-3]).abs().max() > 0.01


@pytest.mark.parametrize("kernel", ["plain", "fused"])
def test_values_of_absent_modalities_are_not_seen(
    make_model: MakeModel, make_patients: MakePatients, scaling: Scaling, kernel: str
) -> None:
    model = make_model(kernel=kernel).eval()
    patients = _without(make_patients(6, missing=0.0), "gene")
    gene = patients.nodes["gene"]
    noisy = NodeTensors(torch.randn_like(gene.values), gene.present)
    other = replace(patients, nodes={**patients.nodes, "gene": noisy})
    for a, b in zip(_logits(model(patients, scaling)), _logits(model(other, scaling)), strict=True):
        assert torch.equal(a, b)


def test_forms_of_the_kernels_agree(
    make_model: MakeModel, make_patients: MakePatients, scaling: Scaling
) -> None:
    model, patients = make_model().eval(), make_patients(8)
    found = []
    for kernel in ("plain", "fused"):
        model.kernel = kernel
        found.append(_logits(model(patients, scaling)))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_a_patients_output_does_not_depend_on_others(
    make_model: MakeModel, make_patients: MakePatients, scaling: Scaling
) -> None:
    model, patients = make_model().eval(), make_patients(8)
    together = _logits(model(patients, scaling))
    for index in range(8):
        alone = _logits(model(patients.select(torch.tensor([index])), scaling))
        for a, b in zip(together, alone, strict=True):
            torch.testing.assert_close(a[index], b[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "section",
    [
        {"fusion": "mean"},
        {"intra_attention": False},
        {"pathway_tokens": False},
        {"fusion_layers": 0},
        {"layers": 0},
        {"additive_path": False},
        {"clinical_path": False},
        {"dropout": 0.5, "modality_dropout": 0.9},
    ],
    ids=str,
)
@pytest.mark.parametrize("count", [0, 1, 5])
def test_variants_train_on_any_number_of_patients(
    make_model: MakeModel,
    make_patients: MakePatients,
    scaling: Scaling,
    section: dict[str, object],
    count: int,
) -> None:
    model = make_model(**section).train()
    patients = make_patients(count)
    for level in ("clinical", "additive", "full"):
        model.zero_grad()
        logits = _logits(model(patients, scaling, level))
        assert [tuple(tensor.shape) for tensor in logits] == [(count, 3), (count, 3), (count, 2)]
        sum(tensor.sum() for tensor in logits).backward()  # type: ignore[union-attr]
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None or "log_variance" in name, name
        assert parameter.grad is None or torch.isfinite(parameter.grad).all()


@pytest.mark.parametrize(
    "drop",
    [
        ("gene", "protein", "metabolite", "imaging"),
        ("clinical",),
        ("clinical", "protein", "metabolite", "imaging", "response", "toxicity"),
    ],
    ids=["clinical only", "no clinical", "genes, survival"],
)
def test_studies_with_fewer_modalities(
    make_model: MakeModel, make_patients: MakePatients, scaling: Scaling, drop: tuple[str, ...]
) -> None:
    model = make_model(drop=drop)
    predictions = model(make_patients(4), scaling)
    assert predictions.hazard_logits.shape == (4, 3)
    assert (predictions.response_logits is None) == ("response" in drop)
    assert (predictions.log_variances is None) == ("response" in drop)


def test_weights_follow_the_seed_only(make_study: Callable[..., Study], topology: Topology) -> None:
    study = make_study()
    torch.manual_seed(1)
    first = build_model(study, topology)
    state = torch.random.get_rng_state()
    torch.manual_seed(2)
    second, third = build_model(study, topology), build_model(study, topology, seed=99)
    torch.manual_seed(1)
    assert torch.equal(torch.random.get_rng_state(), state)
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name])
    assert any(not torch.equal(t, third.state_dict()[n]) for n, t in first.state_dict().items())


def test_state_holds_parameters_only_and_each_has_a_block(make_model: MakeModel) -> None:
    model = make_model()
    assert list(model.state_dict()) == [name for name, _ in model.named_parameters()]
    blocks = {model.block_of(name) for name in model.state_dict()}
    assert blocks == {"clinical", "additive", "full"}
    assert model.block_of("_module.clinical.log_variance.weight") == "clinical"
    with pytest.raises(KeyError):
        model.block_of("other.weight")


def test_weights_do_not_depend_on_a_sites_edges(make_study: Callable[..., Study], topology: Topology) -> None:
    empty = {
        relation: edges.build(edges.source[:0], edges.target[:0])
        for relation, edges in topology.edges.items()
    }
    ours = build_model(make_study(), topology).state_dict()
    others = build_model(make_study(), replace(topology, edges=empty)).state_dict()
    assert list(ours) == list(others)
    assert all(torch.equal(ours[name], others[name]) for name in ours)


def test_presets() -> None:
    assert Sizes.of(ModelSection()) == Sizes(hidden=64, heads=4, layers=2, fusion_layers=1)
    assert Sizes.of(ModelSection(preset="paper")) == Sizes(hidden=256, heads=8, layers=3, fusion_layers=2)
    assert Sizes.of(ModelSection(preset="paper", hidden=32, layers=0)) == Sizes(32, 8, 0, 2)
    with pytest.raises(ModelError, match="MMF-609"):
        Sizes.of(ModelSection(hidden=30, heads=4))


def test_dropped_modalities() -> None:
    torch.manual_seed(0)
    has = torch.rand(4000, 3) > 0.3
    kept = torch.tensor([True, False, False])
    left = drop_modalities(has, 0.4, kept)
    assert not (left & ~has).any()
    assert torch.equal(left[:, 0], has[:, 0])
    assert torch.equal(left.any(dim=1), has.any(dim=1))
    with_clinical = has[:, 0] & has[:, 1]
    assert abs(float(left[with_clinical, 1].float().mean()) - 0.6) < 0.04
    assert torch.equal(drop_modalities(has, 0.0, kept), has)


def test_dropping_equals_absence(
    make_model: MakeModel, make_patients: MakePatients, scaling: Scaling
) -> None:
    """With every modality but the clinical one dropped, training sees what absence looks like."""
    model = make_model(dropout=0.0, modality_dropout=0.999)
    patients = make_patients(5, missing=0.0)
    absent = patients
    for name in ("gene", "protein", "metabolite", "imaging_feature"):
        absent = _without(absent, name)
    raw, values = absent.nodes, {n: scaling.apply(n, t) for n, t in absent.nodes.items()}
    full = {n: scaling.apply(n, t) for n, t in patients.nodes.items()}
    kernels = choose("auto", torch.device("cpu"))
    expected = model.full.eval()(raw, values, kernels)
    torch.manual_seed(0)
    found = model.full.train()(patients.nodes, full, kernels)
    for task in expected:
        torch.testing.assert_close(found[task], expected[task])
