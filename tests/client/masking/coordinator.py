"""A coordinator and three more sites, played against the app of one site."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from flwr.app import Message
from flwr.clientapp import ClientApp
from tests.client.small_home import context, question, weights_of
from tests.server.masking.protocol import enrolled

from mmfed_client.masking.session import MaskingSession
from mmfed_client.training import LocalSite
from mmfed_common import messages as m
from mmfed_common.masking import fields as f
from mmfed_common.masking.keys import Session

OTHERS = ("site-1", "site-2", "site-3")


def code(answer: Message) -> str:
    """The code of a refusal; empty for an answer."""
    return (answer.error.reason or "")[:7] if answer.has_error() else ""


@dataclass
class Coordinator:
    """Plays the server and three more sites against the app of one."""

    app: ClientApp
    site: LocalSite
    number: int = 1
    session: Session = field(init=False)
    peers: dict[str, MaskingSession] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.again()

    def again(self) -> None:
        """Begin another attempt at the round."""
        study = self.site.study
        self.session = Session(study.hash, self.number, secrets.token_hex(16))
        rule = study.aggregation
        self.peers = {name: MaskingSession(self.session, name, enrolled(name), rule) for name in OTHERS}

    def ask(self, kind: str, record: dict[str, Any], **records: Any) -> Message:
        content = f.config({f.SESSION: self.session.token, **record})
        message = question(kind, self.site.study.hash, self.number, **{m.MASKING: content, **records})
        return self.app(message, context())

    def keys(self) -> Message:
        answer = self.ask(m.MASK_KEYS, {})
        if not answer.has_error():
            (own,) = f.read_peers(answer.content.config_records[m.MASKING])
            self.listed = [own, *(peer.own for peer in self.peers.values())]
        return answer

    def shares(self, threshold: int = 3) -> Message:
        answer = self.ask(m.MASK_SHARES, {f.THRESHOLD: threshold, **f.write_peers(self.listed)})
        if not answer.has_error():
            self.sealed = [f.items(answer.content.config_records[m.MASKING], f.SEALED)]
            self.sealed += [peer.share(self.listed, threshold) for peer in self.peers.values()]
        return answer

    def for_me(self) -> dict[str, Any]:
        """What the site needs for its masks."""
        names = [peer.site for peer in self.listed]
        return {f.SITES: names, f.SEALED: [sealed[0] for sealed in self.sealed]}

    def train(self) -> Message:
        names = [peer.site for peer in self.listed]
        answer = self.ask(m.TRAIN, self.for_me(), **weights_of(self.site, self.number))
        for place, peer in enumerate(self.peers.values(), start=1):
            vector = answer.content.array_records[m.ARRAYS][f.MASKED].numpy().copy()
            peer.mask(names, [sealed[place] for sealed in self.sealed], vector)
        return answer

    def agree(self, gone: Sequence[str] = ()) -> Message:
        self.alive = [peer.site for peer in self.listed if peer.site not in gone]
        answer = self.ask(m.MASK_AGREE, {f.ALIVE: self.alive, f.GONE: list(gone)})
        left = [peer for peer in self.peers.values() if peer.site not in gone]
        self.tags = {peer.site: peer.agree(self.alive, gone)[0] for peer in left}
        return answer

    def open(self) -> Message:
        return self.ask(m.MASK_OPEN, {f.SITES: list(self.tags), f.TAGS: list(self.tags.values())})

    def all(self, gone: Sequence[str] = ()) -> list[Message]:
        """A whole round."""
        steps: list[Callable[[], Message]] = [self.keys, self.shares, self.train]
        return [step() for step in steps] + [self.agree(gone), self.open()]
