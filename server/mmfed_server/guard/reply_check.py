"""Is a reply what was asked for? Checked before anything of it is used.

These are checks of form and plausibility of a single reply; those that compare sites with each other are in
:mod:`mmfed_server.guard.norms`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from flwr.app import Message
from numpy.typing import NDArray
from torch import Tensor

from mmfed_common import messages as m
from mmfed_common.arrays import Shapes, UnexpectedArraysError, each_of_record, each_view, payload_bytes
from mmfed_common.compression import Compression, each_restored
from mmfed_common.errors import NetworkError

MOST_PATIENTS = 10_000_000
CODE_OF = {"names": "MMF-451", "bytes": "MMF-450", "shape": "MMF-452", "values": "MMF-453"}
"""In which respect arrays are wrong → the code for it."""


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
    """A reply whose records passed: its metrics, number of examples and bytes of arrays."""

    site: str
    metrics: dict[str, float]
    num_examples: int
    bytes: int


def check_reply(message: Message, expected: Expected) -> Checked:
    """Check all of a reply but the content of its arrays, which :func:`each_array` checks.

    Raises
    ------
    NetworkError
        ``MMF-451`` and ``MMF-453`` to ``MMF-457``, with what is wrong.
    """
    content = message.content
    records = {m.METRICS, m.ABOUT} | ({m.ARRAYS} if expected.arrays else set())
    if set(content) != records:
        raise _refuse("MMF-451", expected, "it does not hold the records that were asked for")
    if m.METRICS not in content.metric_records or m.ABOUT not in content.config_records:
        raise _refuse("MMF-451", expected, "its records are of the wrong kind")
    if expected.arrays and m.ARRAYS not in content.array_records:
        raise _refuse("MMF-451", expected, "its records are of the wrong kind")
    _check_about(message, expected)
    metrics = content.metric_records[m.METRICS]
    if set(metrics) != {m.NUM_EXAMPLES, *expected.metrics}:
        raise _refuse("MMF-451", expected, "its metrics are not those that were asked for")
    numbers: dict[str, int | float] = {}
    for name, value in metrics.items():
        if isinstance(value, list) or not _is_finite(value):
            raise _refuse("MMF-453", expected, f"metric {name} is not a finite number")
        numbers[name] = value
    count = numbers.pop(m.NUM_EXAMPLES)
    if not isinstance(count, int) or not 0 <= count <= MOST_PATIENTS:
        raise _refuse("MMF-454", expected, "its number of examples is not plausible")
    if expected.num_examples is not None and count != expected.num_examples:
        announced = f"it counts {count} examples, the site announced {expected.num_examples}"
        raise _refuse("MMF-454", expected, announced)
    size = payload_bytes(content.array_records[m.ARRAYS]) if expected.arrays else 0
    return Checked(expected.site, {name: float(value) for name, value in numbers.items()}, count, size)


def each_array(message: Message, expected: Expected) -> Iterator[tuple[str, Tensor]]:
    """Check and give the arrays of a reply, one after another in the order of their names.

    Raises
    ------
    NetworkError
        ``MMF-450`` to ``MMF-453``, at the first array that is wrong.
    """
    with _refused(expected):
        yield from each_of_record(message.content.array_records[m.ARRAYS], expected.arrays or {})


def each_array_in_place(message: Message, expected: Expected) -> Iterator[tuple[str, NDArray[Any]]]:
    """Check and give the arrays as :func:`each_array` does, in the bytes that came: nothing is copied.

    Raises
    ------
    NetworkError
        ``MMF-450`` to ``MMF-453``, at the first array that is wrong.
    """
    with _refused(expected):
        yield from each_view(message.content.array_records[m.ARRAYS], expected.arrays or {})


def each_weight_in_place(
    message: Message, expected: Expected, sent: Mapping[str, Tensor], kind: Compression
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Check and give the weights that an update stands for, one array after another.

    Parameters
    ----------
    sent
        The weights that the site was sent: a compressed update holds changes.

    Raises
    ------
    NetworkError
        As :func:`each_array`; ``MMF-408`` when compressed numbers are none that a site sends.
    """
    try:
        yield from each_restored(each_array_in_place(message, expected), sent, kind)
    except UnexpectedArraysError as error:
        raise _refuse("MMF-408", expected, str(error)) from None


@contextmanager
def _refused(expected: Expected) -> Iterator[None]:
    """Give arrays that are not the expected ones their code."""
    try:
        yield
    except UnexpectedArraysError as error:
        raise _refuse(CODE_OF[error.difference], expected, str(error)) from None


def _check_about(message: Message, expected: Expected) -> None:
    about = message.content.config_records[m.ABOUT]
    if about.get(m.STUDY_HASH) != expected.study_hash:
        raise _refuse("MMF-455", expected, "it belongs to another study")
    number = about.get(m.ROUND)
    if isinstance(number, bool) or number != expected.round:
        raise _refuse("MMF-456", expected, f"it is not of round {expected.round}")
    if expected.site and about.get(m.SITE) != expected.site:
        raise _refuse("MMF-457", expected, "it names another site")


def _is_finite(value: int | float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond the range of floats is finite, and not plausible for anything
        return False


def _refuse(code: str, expected: Expected, reason: str) -> NetworkError:
    return NetworkError(code, reason, expected.site)
