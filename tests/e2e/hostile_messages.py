"""What a hostile coordinator says to a site that approved an honest study, and how the site refuses it."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from tests.client.small_home import question, weights_of

from mmfed_client.training import LocalSite
from mmfed_common import messages as m
from mmfed_common.arrays import to_record
from mmfed_common.study import Study


@dataclass(frozen=True)
class Right:
    """What an honest coordinator would send: the approved study and the records of a round."""

    study: Study
    records: dict[str, ArrayRecord]

    @staticmethod
    def of(site: LocalSite) -> Right:
        """For a site like the one that is asked."""
        return Right(site.study, weights_of(site))

    def round(self, kind: str = m.TRAIN, number: int = 1, **records: Any) -> Message:
        """A round as it should be, with other records where given."""
        return question(kind, self.study.hash, number, **{**self.records, **records})

    def configured(self, kind: str = m.TRAIN, **values: Any) -> Message:
        """A round with other configuration; None leaves a key out."""
        asked = self.round(kind)
        config = dict(asked.content.config_records[m.CONFIG])
        config |= {key.replace("_", "-"): value for key, value in values.items()}
        asked.content[m.CONFIG] = ConfigRecord({k: v for k, v in config.items() if v is not None})
        return asked

    def changed(
        self, change: Callable[[dict[str, torch.Tensor]], object], record: str = m.ARRAYS, kind: str = m.TRAIN
    ) -> Message:
        """A round whose arrays were changed."""
        arrays = {n: torch.from_numpy(a.numpy()).clone() for n, a in self.records[record].items()}
        change(arrays)
        return self.round(kind, **{record: to_record(arrays)})

    def replaced(self, content: bytes, **described: Any) -> Message:
        """A round of which one array holds other bytes."""
        arrays = dict(self.records[m.ARRAYS].items())
        name = next(iter(arrays))
        was = arrays[name]
        fields = {"dtype": was.dtype, "shape": was.shape, "stype": was.stype, **described}
        arrays[name] = Array(data=content, **fields)
        return self.round(**{m.ARRAYS: ArrayRecord(arrays)})

    @property
    def first(self) -> str:
        """Name of some weight."""
        return next(iter(self.records[m.ARRAYS]))


class Program:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, ("__import__('os').abort()",)


def without(message: Message, record: str) -> Message:
    """A message that lacks a record."""
    del message.content[record]
    return message


def config_as_metrics(right: Right) -> Message:
    """The configuration in a record of another kind."""
    asked = without(right.round(), m.CONFIG)
    asked.content[m.CONFIG] = MetricRecord({m.ROUND: 1})
    return asked


def of_kind(right: Right, kind: str) -> Message:
    """A message of a kind that nobody knows."""
    asked = right.round()
    asked.metadata.__dict__["_message_type"] = kind
    return asked


def fill(name: str, value: float) -> Callable[[dict[str, torch.Tensor]], object]:
    """Set all of one array to a number."""
    return lambda arrays: arrays[name].fill_(value)


def fill_all(value: float) -> Callable[[dict[str, torch.Tensor]], object]:
    """Set everything to a number."""
    return lambda arrays: [array.fill_(value) for array in arrays.values()]


NUMPY_CODE = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': __import__('os').abort()}".ljust(117) + b"\n"
NUMPY_OBJECTS = (
    b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(117) + b"\n"
)
NUMPY_HUGE = (
    b"\x93NUMPY\x01\x00v\x00"
    + b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999,), }".ljust(117)
    + b"\n"
)
DEVIATION = "deviation.clinical_feature"
LONG = "a" * 60_000

MESSAGES: dict[str, tuple[Callable[[Right], Message], str]] = {
    "a study that nobody approved": (lambda r: r.configured(study_hash="a" * 64), "MMF-332"),
    "the approved study, changed a little": (
        lambda r: r.configured(study_hash=r.study.with_changes(training={"local_epochs": 2}).hash),
        "MMF-332",
    ),
    "the approved study with a lower floor": (
        lambda r: r.configured(study_hash=r.study.with_changes(aggregation={"minimum_patients": 1}).hash),
        "MMF-332",
    ),
    "no study named": (lambda r: r.configured(study_hash=None), "MMF-405"),
    "a study that is a path": (lambda r: r.configured(study_hash="../../key.pem"), "MMF-405"),
    "a study that is a number": (lambda r: r.configured(study_hash=7), "MMF-405"),
    "a study in capitals": (lambda r: r.configured(study_hash=r.study.hash.upper()), "MMF-405"),
    "a round that is true": (lambda r: r.configured(round=True), "MMF-405"),
    "round 0": (lambda r: r.configured(round=0), "MMF-405"),
    "a round before the first": (lambda r: r.configured(round=-1), "MMF-405"),
    "a round after the last": (lambda r: r.configured(round=6), "MMF-405"),
    "a round beyond all numbers": (lambda r: r.configured(round=2**62), "MMF-405"),
    "a round that is text": (lambda r: r.configured(round="1"), "MMF-405"),
    "a round that is a fraction": (lambda r: r.configured(round=1.5), "MMF-405"),
    "no round": (lambda r: r.configured(round=None), "MMF-405"),
    "sums of features in round 1": (lambda r: r.configured(m.MOMENTS, round=1), "MMF-405"),
    "sums of features in round true": (lambda r: r.configured(m.MOMENTS, round=True), "MMF-405"),
    "another pull": (lambda r: r.configured(proximal_mu=100.0), "MMF-402"),
    "an infinite pull": (lambda r: r.configured(proximal_mu=float("inf")), "MMF-402"),
    "a pull that is text": (lambda r: r.configured(proximal_mu="1"), "MMF-402"),
    "an extra tensor": (lambda r: r.changed(lambda w: w.update(patients=torch.ones(1))), "MMF-605"),
    "a tensor whose name is a path": (
        lambda r: r.changed(lambda w: w.update({"../../key.pem": torch.ones(1)})),
        "MMF-605",
    ),
    "a tensor left out": (lambda r: r.changed(lambda w: w.pop(r.first)), "MMF-605"),
    "a tensor of another shape": (
        lambda r: r.changed(lambda w: w.update({r.first: torch.ones(3, 3, 3)})),
        "MMF-605",
    ),
    "a tensor of another type": (
        lambda r: r.changed(lambda w: w.update({r.first: w[r.first].double()})),
        "MMF-605",
    ),
    "weights that are no numbers": (lambda r: r.changed(fill(r.first, float("nan"))), "MMF-605"),
    "infinite weights": (lambda r: r.changed(fill(r.first, float("inf"))), "MMF-605"),
    "weights sent twice": (lambda r: r.round(**{m.FROZEN: r.records[m.ARRAYS]}), "MMF-605"),
    "a pickled program as weights": (lambda r: r.replaced(pickle.dumps(Program())), "MMF-605"),
    "a program in NumPy's header": (lambda r: r.replaced(NUMPY_CODE), "MMF-605"),
    "objects in NumPy's array": (lambda r: r.replaced(NUMPY_OBJECTS + pickle.dumps(Program())), "MMF-605"),
    "a shape of 400 gigabytes": (lambda r: r.replaced(NUMPY_HUGE), "MMF-605"),
    "a zip bomb as weights": (lambda r: r.replaced(b"PK\x03\x04" + bytes(1000)), "MMF-605"),
    "weights of no bytes": (lambda r: r.replaced(b""), "MMF-605"),
    "no scaling": (lambda r: without(r.round(), m.SCALING), "MMF-605"),
    "a deviation of nothing": (lambda r: r.changed(fill(DEVIATION, 0.0), m.SCALING), "MMF-605"),
    "a deviation that magnifies": (lambda r: r.changed(fill(DEVIATION, 1e-30), m.SCALING), "MMF-605"),
    "a scaling of another panel": (
        lambda r: r.changed(lambda s: s.update({"mean.gene": torch.zeros(60, 1)}), m.SCALING),
        "MMF-605",
    ),
    "a mean that is no number": (
        lambda r: r.changed(fill("mean.clinical_feature", float("nan")), m.SCALING, m.EVALUATE_HELD_OUT),
        "MMF-605",
    ),
    "weights at which the training overflows": (lambda r: r.changed(fill_all(3e38)), "MMF-604"),
    "weights at which the evaluation overflows": (
        lambda r: r.changed(fill_all(-3e38), kind=m.EVALUATE_HELD_OUT),
        "MMF-407",
    ),
    "no weights": (lambda r: without(r.round(), m.ARRAYS), "KeyError"),
    "no configuration": (lambda r: without(r.round(), m.CONFIG), "MMF-405"),
    "a configuration of another kind": (config_as_metrics, "MMF-405"),
    "a kind that asks for patients": (lambda r: of_kind(r, "query.patients"), "ValueError"),
    "a kind that asks for a shell": (lambda r: of_kind(r, "system.shell"), "ValueError"),
    "training under another name": (lambda r: of_kind(r, "train.default"), "MMF-407"),
    "a kind that is very long": (lambda r: of_kind(r, f"query.{LONG}"), "ValueError"),
}
