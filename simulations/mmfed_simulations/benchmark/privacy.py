"""What differential privacy costs in time: our step beside a plain one and beside Opacus, in one run."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from rich.table import Table
from torch import Tensor, nn
from torch.optim import AdamW

from mmfed_client.privacy.gradients import PatientGradients
from mmfed_client.privacy.noise import SecretStream
from mmfed_client.privacy.step import set_noisy_gradients
from mmfed_common.model import MultimodalNetwork
from mmfed_common.randomness import numpy_generator
from mmfed_common.schedule import trained_parameters
from mmfed_common.study import Privacy
from mmfed_common.tasks import multitask
from mmfed_common.trainable import Trainable
from mmfed_simulations.benchmark.training import Case, TrainingBenchmark, case_of, in_turns

SIGMA, CLIPPING, RATE, LARGEST = 1.0, 1.0, 1e-3, 5.0
RESAMPLES, SEED = 2000, 21
FORMS = {
    "plain": "a plain step",
    "ours": "private: ours",
    "opacus_hooks": "private: Opacus, its hooks",
    "opacus_vmap": "private: Opacus with vmap",
}


def run_privacy_benchmark(
    settings: TrainingBenchmark | None = None, trainable: Trainable = "all"
) -> dict[str, Any]:
    """Measure whole steps: forward, backward, clipping per patient, noise, optimiser.

    Returns
    -------
    ``seconds`` (median) of each form, ``ratio`` to the plain step with ``low`` and ``high`` (bootstrap over
    repeats, 95 %), the number of parameters that move, and the sizes.
    """
    wanted = settings or TrainingBenchmark()
    threads = torch.get_num_threads()
    torch.set_num_threads(wanted.threads)
    try:
        return _measure(case_of(None, wanted), wanted, trainable)
    finally:
        torch.set_num_threads(threads)


def _measure(case: Case, wanted: TrainingBenchmark, trainable: Trainable) -> dict[str, Any]:
    stage = case.study.training.stages[0].model_copy(update={"trains": ("clinical", "additive", "full")})
    names = [name for name, _ in case.model.named_parameters()]
    moved = trained_parameters(names, case.model.block_of, stage, Privacy(trainable=trainable), ())
    forms: dict[str, Callable[[], object]] = {
        "plain": _plain(case, wanted, moved),
        "ours": _ours(case, wanted, moved),
        "opacus_hooks": _opacus(case, wanted, moved, vmap=False),
        "opacus_vmap": _opacus(case, wanted, moved, vmap=True),
    }
    seconds = {name: np.array(times) for name, times in in_turns(forms, wanted.repeats).items()}
    draws = numpy_generator(SEED, "bootstrap").integers(0, wanted.repeats, (RESAMPLES, wanted.repeats))
    ratios = {}
    for name, times in seconds.items():
        ratio = times / seconds["plain"]
        low, high = np.quantile(np.median(ratio[draws], axis=1), [0.025, 0.975])
        ratios[name] = {"estimate": float(np.median(ratio)), "low": float(low), "high": float(high)}
    return {
        "trainable": trainable,
        "parameters": sum(case.model.get_parameter(name).numel() for name in moved),
        "nodes": {name: len(nodes) for name, nodes in case.topology.nodes.items()},
        "hidden": wanted.hidden,
        "batch": wanted.batch,
        "threads": wanted.threads,
        "repeats": wanted.repeats,
        "seconds": {name: float(np.median(times)) for name, times in seconds.items()},
        "ratio": ratios,
    }


def _copy(case: Case, moved: Sequence[str]) -> tuple[MultimodalNetwork, dict[str, nn.Parameter], AdamW]:
    model = copy.deepcopy(case.model).train()
    parameters = dict(model.named_parameters())
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in moved)
    trained = {name: parameters[name] for name in moved}
    return model, trained, AdamW(list(trained.values()), lr=RATE)


def _plain(case: Case, wanted: TrainingBenchmark, moved: Sequence[str]) -> Callable[[], object]:
    model, trained, optimiser = _copy(case, moved)
    some = case.patients.select(torch.arange(wanted.batch))

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        multitask.patient_losses(model, model(some, case.scaling), some.outcomes).mean().backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(list(trained.values()), LARGEST)
        optimiser.step()

    return step


def _ours(case: Case, wanted: TrainingBenchmark, moved: Sequence[str]) -> Callable[[], object]:
    model, trained, optimiser = _copy(case, moved)
    some = case.patients.select(torch.arange(wanted.batch))
    gradients = PatientGradients(model, tuple(moved))
    count = 0

    def losses() -> Tensor:
        return multitask.patient_losses(model, model(some, case.scaling), some.outcomes)

    def step() -> None:
        nonlocal count
        count += 1
        stream = SecretStream.of(bytes(32), "benchmark", count)
        with gradients.listening():
            total = gradients.clipped_sum(losses, CLIPPING)
        set_noisy_gradients(trained, total.flat, CLIPPING, SIGMA, wanted.batch, stream)
        nn.utils.clip_grad_norm_(list(trained.values()), LARGEST)
        optimiser.step()

    return step


def _opacus(
    case: Case, wanted: TrainingBenchmark, moved: Sequence[str], *, vmap: bool
) -> Callable[[], object]:
    from opacus import GradSampleModule
    from opacus.optimizers import DPOptimizer

    model, _, optimiser = _copy(case, moved)
    some = case.patients.select(torch.arange(wanted.batch))
    hooked = GradSampleModule(model, loss_reduction="sum", force_functorch=vmap)
    private = DPOptimizer(
        optimiser, noise_multiplier=SIGMA, max_grad_norm=CLIPPING, expected_batch_size=wanted.batch
    )

    def step() -> None:
        private.zero_grad(set_to_none=True)
        multitask.patient_losses(model, hooked(some, case.scaling), some.outcomes).sum().backward()  # type: ignore[no-untyped-call]
        private.step()

    return step


def privacy_table(results: Sequence[dict[str, Any]]) -> Table:
    """Show seconds a step, and how many times those of a plain one, for each choice of ``trainable``."""
    first = results[0]
    nodes = ", ".join(f"{count} {name}" for name, count in first["nodes"].items())
    title = f"One training step: {nodes}; batch {first['batch']}, {first['threads']} threads"
    table = Table(title=title, title_justify="left")
    table.add_column("trainable")
    table.add_column("step")
    table.add_column("seconds", justify="right")
    table.add_column("times a plain step", justify="right")
    for result in results:
        for name, text in FORMS.items():
            ratio = result["ratio"][name]
            shown = "1" if name == "plain" else _interval(ratio)
            choice = f"{result['trainable']} ({result['parameters']:,})" if name == "plain" else ""
            table.add_row(choice, text, f"{result['seconds'][name]:.3f}", shown)
    return table


def _interval(ratio: dict[str, float]) -> str:
    return f"{ratio['estimate']:.2f} ({ratio['low']:.2f} – {ratio['high']:.2f})"
