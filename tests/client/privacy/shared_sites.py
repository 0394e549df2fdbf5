"""Studies and sites whose noise is shared."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from tests.client.privacy.private_sites import CONTRACT, SECRET, CountingSpender, plan_with, start_of

from mmfed_client.masking.numbers import share_numbers
from mmfed_client.privacy import NoisyShare, noisy_share
from mmfed_client.privacy.gradients import PatientGradients
from mmfed_client.privacy.round import begin, clipped_sum
from mmfed_client.training import LocalSite
from mmfed_common.masking.layout import Layout
from mmfed_common.masking.stream import Vector
from mmfed_common.scaling import Scaling
from mmfed_common.schedule import Place, trained_parameters
from mmfed_common.study import Study

ONE_STEP = {"batch": 0, "local_epochs": 1, "optimiser": "sgd", "gradient_clip": 0}
CLINICAL = [{"level": "clinical", "rounds": 3, "learning_rate": 0.5}]
EVERYTHING = [
    {"level": "full", "rounds": 1, "learning_rate": 0.5, "trains": ["clinical", "additive", "full"]}
]
SHARED_DP = {"mode": "dp", "epsilon": 8.0, "delta": 1e-3, "noise": "shared"}


def shared_study(**sections: dict[str, Any]) -> Study:
    """A study with shared noise and no dropout; sections extend the defaults."""
    defaults: dict[str, dict[str, Any]] = {
        "study": {"name": "small", "seed": 7},
        "contract": CONTRACT,
        "model": {
            "hidden": 8,
            "heads": 2,
            "layers": 1,
            "fusion_layers": 1,
            "dropout": 0.0,
            "modality_dropout": 0.0,
        },
        "training": {**ONE_STEP, "stages": CLINICAL},
        "aggregation": {"minimum_sites": 3, "secure": True, "secure_threshold": 0.67},
        "privacy": SHARED_DP,
        "evaluation": {"every": 0, "rule": "none"},
    }
    content = {name: {**section, **sections.get(name, {})} for name, section in defaults.items()}
    return Study.from_content(content)


def share_of(site: LocalSite, sigma: float, honest: int, attempt: bytes = b"") -> NoisyShare:
    """A site's share of the first round's sum, with an amount of noise of one's own."""
    plan = replace(plan_with(site, sigma), honest_sites=honest, colluding_sites=1)
    place = Place.of(site.study.training, 1)
    scaling = Scaling.from_reference(site.study.contract, site.topology)
    return noisy_share(site, start_of(site), scaling, place, CountingSpender(plan), SECRET, attempt)


def signal_of(site: LocalSite) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The sum of the site's clipped gradients in the first round, without noise."""
    place = Place.of(site.study.training, 1)
    model, trained = begin(site, start_of(site), place, plan_with(site, 1.0))
    scaling = Scaling.from_reference(site.study.contract, site.topology)
    with PatientGradients(model, tuple(trained)).listening() as gradients:
        return clipped_sum(site, model, gradients, site.fit, scaling, place).numpy()


def layout_of(site: LocalSite) -> Layout:
    """How a site's numbers lie in the first round."""
    place = Place.of(site.study.training, 1)
    names = trained_parameters(site.shapes, site.model.block_of, place.stage, site.study.privacy, ())
    return Layout.of({name: site.shapes[name] for name in names}, site.study, place)


def numbers(site: LocalSite, sigma: float, honest: int, attempt: bytes = b"") -> Vector:
    """What the site masks: patients, loss, changes."""
    return share_numbers(share_of(site, sigma, honest, attempt), layout_of(site))
