"""What may leave, by the type of the message: records, arrays, metrics, about. Anything else is refused."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from flwr.app import ArrayRecord, RecordDict

from mmfed_common import messages as m
from mmfed_common.arrays import Shapes, UnexpectedArraysError, each_view
from mmfed_common.masking import fields
from mmfed_common.names import SHA256
from mmfed_common.software import LINE

ALLOWED_METRICS: dict[str, tuple[str, ...]] = {
    m.HELLO: (m.NUM_EXAMPLES,),
    m.MOMENTS: (m.NUM_EXAMPLES,),
    m.TRAIN: (m.NUM_EXAMPLES, m.LOSS, m.SECONDS),
    **dict.fromkeys(fields.ANSWERS, (m.NUM_EXAMPLES,)),
    m.EVALUATE_HELD_OUT: (m.NUM_EXAMPLES, m.LOSS),
    m.EVALUATE_VALIDATION: (m.NUM_EXAMPLES, m.LOSS),
}
"""Message type → the metrics that its answer has, no more and no less."""

WITH_ARRAYS = frozenset({m.MOMENTS, m.TRAIN})
"""Message types whose answer holds arrays."""

MOST_PATIENTS = 10_000_000
LARGEST_COUNTER = 2**31

ABOUT_TEXTS: dict[str, re.Pattern[str]] = {
    m.STUDY_HASH: re.compile(SHA256[1:-1]),
    m.SITE: re.compile(r"[^\x00-\x1f\x7f]{1,200}"),
    m.REQUEST: re.compile(r"[A-Za-z0-9._-]{0,128}"),
    m.LEDGER_HEAD: re.compile(SHA256[1:-1]),
    m.LEDGER_PAST: re.compile(f"({SHA256[1:-1]})?"),
    m.SOFTWARE: re.compile(LINE[1:-1]),
}
"""Key of ``about`` → what its text may look like."""

ABOUT_NUMBERS = (m.ROUND, m.LEDGER_LENGTH)
ABOUT_ALWAYS = {m.STUDY_HASH, m.SITE, m.ROUND, m.REQUEST}
ABOUT_SOMETIMES = {m.LEDGER_HEAD, m.LEDGER_LENGTH, m.LEDGER_PAST, m.SOFTWARE}


class NotAllowedError(ValueError):
    """Something must not leave; the text names it, and holds no value of it."""


def check_content(kind: str, content: RecordDict, allowed: Shapes) -> None:
    """Check a finished answer, as it will be sent, against the allow-list.

    Parameters
    ----------
    kind
        The message's type.
    content
        All its records; not signed yet.
    allowed
        Name → shape and type of every array that it must hold; empty when it must hold none.

    Raises
    ------
    NotAllowedError
        At the first thing that is not on the list.
    """
    if kind not in ALLOWED_METRICS:
        raise NotAllowedError("the site answers no messages of this type")
    if bool(allowed) != (kind in WITH_ARRAYS):
        raise NotAllowedError(f"arrays do not belong to {kind}" if allowed else f"{kind} needs arrays")
    records = {m.METRICS, m.ABOUT} | ({m.ARRAYS} if allowed else set())
    records |= {m.MASKING} if kind in fields.ANSWERS else set()
    if set(content) != records or m.METRICS not in content.metric_records:
        raise NotAllowedError(f"the records are not those of {kind}")
    if m.ABOUT not in content.config_records or (allowed and m.ARRAYS not in content.array_records):
        raise NotAllowedError(f"the records are not those of {kind}")
    check_metrics(kind, dict(content.metric_records[m.METRICS]))
    _check_about(dict(content.config_records[m.ABOUT]))
    if kind in fields.ANSWERS:
        _check_masking(kind, content)
    if allowed:
        _check_arrays(content.array_records[m.ARRAYS], allowed)


def check_metrics(kind: str, metrics: Mapping[str, Any]) -> None:
    """Check names, types and ranges of metrics; raises :class:`NotAllowedError`."""
    if set(metrics) != set(ALLOWED_METRICS[kind]):
        raise NotAllowedError(f"metrics {sorted(metrics)} are not those of {kind}")
    count = metrics[m.NUM_EXAMPLES]
    if type(count) is not int or not 0 <= count <= MOST_PATIENTS:
        raise NotAllowedError("the number of patients is not a plausible count")
    for name in set(metrics) - {m.NUM_EXAMPLES}:
        if type(metrics[name]) is not float or not math.isfinite(metrics[name]):
            raise NotAllowedError(f"metric {name} of {kind} is not a finite number")
    if metrics.get(m.SECONDS, 0.0) < 0:
        raise NotAllowedError("a training cannot take less than no time")


def _check_about(about: Mapping[str, Any]) -> None:
    if not ABOUT_ALWAYS <= set(about) <= ABOUT_ALWAYS | ABOUT_SOMETIMES:
        raise NotAllowedError("`about` has other keys than it must")
    for key, value in about.items():
        if key in ABOUT_NUMBERS:
            fits = type(value) is int and -1 <= value < LARGEST_COUNTER
        else:
            fits = isinstance(value, str) and ABOUT_TEXTS[key].fullmatch(value) is not None
        if not fits:
            raise NotAllowedError(f"`{key}` of `about` is not of its form")


def _check_masking(kind: str, content: RecordDict) -> None:
    if m.MASKING not in content.config_records:
        raise NotAllowedError(f"the records are not those of {kind}")
    try:
        fields.check_answer(kind, dict(content.config_records[m.MASKING]))
    except fields.UnreadableError as error:
        raise NotAllowedError(f"{kind}: {error}") from None


def _check_arrays(record: ArrayRecord, allowed: Shapes) -> None:
    """Read the arrays back from the bytes that will be sent: header, length and numbers are what they say."""
    try:
        for _ in each_view(record, allowed):
            continue
    except UnexpectedArraysError as error:
        raise NotAllowedError(str(error)) from None
    for name, array in record.items():
        shape, dtype = allowed[name]
        described = (array.dtype, tuple(array.shape), array.stype)
        if described != (_numpy_name(dtype), shape, "numpy.ndarray"):
            raise NotAllowedError(f"array {name} is described otherwise than it is")


def _numpy_name(dtype: torch.dtype) -> str:
    return str(np.dtype(torch.empty(0, dtype=dtype).numpy().dtype))
