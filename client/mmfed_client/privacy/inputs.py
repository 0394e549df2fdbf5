"""What a private result depends on beside its noise: a name for it that only the site can make or read."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mmfed_client.privacy.noise import keyed_digest
from mmfed_client.training.local_site import LocalSite
from mmfed_common.arrays import digest_of
from mmfed_common.privacy import PrivacyPlan
from mmfed_common.software import software


def inputs_of(
    secret: bytes, site: LocalSite, plan: PrivacyPlan, arrays: Mapping[str, Tensor], *more: str | int | bytes
) -> bytes:
    """Name what goes into a result: 32 bytes.

    The same noise must never meet other data, another amount of noise or another way of rounding: the
    difference of two such results would show what the noise hides. So all of it is in the name, the name is
    in the key of the noise, and the account charges each name on its own.

    Parameters
    ----------
    arrays
        Weights and scaling that came with the message.
    more
        What else the result depends on.
    """
    spent = (plan.sigma, plan.rate, plan.steps_of_round, plan.scaling)
    way = (software(), str(torch.__version__), torch.backends.cpu.get_cpu_capability(), site.device.type)
    return keyed_digest(
        secret,
        "inputs",
        site.study.hash,
        site.name,
        repr(spent),
        repr(way),
        digest_of(arrays),
        site.fit_digest,
        *more,
    )
