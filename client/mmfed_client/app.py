"""The Flower ClientApp of a site: answers the server's messages, and nothing else.

It holds no transport. What opens the site is passed in, so that a simulation, a worker process, a Ray actor
and a hospital's own loop run the same code.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, Context, Message
from flwr.clientapp import ClientApp
from torch import Tensor

from mmfed_client.gate import Exit, Gate, error_reply
from mmfed_client.gate.feature_floor import patients_measured
from mmfed_client.masking.numbers import numbers_of, share_numbers
from mmfed_client.masking.rounds import Attempt, MaskedRounds
from mmfed_client.privacy import NoisyShare, means_of, noisy_share, private_sums, train_private_round
from mmfed_client.training import LocalSite, LocalUpdate, LossSum, as_sent, loss_of, train_round
from mmfed_client.training.reproducible import same_bits
from mmfed_common import messages as m
from mmfed_common.arrays import Shapes, UnexpectedArraysError, from_record
from mmfed_common.errors import MmfedError, ModelError, NetworkError
from mmfed_common.masking.layout import Layout
from mmfed_common.masking.shared_noise import shares_noise
from mmfed_common.names import is_sha256
from mmfed_common.randomness import derive_seed
from mmfed_common.scaling import LEAST_DEVIATION, Scaling
from mmfed_common.schedule import Place, trained_parameters, used_parameters

logger = logging.getLogger(__name__)

LEAST_SENT = LEAST_DEVIATION / 2
"""Dividing by less would tell, by what overflows, whether somebody has a certain value."""

OpenSite = Callable[[Context], LocalSite]


class SiteApp:
    """Handlers of one ClientApp; picklable when ``open_site`` is.

    Parameters
    ----------
    open_site
        Gives the site that a context stands for. Called for every message, so it should keep what it made.
    way_out
        A real site's policy, ledger and key; None in a simulation.
    """

    def __init__(self, open_site: OpenSite, way_out: Exit | None = None) -> None:
        self.open_site = open_site
        self.way_out = way_out
        self.masked = MaskedRounds()

    def hello(self, message: Message, context: Context) -> Message:
        """Answer who this is."""
        return self._answer(message, context, _hello)

    def moments(self, message: Message, context: Context) -> Message:
        """Answer the sufficient statistics of the scaling."""
        return self._answer(message, context, partial(_moments, masked=self.masked))

    def train(self, message: Message, context: Context) -> Message:
        """Train for one round."""
        return self._answer(message, context, partial(_train, masked=self.masked))

    def mask_keys(self, message: Message, context: Context) -> Message:
        """Show this site's keys for a masked round."""
        return self._answer(message, context, self.masked.keys)

    def mask_shares(self, message: Message, context: Context) -> Message:
        """Give each peer its shares, sealed."""
        return self._answer(message, context, self.masked.shares)

    def mask_agree(self, message: Message, context: Context) -> Message:
        """Say to the peers whose sum this site opens."""
        return self._answer(message, context, self.masked.agree)

    def mask_open(self, message: Message, context: Context) -> Message:
        """Give the shares that open the sum."""
        return self._answer(message, context, self.masked.open)

    def held_out(self, message: Message, context: Context) -> Message:
        """Evaluate on the held-out patients."""
        return self._answer(message, context, _held_out)

    def validation(self, message: Message, context: Context) -> Message:
        """Evaluate on the validation part of the training patients."""
        return self._answer(message, context, _validation)

    def _answer(
        self, message: Message, context: Context, work: Callable[[Message, LocalSite, Gate], Message]
    ) -> Message:
        """Decide, work, release; any failure becomes an answer that holds no data.

        Raises
        ------
        PrivacyError
            ``MMF-310`` to ``MMF-312`` when no receipt can be written: then there is no answer at all.
        """
        try:
            if self.way_out is not None:
                self.way_out.guardian.admit(message)
            site = self.open_site(context)
            _refuse_other_study(message, site)
            if self.way_out is not None:
                self.way_out.guardian.allow(site.study)
            gate = Gate(site.study, site.name, self.way_out)
            seed = derive_seed(site.study.study.seed, "message", site.name)
            with same_bits(seed):
                return work(message, site, gate)
        except Exception as error:
            logger.error(
                "%s: %s", message.metadata.message_type, error, exc_info=not isinstance(error, MmfedError)
            )
            return error_reply(message, error, self.way_out)


def make_client_app(open_site: OpenSite, way_out: Exit | None = None) -> ClientApp:
    """Build the ClientApp around something that opens sites.

    Parameters
    ----------
    way_out
        A real site's policy, ledger and key: every message is admitted by the guardian before the site is
        opened, and every answer, errors too, has its receipt before it is returned. None in a simulation.
    """
    handlers = SiteApp(open_site, way_out)
    app = ClientApp()
    app.query(m.HELLO.partition(".")[2])(handlers.hello)
    app.query(m.MOMENTS.partition(".")[2])(handlers.moments)
    app.train()(handlers.train)
    app.train(m.MASK_KEYS.partition(".")[2])(handlers.mask_keys)
    app.train(m.MASK_SHARES.partition(".")[2])(handlers.mask_shares)
    app.train(m.MASK_AGREE.partition(".")[2])(handlers.mask_agree)
    app.train(m.MASK_OPEN.partition(".")[2])(handlers.mask_open)
    app.evaluate(m.EVALUATE_HELD_OUT.partition(".")[2])(handlers.held_out)
    app.evaluate(m.EVALUATE_VALIDATION.partition(".")[2])(handlers.validation)
    return app


def _hello(message: Message, site: LocalSite, gate: Gate) -> Message:
    return gate.hello(message, len(site.fit))


def _moments(message: Message, site: LocalSite, gate: Gate, masked: MaskedRounds) -> Message:
    if site.study.aggregation.secure:
        masked.attempt(message, site, gate)
    allowed = {
        f"moments.{statistic}.{name.partition('.')[2]}": (shape, torch.float64)
        for name, (shape, _) in site.scaling_shapes.items()
        for statistic in ("count", "total", "square")
    }
    if site.study.privacy.mode != "none":
        means = means_of(site, gate.way_out)
        sums = private_sums(site, means.spender, means.secret)
        moments, counted = sums.moments, sums.measured
    else:
        moments = site.moments()
        counted = patients_measured(site.take(np.sort(np.concatenate([site.fit, site.validation]))))
    if site.study.aggregation.secure:
        kept = gate.kept_sums(moments, counted, len(site.fit), site.topology)
        return masked.sums(message, site, gate, kept.to_arrays())
    return gate.moments(message, moments, counted, len(site.fit), site.topology, allowed)


def _train(message: Message, site: LocalSite, gate: Gate, masked: MaskedRounds) -> Message:
    began = time.perf_counter()
    attempt = masked.attempt(message, site, gate) if site.study.aggregation.secure else None
    place = _place(message, site)
    mu = _proximal_mu(message, site)
    weights, scaling = _weights(message, site, place), _scaling(message, site)
    study = site.study
    names = trained_parameters(
        site.shapes, site.model.block_of, place.stage, study.privacy, study.model.frozen
    )
    allowed: Shapes = {name: site.shapes[name] for name in names}
    if attempt is not None:
        layout = Layout.of(allowed, site.study, place)
        if shares_noise(site.study):
            vector = share_numbers(_share(site, weights, scaling, place, gate, attempt), layout)
        else:
            vector = numbers_of(_update(site, weights, scaling, place, mu, gate), weights, layout)
        return masked.update(message, site, gate, vector, time.perf_counter() - began, layout.arrays)
    update = _update(site, weights, scaling, place, mu, gate)
    kind, last = site.study.aggregation.compression, _last_taken(message, site)
    update, allowed = as_sent(update, weights, allowed, kind, site.feedback, last)
    return gate.update(message, update, time.perf_counter() - began, allowed)


def _update(
    site: LocalSite, weights: dict[str, Tensor], scaling: Scaling, place: Place, mu: float, gate: Gate
) -> LocalUpdate:
    if site.study.privacy.mode == "none":
        return train_round(site, weights, scaling, place, mu)
    gate.refuse_few(len(site.fit))
    means = means_of(site, gate.way_out)
    return train_private_round(site, weights, scaling, place, mu, means.spender, means.secret)


def _share(
    site: LocalSite, weights: dict[str, Tensor], scaling: Scaling, place: Place, gate: Gate, attempt: Attempt
) -> NoisyShare:
    gate.refuse_few(len(site.fit))
    means = means_of(site, gate.way_out, attempt.honest_sites)
    return noisy_share(site, weights, scaling, place, means.spender, means.secret, attempt.name)


def _held_out(message: Message, site: LocalSite, gate: Gate) -> Message:
    return _evaluate(message, site, gate, held_out=True)


def _validation(message: Message, site: LocalSite, gate: Gate) -> Message:
    return _evaluate(message, site, gate, held_out=False)


def _evaluate(message: Message, site: LocalSite, gate: Gate, *, held_out: bool) -> Message:
    place = _place(message, site)
    if site.study.privacy.mode != "none":
        return gate.evaluation(message, LossSum(0.0, 0), len(site.fit))
    index = site.test if held_out else site.validation
    model = site.load(_weights(message, site, place))
    scaling, cell = _scaling(message, site), gate.minimum_cell
    loss = loss_of(site, model, scaling, place.stage, index, cell)
    return gate.evaluation(message, loss, len(site.fit))


def _refuse_other_study(message: Message, site: LocalSite) -> None:
    found = message.content.config_records[m.CONFIG].get(m.STUDY_HASH)
    if found != site.study.hash:
        raise NetworkError("MMF-405", "the message names another study", site.name)


def _proximal_mu(message: Message, site: LocalSite) -> float:
    """FedProx's pull: the message's, which must be the approved study's."""
    rule = site.study.aggregation
    approved = rule.proximal_mu if rule.strategy == "fedprox" else 0.0
    if message.content.config_records[m.CONFIG].get(m.PROXIMAL_MU, 0.0) != approved:
        raise NetworkError("MMF-402", "`proximal-mu` is not the study's", site.name)
    return approved


def _last_taken(message: Message, site: LocalSite) -> str:
    """The digest of this site's last update that the server took, where changes are sent in 8 bits."""
    named = message.content.config_records[m.CONFIG].get(m.FEEDBACK, "")
    if not isinstance(named, str) or (named and not is_sha256(named)):
        raise NetworkError("MMF-402", "`feedback` is no digest of an update", site.name)
    return named


def _place(message: Message, site: LocalSite) -> Place:
    number = message.content.config_records[m.CONFIG].get(m.ROUND)
    if type(number) is not int or not 1 <= number <= site.study.training.rounds:
        raise NetworkError("MMF-405", f"the study has no round {number!r}", site.name)
    return Place.of(site.study.training, number)


def _weights(message: Message, site: LocalSite, place: Place) -> dict[str, Tensor]:
    """Take the weights that move and those that are frozen; together they must be what the stage uses."""
    records = message.content.array_records
    weights = dict(records[m.ARRAYS])
    for name, array in records.get(m.FROZEN, ArrayRecord()).items():
        if weights.setdefault(name, array) is not array:
            raise ModelError("MMF-605", "a weight is sent twice", site.name)
    used = used_parameters(site.shapes, site.model.block_of, place.stage)
    return _read(weights, {name: site.shapes[name] for name in used}, site.name)


def _scaling(message: Message, site: LocalSite) -> Scaling:
    sent = message.content.array_records.get(m.SCALING)
    if sent is None:
        return site.scaling(None)
    arrays = _read(sent, site.scaling_shapes, site.name)
    if any(bool((t < LEAST_SENT).any()) for name, t in arrays.items() if name.startswith("deviation.")):
        raise ModelError("MMF-605", "a deviation is smaller than any that sums of features give", site.name)
    return site.scaling(Scaling.from_arrays(arrays))


def _read(arrays: Mapping[str, Array], shapes: Shapes, where: str) -> dict[str, Tensor]:
    try:
        return from_record(arrays, shapes)
    except UnexpectedArraysError as error:
        raise ModelError("MMF-605", str(error), where) from None
