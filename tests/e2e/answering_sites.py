"""Sites that answer over the wire without training: threads of this process, each with its own connection.

They enrol with keys of their own, sign what they send and speak TLS as real sites do. They hold neither
patients nor a model, so that many of them cost a test little.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from mmfed_client.fleet.connection import connect
from mmfed_common import messages as m
from mmfed_common.errors import NetworkError
from mmfed_common.portal_protocol import join_proof, secret_verifier
from mmfed_common.seal import seal
from mmfed_common.signing import SiteKey
from mmfed_server.database import open_database
from mmfed_server.federation import Federation, SiteRegistry

PATIENTS = 20


class AnsweringSites:
    """Some sites of a federation; they are there while the ``with`` block lasts.

    Parameters
    ----------
    federation
        They enrol in it.
    names
        Of the sites.
    """

    def __init__(self, federation: Federation, names: Sequence[str]) -> None:
        self.federation = federation
        self.keys = {name: SiteKey.generate() for name in names}
        self._over = threading.Event()
        self._entries = dict.fromkeys(names, 0)
        self._threads = [threading.Thread(target=self._serve, args=(name,), daemon=True) for name in names]

    def enrol(self) -> None:
        """Put the sites into the registry."""
        engine = open_database(self.federation.database_url)
        registry, transcript = SiteRegistry(engine), b"transcript"
        for name, key in self.keys.items():
            proof = join_proof(secret_verifier(registry.invite(name).secret), transcript)
            registry.enrol(name, transcript, proof, key.public)
        engine.dispose()

    def __enter__(self) -> AnsweringSites:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()

    def _serve(self, name: str) -> None:
        """Connect, and begin anew after every failure, until it is over."""
        address, authority = self.federation.address, self.federation.path / "ca" / "ca.pem"
        while not self._over.wait(0.2):
            with suppress(NetworkError), connect(address, authority, self.keys[name]) as link:
                while not self._over.is_set():
                    if (incoming := link.receive()) is not None:
                        link.send(incoming, self._answer(name, incoming.message))

    def _answer(self, name: str, request: Message) -> Message:
        """What a site answers that has trained: weights a little different from everybody else's."""
        config = request.content.config_records[m.CONFIG]
        self._entries[name] += 1
        about: dict[str, str | int] = {
            m.STUDY_HASH: str(config[m.STUDY_HASH]),
            m.ROUND: int(str(config[m.ROUND])),
            m.SITE: name,
            m.REQUEST: request.metadata.message_id,
            m.LEDGER_LENGTH: self._entries[name],
            m.LEDGER_HEAD: _head(name, self._entries[name]),
            m.LEDGER_PAST: _head(name, int(str(config.get(m.LEDGER_KNOWN, 0)))),
        }
        content = RecordDict({m.ABOUT: ConfigRecord({**about})})
        metrics: dict[str, int | float] = {m.NUM_EXAMPLES: PATIENTS}
        if request.metadata.message_type == m.TRAIN:
            step = np.float32(1e-3 * (1 + sorted(self.keys).index(name)))
            arrays = request.content.array_records[m.ARRAYS].items()
            content[m.ARRAYS] = ArrayRecord({key: Array(array.numpy() + step) for key, array in arrays})
            metrics |= {m.LOSS: 0.5, m.SECONDS: 1.0}
        content[m.METRICS] = MetricRecord({**metrics})
        reply = Message(content, reply_to=request)
        seal(reply, self.keys[name])
        return reply


def _head(name: str, length: int) -> str:
    """The hash of an entry of the ledger that the site would have."""
    return hashlib.sha256(f"{name} {length}".encode()).hexdigest()
