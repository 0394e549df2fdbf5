"""One exchange with some sites: requests out, answers back in the order of the sites' names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from mmfed_common import messages as m
from mmfed_common.error_codes import CODES


@dataclass(frozen=True)
class Answer:
    """A site's reply that carries content; not yet checked."""

    site: str
    node: int
    message: Message


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


def request(kind: str, node: int, study_hash: str, round_number: int) -> Message:
    """Build a request that carries no arrays."""
    config = ConfigRecord({m.STUDY_HASH: study_hash, m.ROUND: round_number})
    return Message(RecordDict({m.CONFIG: config}), node, kind)


def exchange(
    grid: Grid, messages: Iterable[Message], names: Mapping[int, str], timeout: float
) -> tuple[list[Answer], list[Refusal]]:
    """Send and wait for the answers.

    Parameters
    ----------
    names
        Node → the name to report it under.
    timeout
        Seconds; a site that has not answered by then is reported with ``MMF-401``.

    Returns
    -------
    answers, refusals
        Each sorted by site, so that later sums never depend on which reply came first.
    """
    sent = sorted(messages, key=lambda message: names[message.metadata.dst_node_id])
    replies = list(grid.send_and_receive(sent, timeout=timeout))
    node_of = {message.metadata.message_id: message.metadata.dst_node_id for message in sent}
    by_node: dict[int, Message] = {}
    for reply in replies:
        node = node_of.get(reply.metadata.reply_to_message_id)
        if node is not None:
            by_node.setdefault(node, reply)
    answers, refusals = [], []
    for message in sent:
        node = message.metadata.dst_node_id
        site = names[node]
        if node not in by_node:
            refusals.append(Refusal(site, "MMF-401", f"no answer within {timeout:g} s"))
        elif by_node[node].has_error():
            refusals.append(_failure(site, by_node[node].error.reason or ""))
        else:
            answers.append(Answer(site, node, by_node[node]))
    return answers, refusals


def _failure(site: str, text: str) -> Refusal:
    """Read a site's error, which is text from elsewhere: only a known code or a plain name is kept."""
    code = text[:7]
    if code in CODES:
        return Refusal(site, code, CODES[code].meaning)
    kind = text if re.fullmatch(r"[A-Za-z_]{1,60}", text) else "unknown cause"
    return Refusal(site, "MMF-404", f"{CODES['MMF-404'].meaning} ({kind})")
