"""The choices of what may move, on the parameters of the real model."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from torch import nn

from mmfed_common.model import MultimodalNetwork
from mmfed_common.schedule import trained_parameters
from mmfed_common.study import Privacy, Stage
from mmfed_common.trainable import BY_SIZE, may_move


def named(model: MultimodalNetwork, choice: str) -> set[str]:
    return {name for name, _ in model.named_parameters() if may_move(name, choice)}  # type: ignore[arg-type]


def test_each_choice_holds_the_one_before_it_and_all_is_all(
    make_model: Callable[..., MultimodalNetwork],
) -> None:
    model = make_model()
    sets = [named(model, choice) for choice in BY_SIZE]
    assert all(small < large for small, large in pairwise(sets))
    assert sets[-1] == {name for name, _ in model.named_parameters()}


def test_linear_is_the_clinical_block_and_the_gates_of_the_additive_one(
    make_model: Callable[..., MultimodalNetwork],
) -> None:
    found = named(make_model(), "linear")
    assert found
    assert all(name.startswith(("clinical.", "additive.gates.")) for name in found)


def test_adapters_are_heads_biases_every_layer_norm_and_tokens(
    make_model: Callable[..., MultimodalNetwork],
) -> None:
    model = make_model()
    norms = {name for name, module in model.named_modules() if isinstance(module, nn.LayerNorm)}
    small = {n for n, _ in model.named_parameters() if n.endswith(".bias") or n.rpartition(".")[0] in norms}
    tokens = {"full.fusion.absent.weight", "full.fusion.patient.weight"}
    assert norms
    assert named(model, "adapters") == named(model, "heads") | small | tokens


def test_a_stage_moves_those_of_its_blocks_that_the_choice_names(
    make_model: Callable[..., MultimodalNetwork],
) -> None:
    model = make_model()
    names = [name for name, _ in model.named_parameters()]
    stage = Stage(level="full", rounds=1)
    found = trained_parameters(names, model.block_of, stage, Privacy(trainable="heads"), ())
    assert found
    assert all(name.startswith("full.gates.") for name in found)
