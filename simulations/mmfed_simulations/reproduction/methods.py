"""The methods that are compared: one setting each, fixed before any of them was scored on these patients."""

from __future__ import annotations

from functools import partial
from typing import Any

from mmfed_common.study import Study
from mmfed_simulations.evaluation.variants import Variant
from mmfed_simulations.reproduction.benchmarks import Benchmark

LOCAL: dict[str, Any] = {"batch": 32, "local_epochs": 5, "optimiser": "sgd"}
"""What sites do in a round of the classic methods: five passes in steps of 32 patients."""
CLASSIC: dict[str, dict[str, Any]] = {
    "fedavg": {"strategy": "fedavg"},
    "fedprox": {"strategy": "fedprox", "proximal_mu": 0.1},
    "fedadam": {"strategy": "fedadam", "server_learning_rate": 0.03},
}
CHOSEN = "chosen"
DECAYS = (0.01, 0.03, 0.1, 0.3)
"""Weight decays among which inner folds choose; the first is the study's."""
LABELS = {
    "ours": "mmfed",
    CHOSEN: "mmfed, weight decay chosen in inner folds",
    "pooled": "pooled",
    "local": "local",
    "fedavg": "FedAvg",
    "fedprox": "FedProx",
    "fedadam": "FedAdam",
    "cox_clinical": "Cox, pooled",
    "logistic_clinical": "logistic regression, pooled",
}
"""Methods as a reader sees them."""


def method_names(benchmark: Benchmark) -> list[str]:
    """Every method of a benchmark, in the order in which they are shown."""
    ours, *others = methods(benchmark)
    return [ours, CHOSEN, *others]


def methods(benchmark: Benchmark, seed: int = 0) -> dict[str, Variant]:
    """Every method of a benchmark with one setting.

    ``ours`` and ``pooled`` are the benchmark's study: one step over all patients a round, FedAdam at the
    server; ``local`` is the same at each site alone. The classic methods train in small batches between
    rounds, as many passes over the patients in all. All train the same model.

    Parameters
    ----------
    seed
        Added to the study's.
    """

    seeded = partial(_seeded, seed)

    def classic(aggregation: dict[str, Any]) -> Variant:
        def changed(study: Study) -> Study:
            (stage,) = study.training.stages
            rounds = max(1, stage.rounds // int(LOCAL["local_epochs"]))
            stages = [stage.model_dump(mode="json") | {"rounds": rounds, "learning_rate": 0.1}]
            stages[0]["server_learning_rate"] = None
            training = LOCAL | {"stages": stages}
            return seeded(study).with_changes(training=training, aggregation=aggregation)

        return Variant("federated", changed)

    found = {"ours": Variant("federated", seeded), "pooled": Variant("pooled", seeded)}
    found["local"] = Variant("local", seeded)
    found |= {name: classic(aggregation) for name, aggregation in CLASSIC.items()}
    found[benchmark.baseline] = Variant(benchmark.baseline, seeded)
    return found


def decays(seed: int = 0) -> dict[str, Variant]:
    """The benchmark's study with each weight decay."""

    def changed(decay: float, study: Study) -> Study:
        (stage,) = study.training.stages
        stages = [stage.model_dump(mode="json") | {"weight_decay": decay}]
        return _seeded(seed, study).with_changes(training={"stages": stages})

    return {f"decay {decay}": Variant("federated", partial(changed, decay)) for decay in DECAYS}


def _seeded(seed: int, study: Study) -> Study:
    return study.with_changes(study={"seed": study.study.seed + seed})
