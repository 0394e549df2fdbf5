"""What the connection takes from Flower's internals; these tests fail first when flwr moves."""

from __future__ import annotations

import inspect

import flwr
import httpx
from flwr.proto.fleet_pb2 import ActivateNodeRequest, PullMessagesResponse, PushMessagesRequest
from flwr.proto.message_pb2 import PullObjectRequest, PushObjectRequest
from flwr.supercore import constant
from flwr.supercore.primitives.asymmetric import public_key_to_bytes, sign_message
from flwr.supercore.protobuf.client import ProtobufClient
from flwr.supercore.runtime_version_compatibility import RuntimeVersionMetadata
from flwr.supernode.fleet_http_client import FleetHttpClient

from mmfed_common.signing import SiteKey


def names(function: object) -> list[str]:
    return list(inspect.signature(function).parameters)  # type: ignore[arg-type]


def test_the_version_is_the_one_that_was_read() -> None:
    assert flwr.__version__ == "1.41.0"


def test_the_client_is_made_and_tuned_as_we_do() -> None:
    assert names(ProtobufClient.__init__) == [
        "self", "base_url", "interceptors", "verify", "timeout", "retry_invoker",
    ]  # fmt: skip
    client = FleetHttpClient("https://localhost:1")
    assert isinstance(client._client, httpx.Client)
    assert client._client.trust_env
    client.close()


def test_the_calls_that_we_make_are_there() -> None:
    for call in (
        "ActivateNode", "DeactivateNode", "SendNodeHeartbeat", "PullMessages", "PullObject", "PushMessages",
        "PushObject",
    ):  # fmt: skip
        assert names(getattr(FleetHttpClient, call)) == ["self", "request"]


def test_the_messages_have_the_fields_that_we_fill() -> None:
    fields = {
        ActivateNodeRequest: {"public_key", "heartbeat_interval"},
        PullMessagesResponse: {"messages_list", "message_object_trees"},
        PushMessagesRequest: {
            "node",
            "messages_list",
            "message_object_trees",
            "clientapp_runtime_list",
        },
        PullObjectRequest: {"node", "run_id", "object_id"},
        PushObjectRequest: {"node", "run_id", "object_id", "object_content", "session_id"},
    }
    for proto, expected in fields.items():
        assert {field.name for field in proto.DESCRIPTOR.fields} >= expected


def test_the_proof_of_a_key_is_what_flower_checks() -> None:
    key = SiteKey.generate()
    assert public_key_to_bytes(key.key.public_key()) == key.public.pem()
    assert names(sign_message) == ["private_key", "message"]
    assert constant.FLEET_HTTP_PUBLIC_KEY_HEADER == "flwr-public-key"
    assert constant.FLEET_HTTP_SIGNATURE_HEADER == "flwr-signature"
    assert len(list(RuntimeVersionMetadata.from_local_component("x").as_metadata())) == 3
