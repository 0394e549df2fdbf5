"""Predictions of a site's own patients with given weights; they stay where the patients are."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmfed_client.site import SiteData
from mmfed_client.training.local_site import LocalSite
from mmfed_client.training.losses import chunks
from mmfed_client.training.reproducible import same_bits
from mmfed_common.errors import ModelError
from mmfed_common.model import Predictions
from mmfed_common.scaling import Scaling
from mmfed_common.study import Level, Study


def predict_site(
    study: Study,
    data: SiteData,
    state: Mapping[str, Tensor],
    scaling: Scaling | None,
    index: npt.NDArray[np.int64] | None = None,
    level: Level | None = None,
) -> Predictions:
    """Predict in evaluation mode.

    Parameters
    ----------
    study, data
        The study and the site's patients.
    state
        Global weights.
    scaling
        The federated scaling; None where the study scales by site or by reference.
    index
        ``(n,)`` indices into ``data.patients``; by default the held-out patients.
    level
        Level of the model; by default that of the study's last stage.

    Returns
    -------
    Predictions
        Of the ``n`` patients, in the order of ``index``, on the CPU; a task that the study lacks is None.

    Raises
    ------
    ModelError
        ``MMF-605`` when the weights do not fit the study's model.
    """
    site = LocalSite(study, data)
    rows = site.test if index is None else index
    missing = set(site.shapes) - set(state)
    if missing:
        raise ModelError("MMF-605", f"{len(missing)} weights are missing, e.g. {min(missing)}", data.name)
    try:
        model = site.load(state)
    except RuntimeError as error:
        raise ModelError("MMF-605", str(error).splitlines()[0], data.name) from None
    model.eval()
    chosen, used = level or study.training.stages[-1].level, site.scaling(scaling)
    with torch.no_grad(), same_bits(study.study.seed):
        parts = [model(patients, used, chosen) for patients in chunks(site.patients, rows)]
        if not parts:
            parts = [model(site.patients.select(torch.zeros(0, dtype=torch.int64)), used, chosen)]
    return Predictions(
        **{
            name: _joined([getattr(part, name) for part in parts])
            for name in Predictions.__dataclass_fields__
        }
    )


def _joined(parts: list[Tensor | None]) -> Tensor | None:
    present = [part.cpu() for part in parts if part is not None]
    return torch.cat(present) if present else None
