"""An exchange with some sites: requests out, answers back, each as it arrives, under one deadline."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.app.metadata import Metadata
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid

from mmfed_common import messages as m
from mmfed_common.error_codes import CODES


@dataclass(frozen=True)
class Answer:
    """A site's reply that carries content; not yet checked.

    Attributes
    ----------
    seconds
        How long after the request it came.
    """

    site: str
    node: int
    message: Message
    seconds: float = 0.0


@dataclass(frozen=True)
class Refusal:
    """Why nothing of a site was taken.

    Attributes
    ----------
    code
        A registered code.
    reason
        Free of data: fixed texts, names of arrays, numbers of ours.
    """

    site: str
    code: str
    reason: str

    def __str__(self) -> str:
        return f"{self.code} {self.reason}"


@runtime_checkable
class StreamingGrid(Protocol):
    """A grid that gives the replies one at a time and knows which site a node is."""

    def stream(self, messages: Iterable[Message], timeout: float) -> Iterator[Message]:
        """Send, and give each reply as it arrives; the contents are not needed after the call itself."""

    def site_of(self, node: int) -> str:
        """Name of the site whose key the node has."""

    def late(self) -> list[tuple[str, str]]:
        """(site, message type) of replies that came too late, since the last call."""


def request(kind: str, node: int, study_hash: str, round_number: int) -> Message:
    """Build a request that carries no arrays."""
    config = ConfigRecord({m.STUDY_HASH: study_hash, m.ROUND: round_number})
    return Message(RecordDict({m.CONFIG: config}), node, kind)


def answers_of(
    grid: Grid, messages: list[Message], names: Mapping[int, str], timeout: float
) -> Iterator[Answer | Refusal]:
    """Send, and give what comes of it: one answer or refusal for each message, in the order of arrival.

    Parameters
    ----------
    messages
        Emptied, and the arrays of their contents too, so that nothing holds what was sent while the answers
        are awaited.
    names
        Node → the name to report it under.
    timeout
        Seconds; a site that has not answered by then is reported with ``MMF-401``.
    """
    messages.sort(key=lambda message: names[message.metadata.dst_node_id])
    sent = [message.metadata for message in messages]
    began = time.monotonic()
    replies = _replies(grid, list(messages), timeout)
    for message in messages:
        forget_arrays(message)
    messages.clear()
    answered: set[int] = set()
    for reply in replies:
        node = _asked(sent, reply.metadata.reply_to_message_id)
        if node is None:
            continue
        if node in answered:
            yield Refusal(names[node], "MMF-458", "a second answer to the same message")
            continue
        answered.add(node)
        if reply.has_error():
            yield _failure(names[node], reply)
        else:
            yield Answer(names[node], node, reply, time.monotonic() - began)
    for metadata in sent:
        if metadata.dst_node_id not in answered:
            yield Refusal(names[metadata.dst_node_id], "MMF-401", f"no answer within {timeout:.3g} s")


def exchange(
    grid: Grid, messages: Iterable[Message], names: Mapping[int, str], timeout: float
) -> tuple[list[Answer], list[Refusal]]:
    """Send and wait for all answers; for those that are small.

    Returns
    -------
    answers, refusals
        Each sorted by site, so that later sums never depend on which reply came first.
    """
    return by_site(answers_of(grid, list(messages), names, timeout))


def by_site(outcomes: Iterable[Answer | Refusal]) -> tuple[list[Answer], list[Refusal]]:
    """Part answers from refusals, each sorted by site."""
    answers, refusals = [], []
    for found in outcomes:
        if isinstance(found, Answer):
            answers.append(found)
        else:
            refusals.append(found)
    return sorted(answers, key=lambda a: a.site), sorted(refusals, key=lambda r: r.site)


def forget_arrays(message: Message) -> None:
    """Let go of the arrays of a message now: Flower's records lie in cycles and would outlast their use."""
    for record in message.content.array_records.values():
        record.clear()


def late_answers(grid: Grid) -> list[Refusal]:
    """Name the sites whose answers came too late since the last call; such answers are gone."""
    if not isinstance(grid, StreamingGrid):
        return []
    return [Refusal(site, "MMF-462", f"a late answer to {kind}") for site, kind in grid.late()]


def _replies(grid: Grid, messages: list[Message], timeout: float) -> Iterator[Message]:
    if not messages:
        return iter(())
    if isinstance(grid, StreamingGrid):
        return grid.stream(messages, timeout)
    return iter(grid.send_and_receive(messages, timeout=timeout))


def _asked(sent: list[Metadata], message_id: str) -> int | None:
    for metadata in sent:
        if metadata.message_id == message_id:
            return metadata.dst_node_id
    return None


def _failure(site: str, reply: Message) -> Refusal:
    """Read a site's error, which is text from elsewhere: only a known code or a plain name is kept."""
    if reply.error.code == ErrorCode.NODE_UNAVAILABLE:
        return Refusal(site, "MMF-465", CODES["MMF-465"].meaning)
    text = reply.error.reason or ""
    code = text[:7]
    if code in CODES:
        return Refusal(site, code, CODES[code].meaning)
    kind = text if re.fullmatch(r"[A-Za-z_]{1,60}", text) else "unknown cause"
    return Refusal(site, "MMF-404", f"{CODES['MMF-404'].meaning} ({kind})")
