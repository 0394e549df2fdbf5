"""Is a reply what was asked for? Checked before anything of it is used.

These are checks of form and plausibility of a single reply; checks that compare sites with each other are
another matter and have another place.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from flwr.app import Message
from torch import Tensor

from mmfed_common import messages as m
from mmfed_common.arrays import Shapes, UnexpectedArraysError, from_record, payload_bytes
from mmfed_common.errors import NetworkError

MOST_PATIENTS = 10_000_000


@dataclass(frozen=True)
class Expected:
    """What a reply must be.

    Attributes
    ----------
    site, study_hash, round
        Whose, of which study and round.
    metrics
        Names of its metrics, besides the number of examples.
    arrays
        Name → shape and type of its arrays; empty when it must hold none.
    num_examples
        The number of patients that the site announced; None when any plausible number will do.
    """

    site: str
    study_hash: str
    round: int
    metrics: tuple[str, ...] = ()
    arrays: Shapes | None = None
    num_examples: int | None = None


@dataclass(frozen=True)
class Checked:
    """A reply that passed: its tensors, metrics, number of examples and bytes of arrays."""

    site: str
    tensors: dict[str, Tensor]
    metrics: dict[str, float]
    num_examples: int
    bytes: int


def check_reply(message: Message, expected: Expected) -> Checked:
    """Check a reply.

    Raises
    ------
    NetworkError
        ``MMF-402`` with what is wrong with it.
    """
    content = message.content
    records = {m.METRICS, m.ABOUT} | ({m.ARRAYS} if expected.arrays else set())
    if set(content) != records:
        raise _refuse(expected, "it does not hold the records that were asked for")
    if m.METRICS not in content.metric_records or m.ABOUT not in content.config_records:
        raise _refuse(expected, "its records are of the wrong kind")
    about, metrics = content.config_records[m.ABOUT], content.metric_records[m.METRICS]
    if about.get(m.STUDY_HASH) != expected.study_hash:
        raise _refuse(expected, "it belongs to another study")
    if about.get(m.ROUND) != expected.round:
        raise _refuse(expected, f"it is not of round {expected.round}")
    if expected.site and about.get(m.SITE) != expected.site:
        raise _refuse(expected, "it names another site")
    if set(metrics) != {m.NUM_EXAMPLES, *expected.metrics}:
        raise _refuse(expected, "its metrics are not those that were asked for")
    numbers = {}
    for name, value in metrics.items():
        if isinstance(value, list) or not math.isfinite(value):
            raise _refuse(expected, f"metric {name} is not a finite number")
        numbers[name] = value
    count = numbers.pop(m.NUM_EXAMPLES)
    if not isinstance(count, int) or not 0 <= count <= MOST_PATIENTS:
        raise _refuse(expected, "its number of examples is not plausible")
    if expected.num_examples is not None and count != expected.num_examples:
        raise _refuse(expected, f"it counts {count} examples, the site announced {expected.num_examples}")
    tensors, size = {}, 0
    if expected.arrays:
        if m.ARRAYS not in content.array_records:
            raise _refuse(expected, "its records are of the wrong kind")
        size = payload_bytes(content.array_records[m.ARRAYS])
        try:
            tensors = from_record(content.array_records[m.ARRAYS], expected.arrays)
        except UnexpectedArraysError as error:
            raise _refuse(expected, str(error)) from None
    return Checked(expected.site, tensors, {k: float(v) for k, v in numbers.items()}, count, size)


def _refuse(expected: Expected, reason: str) -> NetworkError:
    return NetworkError("MMF-402", reason, expected.site)
