"""The arm ``personalised``: each site's own heads on the federated model of the fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import pandas as pd

from mmfed_client.prediction import predict_site
from mmfed_client.site import SiteData
from mmfed_client.training import personalise
from mmfed_common.study import Study
from mmfed_simulations.evaluation.arm_names import PERSONALISED
from mmfed_simulations.evaluation.arms import ArmResult
from mmfed_simulations.evaluation.predictions import network_frame


def personalised_arm(fold: str, study: Study, sites: Sequence[SiteData], federated: ArmResult) -> ArmResult:
    """Give every site its own heads and predict its held-out patients with them.

    Parameters
    ----------
    federated
        The federated arm of the same fold, with its weights.

    Returns
    -------
    ArmResult
        ``sites`` says for each site which pull was chosen (None: the federated model was kept) and what was
        tried.

    Raises
    ------
    MmfedError
        As :func:`mmfed_client.training.personalise`.
    """
    rows, told = [], []
    for site in sites:
        if not site.held_out.any():
            continue
        own = personalise(study, site, federated.weights, federated.scaling)
        predictions = predict_site(study, site, own.weights, federated.scaling)
        names = [site.name] * len(site.test)
        rows.append(network_frame(study.contract, site.test, names, predictions, arm=PERSONALISED, fold=fold))
        trials = [asdict(trial) for trial in own.trials]
        told.append({"site": site.name, "pull": own.pull, "trials": trials, "train": own.patients})
    return ArmResult(pd.concat(rows, ignore_index=True), sites=told)
