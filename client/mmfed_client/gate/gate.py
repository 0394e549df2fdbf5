"""The gate: everything that leaves a site is put together here, and checked against what is allowed.

There is one way out, :meth:`Gate._release`. It compares record names, array names, shapes and types, metric
names and ranges with an allow-list made from the study alone; reads the arrays back from the very bytes that
will be sent; applies the site's policy; and for a real site signs the answer and writes the receipt, all
before the answer is handed over. A simulation passes the same checks and has no ledger and no key.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from torch import Tensor

from mmfed_client.gate.allowed import NotAllowedError, check_content
from mmfed_client.gate.exit import Exit
from mmfed_client.gate.feature_floor import keep_common_features
from mmfed_client.policy import Policy
from mmfed_client.training.local import LocalUpdate
from mmfed_client.training.losses import LossSum
from mmfed_common import messages as m
from mmfed_common.arrays import Shapes, shapes_of, to_record
from mmfed_common.errors import NetworkError, PrivacyError
from mmfed_common.masking import fields
from mmfed_common.masking.stream import Vector
from mmfed_common.scaling import Moments
from mmfed_common.software import software
from mmfed_common.study import Study
from mmfed_common.topology import Topology

NO_NUMBER = {m.NUM_EXAMPLES: 0, m.LOSS: 0.0, m.SECONDS: 0.0}
"""What stands for a metric that the policy keeps back."""


class Gate:
    """Puts together the answers of one site to one message.

    Parameters
    ----------
    study
        Says what may leave: least patients of an update, least cell of a metric.
    site
        The site's name.
    way_out
        A real site's exit; None in a simulation.

    Raises
    ------
    PrivacyError
        ``MMF-320``, ``MMF-321`` when a real site has no valid policy.
    """

    def __init__(self, study: Study, site: str, way_out: Exit | None = None) -> None:
        self.study = study
        self.site = site
        self.way_out = way_out
        self.policy: Policy | None = None if way_out is None else way_out.policy()

    @staticmethod
    def for_simulation(study: Study, site: str) -> Gate:
        """A gate with every check, without policy, ledger and key."""
        return Gate(study, site)

    @property
    def minimum_patients(self) -> int:
        """Least training patients: the study's floor or the policy's, whichever is higher."""
        floor = self.study.aggregation.minimum_patients
        return floor if self.policy is None else max(floor, self.policy.minimum_patients)

    @property
    def minimum_cell(self) -> int:
        """Least patients of an evaluation: the study's or the policy's, whichever is higher."""
        cell = self.study.evaluation.minimum_cell
        return cell if self.policy is None else max(cell, self.policy.minimum_cell)

    @property
    def minimum_per_feature(self) -> int:
        """Least patients of a feature's sums: the study's floor or the policy's, whichever is higher."""
        floor = self.study.aggregation.minimum_patients
        return floor if self.policy is None else max(floor, self.policy.minimum_per_feature)

    def hello(self, request: Message, patients: int) -> Message:
        """Say who this is and on how many patients it can train; 0 when they are below the floor.

        Where the policy hides counts it says the study's own floor, which everybody knows.
        """
        counted = patients if patients >= self.minimum_patients else 0
        if counted and self._hides_counts:
            counted = self.study.aggregation.minimum_patients
        return self._release(request, {}, {}, {m.NUM_EXAMPLES: counted})

    def moments(
        self,
        request: Message,
        moments: Moments,
        measured: dict[str, Tensor],
        patients: int,
        topology: Topology,
        allowed: Shapes,
    ) -> Message:
        """Send the sufficient statistics of the federated scaling; parameters as :meth:`kept_sums`.

        Raises
        ------
        PrivacyError
            ``MMF-394`` in a study with secure aggregation: see :meth:`masked_sums`.
        """
        if self.study.aggregation.secure:
            raise PrivacyError("MMF-394", "sums of features without masks", self.site)
        kept = self.kept_sums(moments, measured, patients, topology)
        return self._release(request, kept.to_arrays(), allowed, {m.NUM_EXAMPLES: patients})

    def masked_sums(
        self, request: Message, patients: int, vector: Vector, allowed: Shapes, name: str
    ) -> Message:
        """Send :meth:`kept_sums` masked.

        Parameters
        ----------
        name
            Names the sums without masks and does not betray them: for the ledger, which lets a study have one
            set of them.
        """
        self._at_least(patients)
        arrays = {fields.MASKED: torch.from_numpy(vector)}
        return self._release(request, arrays, allowed, {m.NUM_EXAMPLES: 0}, sums=name)

    def kept_sums(
        self, moments: Moments, measured: dict[str, Tensor], patients: int, topology: Topology
    ) -> Moments:
        """Give those sums of features that may leave, the others as 0.

        Parameters
        ----------
        measured
            Node type → ``(nodes, channels)``: patients in whom each feature was measured.

        Raises
        ------
        PrivacyError
            ``MMF-330`` when the policy lets no sums leave; ``MMF-323`` below its floor.
        NetworkError
            ``MMF-406`` when there are fewer patients than the study's floor.
        """
        self._at_least(patients)
        if self.policy is not None and not self.policy.allow_moments:
            raise PrivacyError("MMF-330", "`allow_moments` is false", self.site)
        floor = self.minimum_per_feature
        return keep_common_features(moments, measured, self.study.contract, topology, floor)

    def update(self, request: Message, update: LocalUpdate, seconds: float, allowed: Shapes) -> Message:
        """Send the parameters that the stage trains; errors as :meth:`moments`.

        Raises
        ------
        PrivacyError
            ``MMF-394`` in a study with secure aggregation: see :meth:`masked_update`.
        """
        if self.study.aggregation.secure:
            raise PrivacyError("MMF-394", "an update without masks", self.site)
        self._at_least(update.patients)
        metrics = {m.NUM_EXAMPLES: update.patients, m.LOSS: update.loss, m.SECONDS: seconds}
        return self._release(request, update.trained, allowed, metrics)

    def masking(self, request: Message, patients: int, record: Mapping[str, object]) -> Message:
        """Send what a step of secure aggregation needs beside masked numbers; errors as :meth:`moments`."""
        self._at_least(patients)
        return self._release(request, {}, {}, {m.NUM_EXAMPLES: 0}, fields.config(record))

    def masked_update(
        self, request: Message, patients: int, vector: Vector, seconds: float, allowed: Shapes
    ) -> Message:
        """Send a masked update: count and loss are in the masked numbers, 0 is told beside them.

        Parameters
        ----------
        patients
            How many were trained on, for the floors; errors as :meth:`moments`.
        """
        self._at_least(patients)
        metrics = {m.NUM_EXAMPLES: 0, m.LOSS: 0.0, m.SECONDS: seconds}
        return self._release(request, {fields.MASKED: torch.from_numpy(vector)}, allowed, metrics)

    def evaluation(self, request: Message, loss: LossSum, patients: int) -> Message:
        """Send the sum of a loss; only a count of 0 below the least cell, under DP, or if the policy says.

        Parameters
        ----------
        patients
            How many the site trains on: below the floor of an update no loss leaves either.
        """
        withheld = self.policy is not None and not (self.policy.evaluation and m.LOSS in self.policy.metrics)
        withheld = withheld or self.study.privacy.mode != "none"
        few = patients < self.minimum_patients or loss.patients < self.minimum_cell
        if withheld or self._hides_counts or few:
            loss = LossSum(0.0, 0)
        return self._release(request, {}, {}, {m.NUM_EXAMPLES: loss.patients, m.LOSS: loss.total})

    def refuse_few(self, patients: int) -> None:
        """Raise as :meth:`update` would: before something is paid for that cannot leave."""
        self._at_least(patients)

    def _at_least(self, patients: int) -> None:
        floor = self.study.aggregation.minimum_patients
        if patients < floor:
            raise NetworkError("MMF-406", f"{patients} patients, the study's floor is {floor}", self.site)
        if patients < self.minimum_patients:
            what = f"{patients} patients, the policy's floor is {self.minimum_patients}"
            raise PrivacyError("MMF-323", what, self.site)

    def _release(
        self,
        request: Message,
        arrays: Mapping[str, Tensor],
        allowed: Shapes,
        metrics: Mapping[str, int | float],
        masking: ConfigRecord | None = None,
        sums: str = "",
    ) -> Message:
        kind = request.metadata.message_type
        shown: dict[str, int | float | list[int] | list[float]] = {
            name: value if self._may_tell(name) else NO_NUMBER[name] for name, value in metrics.items()
        }
        content = RecordDict({m.METRICS: MetricRecord(shown), m.ABOUT: self._about(request, kind)})
        try:
            if shapes_of(arrays) != dict(allowed):
                raise NotAllowedError("the arrays are not those that were expected")
            if arrays:
                content[m.ARRAYS] = to_record(arrays)
            if masking is not None:
                content[m.MASKING] = masking
            check_content(kind, content, allowed)
        except NotAllowedError as error:
            raise NetworkError("MMF-407", str(error), self.site) from None
        answer = Message(content, reply_to=request)
        if self.way_out is None or self.policy is None:
            return answer
        private = self.study.privacy.mode == "dp"
        return self.way_out.release(answer, self.policy, self.study.hash, private=private, sums=sums)

    @property
    def _hides_counts(self) -> bool:
        return self.policy is not None and self.policy.hide_counts and self.study.aggregation.secure

    def _may_tell(self, metric: str) -> bool:
        if metric == m.LOSS and self.study.privacy.mode != "none":
            return False
        return self.policy is None or metric in self.policy.metrics

    def _about(self, request: Message, kind: str) -> ConfigRecord:
        about: dict[str, str | int] = {
            m.STUDY_HASH: self.study.hash,
            m.SITE: self.site,
            m.ROUND: _round_of(request),
            m.REQUEST: request.metadata.message_id,
        }
        if kind == m.HELLO:
            about[m.SOFTWARE] = software()
        if self.way_out is not None:
            head = self.way_out.head()
            about[m.LEDGER_HEAD], about[m.LEDGER_LENGTH] = head.hash, head.length
            known = request.content.config_records[m.CONFIG].get(m.LEDGER_KNOWN)
            if type(known) is int:
                about[m.LEDGER_PAST] = self.way_out.past(known)
        return ConfigRecord({**about})


def _round_of(request: Message) -> int:
    value = request.content.config_records[m.CONFIG][m.ROUND]
    return value if type(value) is int and 0 <= value < 2**31 else -1
