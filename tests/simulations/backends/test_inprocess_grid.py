"""The in-process Grid keeps Flower's contract."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from mmfed_simulations.backends.inprocess import FIRST_NODE, InProcessGrid, carry_here


def echo_app(seen: list[object]) -> ClientApp:
    app = ClientApp()

    @app.query()
    def query(message: Message, context: Context) -> Message:
        seen.append(message.content)
        message.content.config_records["config"]["node"] = context.node_id
        return Message(message.content, reply_to=message)

    return app


def messages(nodes: Sequence[int]) -> list[Message]:
    shared = RecordDict({"config": ConfigRecord({"x": 1})})
    return [Message(shared, node, "query") for node in nodes]


def test_every_node_answers_its_own_message() -> None:
    grid = InProcessGrid(3, carry_here(echo_app([])))
    sent = messages(list(grid.get_node_ids()))
    replies = list(grid.send_and_receive(sent))
    asked = {message.metadata.message_id: message.metadata.dst_node_id for message in sent}
    assert len(asked) == 3
    for reply in replies:
        node = asked[reply.metadata.reply_to_message_id]
        assert reply.metadata.src_node_id == node
        assert reply.content.config_records["config"]["node"] == node


def test_a_node_cannot_change_what_the_others_receive() -> None:
    grid = InProcessGrid(2, carry_here(echo_app([])))
    sent = messages(list(grid.get_node_ids()))
    list(grid.send_and_receive(sent))
    assert dict(sent[0].content.config_records["config"]) == {"x": 1}


def test_replies_wait_until_they_are_pulled_and_are_given_once() -> None:
    grid = InProcessGrid(2, carry_here(echo_app([])))
    names = list(grid.push_messages(messages([FIRST_NODE, FIRST_NODE + 1])))
    assert len(list(grid.pull_messages(names[:1]))) == 1
    assert len(list(grid.pull_messages(names))) == 1
    assert list(grid.pull_messages(names)) == []


def test_a_node_that_does_not_exist_gives_an_error() -> None:
    grid = InProcessGrid(1, carry_here(echo_app([])))
    (reply,) = grid.send_and_receive(messages([FIRST_NODE + 7]))
    assert reply.has_error()


def test_a_node_that_is_too_slow_gives_no_reply() -> None:
    app = ClientApp()

    @app.query()
    def query(message: Message, context: Context) -> Message:
        until = time.monotonic() + (2.0 if context.node_id == FIRST_NODE else 0.0)
        while time.monotonic() < until:
            pass
        return Message(message.content, reply_to=message)

    grid = InProcessGrid(2, carry_here(app))
    replies = list(grid.send_and_receive(messages([FIRST_NODE, FIRST_NODE + 1]), timeout=1.0))
    assert [reply.metadata.src_node_id for reply in replies] == [FIRST_NODE + 1]


def test_nothing_is_kept_after_the_replies_are_pulled() -> None:
    grid = InProcessGrid(2, carry_here(echo_app([])))
    for _ in range(3):
        list(grid.send_and_receive(messages(list(grid.get_node_ids()))))
    kept = [value for value in vars(grid).values() if isinstance(value, dict)]
    assert sorted(len(value) for value in kept) == [0, 2]


@pytest.mark.parametrize("kind", ["query", "train"])
def test_messages_are_made_for_the_node_that_is_named(kind: str) -> None:
    grid = InProcessGrid(1, carry_here(echo_app([])))
    message = grid.create_message(RecordDict(), kind, FIRST_NODE, "1")
    assert (message.metadata.dst_node_id, message.metadata.message_type) == (FIRST_NODE, kind)
