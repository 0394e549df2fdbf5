"""The settings among which inner folds choose, all written down before any was scored for a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmfed_common.study import Study
from mmfed_simulations.evaluation.variants import Variant, as_is
from mmfed_simulations.tables.methods import Change, model


def _clinical_stage(study: Study) -> Study:
    first = study.training.stages[0].model_dump(mode="json")
    return study.with_changes(training={"stages": [first]})


def _last_stage(**changes: Any) -> Change:
    def changed(study: Study) -> Study:
        stages = [stage.model_dump(mode="json") for stage in study.training.stages]
        stages[-1] |= changes
        return study.with_changes(training={"stages": stages})

    return changed


SETTINGS: Mapping[str, Change] = {
    "clinical": _clinical_stage,
    "additive": as_is,
    "additive, decay .03": _last_stage(weight_decay=0.03),
    "additive, decay .3": _last_stage(weight_decay=0.3),
    "additive, 60 rounds": _last_stage(rounds=60),
    "additive, plain genes": model(pathway_tokens=False),
}
"""Name → change of the study, the simplest first."""


def candidates() -> dict[str, Variant]:
    """The settings as federated variants."""
    return {name: Variant("federated", change) for name, change in SETTINGS.items()}
