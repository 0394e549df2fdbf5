"""Everything that leaves a site is put together here, and checked against what the study allows.

There is one way out, :meth:`Outgoing._release`: it compares record names, array names, shapes and types and
metric names with an allow-list that is built from the study alone, and refuses anything else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from flwr.app import ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.common.constant import ErrorCode
from torch import Tensor

from mmfed_client.training.local import LocalUpdate
from mmfed_client.training.losses import LossSum
from mmfed_common import messages as m
from mmfed_common.arrays import Shapes, UnexpectedArraysError, check_tensors, to_record
from mmfed_common.errors import MmfedError, NetworkError
from mmfed_common.scaling import Moments
from mmfed_common.study import Study

ALLOWED_METRICS: dict[str, tuple[str, ...]] = {
    m.HELLO: (m.NUM_EXAMPLES,),
    m.MOMENTS: (m.NUM_EXAMPLES,),
    m.TRAIN: (m.NUM_EXAMPLES, m.LOSS, m.SECONDS),
    m.EVALUATE_HELD_OUT: (m.NUM_EXAMPLES, m.LOSS),
    m.EVALUATE_VALIDATION: (m.NUM_EXAMPLES, m.LOSS),
}


class Outgoing:
    """Assembles the replies of one site.

    Parameters
    ----------
    study
        Says what may leave: least patients of an update, least cell of a metric.
    site
        The site's name.
    """

    def __init__(self, study: Study, site: str) -> None:
        self.study = study
        self.site = site

    def hello(self, request: Message, patients: int) -> Message:
        """Say who this is and on how many patients it can train; 0 when they are below the study's floor."""
        counted = patients if patients >= self.study.aggregation.minimum_patients else 0
        return self._release(request, {}, {}, {m.NUM_EXAMPLES: counted})

    def moments(self, request: Message, moments: Moments, patients: int, allowed: Shapes) -> Message:
        """Send the sufficient statistics of the federated scaling."""
        self._at_least(patients)
        return self._release(request, moments.to_arrays(), allowed, {m.NUM_EXAMPLES: patients})

    def update(self, request: Message, update: LocalUpdate, seconds: float, allowed: Shapes) -> Message:
        """Send the parameters that the stage trains."""
        self._at_least(update.patients)
        metrics = {m.NUM_EXAMPLES: update.patients, m.LOSS: update.loss, m.SECONDS: seconds}
        return self._release(request, update.trained, allowed, metrics)

    def evaluation(self, request: Message, loss: LossSum) -> Message:
        """Send the sum of a loss; nothing but a count of 0 below the study's least cell."""
        if loss.patients < self.study.evaluation.minimum_cell:
            loss = LossSum(0.0, 0)
        return self._release(request, {}, {}, {m.NUM_EXAMPLES: loss.patients, m.LOSS: loss.total})

    @staticmethod
    def error(request: Message, error: Exception) -> Message:
        """Say that something failed: a code and its meaning, or the exception's type, never its text."""
        reason = error.public if isinstance(error, MmfedError) else type(error).__name__
        return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=request)

    def _at_least(self, patients: int) -> None:
        floor = self.study.aggregation.minimum_patients
        if patients < floor:
            raise NetworkError("MMF-406", f"{patients} patients, the study's floor is {floor}", self.site)

    def _release(
        self,
        request: Message,
        arrays: Mapping[str, Tensor],
        allowed: Shapes,
        metrics: Mapping[str, int | float],
    ) -> Message:
        kind = request.metadata.message_type
        if set(metrics) != set(ALLOWED_METRICS[kind]):
            raise NetworkError("MMF-407", f"metrics {sorted(metrics)} are not those of {kind}", self.site)
        if not all(math.isfinite(value) for value in metrics.values()):
            raise NetworkError("MMF-407", f"a metric of {kind} is not a finite number", self.site)
        about: dict[str, str | int] = {
            m.STUDY_HASH: self.study.hash,
            m.SITE: self.site,
            m.ROUND: _round_of(request),
        }
        content = RecordDict({m.METRICS: MetricRecord(dict(metrics)), m.ABOUT: ConfigRecord({**about})})
        if arrays:
            try:
                check_tensors(arrays, allowed)
            except UnexpectedArraysError as error:
                raise NetworkError("MMF-407", str(error), self.site) from None
            content[m.ARRAYS] = to_record(arrays)
        return Message(content, reply_to=request)


def _round_of(request: Message) -> int:
    value = request.content.config_records[m.CONFIG][m.ROUND]
    return value if isinstance(value, int) else -1
