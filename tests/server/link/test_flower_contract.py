"""What the link takes from Flower's internals; these tests fail first when flwr moves."""

from __future__ import annotations

import inspect
from pathlib import Path

import flwr
import pytest
from flwr.app import RecordDict
from flwr.app.message import make_message
from flwr.app.metadata import Metadata
from flwr.common import constant
from flwr.server.superlink.linkstate.in_memory_linkstate import InMemoryLinkState
from flwr.supercore.constant import NodeStatus
from flwr.supercore.object_store import ObjectStore
from flwr.superlink.servicer.fleet import fleet_handlers

from mmfed_common.signing import SiteKey
from mmfed_server.link.spool import Spool
from mmfed_server.link.state import SiteState

OBJECTS = ["aa" * 32, "ab" * 32, "ac" * 32, "ad" * 32]


def names(function: object) -> list[str]:
    return list(inspect.signature(function).parameters)  # type: ignore[arg-type]


def test_the_version_is_the_one_that_was_read() -> None:
    assert flwr.__version__ == "1.41.0"


@pytest.mark.parametrize(
    ("handler", "parameters"),
    [
        ("activate_node", ["request", "state"]),
        ("deactivate_node", ["request", "state"]),
        ("send_node_heartbeat", ["request", "state"]),
        ("pull_messages", ["request", "state", "store"]),
        ("pull_object", ["request", "state"]),
        ("push_messages", ["request", "state"]),
        ("push_object", ["request", "state"]),
    ],
)
def test_the_handlers_that_we_call_are_there(handler: str, parameters: list[str]) -> None:
    assert names(getattr(fleet_handlers, handler)) == parameters


def test_what_we_override_or_call_is_there() -> None:
    for name in (
        "activate_node", "deactivate_node", "acknowledge_node_heartbeat", "store_message_ins",
        "store_message_res", "delete_messages", "create_run", "claim_task", "activate_task", "get_run_info",
        "get_node_id_by_public_key", "_cleanup_expired_task_tokens_locked",
    ):  # fmt: skip
        assert inspect.isfunction(getattr(InMemoryLinkState, name)), name
    assert set(ObjectStore.__abstractmethods__) == {
        "preregister", "get_object_tree", "put", "get", "delete", "delete_objects_in_run", "clear",
        "__contains__", "__len__",
    }  # fmt: skip


def test_the_state_has_the_parts_that_we_touch(tmp_path: Path) -> None:
    state = SiteState(Spool(tmp_path))
    for part in (
        "nodes", "node_public_key_to_node_id", "owner_to_node_ids", "run_ids", "message_res_store",
        "message_ins_id_to_message_res_id",
    ):  # fmt: skip
        assert isinstance(vars(state)[part], dict), part
    assert state.object_store is state.spool


def test_a_run_goes_on_without_a_process_of_its_own(tmp_path: Path) -> None:
    """Flower ends a run whose ServerApp gives no sign of life; ours is this process."""
    state = SiteState(Spool(tmp_path))
    run_id = state.begin_run()
    for record in state.task_token_store.values():
        record.active_until -= 10 * (record.active_until - record.active_until.replace(year=2000))
    assert state.get_run_status({run_id})[run_id].status == constant.Status.RUNNING


def test_a_site_that_is_online_may_be_activated_again(tmp_path: Path) -> None:
    state = SiteState(Spool(tmp_path))
    state.set_sites({"north": SiteKey.generate().public.pem()})
    (node,) = state.nodes
    for _ in range(2):
        assert state.activate_node(node, 30.0)
        assert state.nodes[node].status == NodeStatus.ONLINE
    assert not state.activate_node(node + 1, 30.0)


def test_a_message_is_stored_as_we_make_it(tmp_path: Path) -> None:
    state = SiteState(Spool(tmp_path))
    state.set_sites({"north": SiteKey.generate().public.pem()})
    (node,) = state.nodes
    run_id = state.begin_run()
    metadata = Metadata(run_id, "", constant.SUPERLINK_NODE_ID, node, "", "", 1.9e9, 1e9, "train")
    assert not state.post(make_message(metadata, content=RecordDict()), OBJECTS)
    state.heard(node)
    message = make_message(metadata, content=RecordDict())
    assert state.post(message, OBJECTS)
    (found,) = state.get_message_ins(node, 1)
    assert found.metadata.message_id == message.metadata.message_id
    assert state.get_message_ins(node, 1) == []
    assert state.activate_node(node, 30.0)
    assert len(state.get_message_ins(node, 1)) == 1
