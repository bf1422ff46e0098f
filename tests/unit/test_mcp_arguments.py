"""The schema of a tool's arguments agrees with the rules of the proto behind it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from moleculeai.delegation.v1 import delegation_pb2
from moleculeai.delegation.v1 import delegation_service_pb2 as pb
from moleculeai.workspace.v1 import workspace_service_pb2 as workspace_pb
from pydantic import ValidationError

from molecule_grpc.faces.mcp import arguments
from molecule_grpc.server.validation import Validator

ALL = arguments.Arguments.__subclasses__()
ID = "11111111-1111-7111-8111-111111111111"
MIB = 1_048_576


def properties(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from schema["properties"].items()
    for nested in schema.get("$defs", {}).values():
        yield from nested["properties"].items()


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_argument_is_described_and_bounded(kind: type[arguments.Arguments]) -> None:
    """A model that reads the schema can keep to it."""
    schema = arguments.schema_of(kind)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert (schema["type"], schema["additionalProperties"]) == ("object", False)
    for name, one in properties(schema):
        assert one["description"].endswith("."), name
        forms = one.get("anyOf", [one])
        for form in forms:
            assert _bounded(form), name
        assert "title" not in one


def _bounded(form: dict[str, Any]) -> bool:
    match form["type"]:
        case "string":
            return bool({"maxLength", "enum", "format"} & set(form))
        case "integer":
            return set(form) >= {"minimum", "maximum"}
        case "number":
            return "minimum" in form
        case "array":
            return "maxItems" in form
    return form["type"] in {"boolean", "null"}


@pytest.mark.parametrize(
    ("kind", "largest", "request_of"),
    [
        (
            arguments.Delegate,
            {"workspace_id": ID, "task": "x" * MIB, "idempotency_key": "k" * 256},
            lambda a: pb.DelegateRequest(
                workspace_id=ID,
                target_id=str(a.workspace_id),
                task=a.task,
                idempotency_key=a.idempotency_key,
                wait_seconds=30,
            ),
        ),
        (
            arguments.UpdateTask,
            {"task_id": "é" * 128, "status": "completed", "text": "é" * (MIB // 2)},
            lambda a: pb.UpdateDelegationRequest(
                workspace_id=ID,
                delegation_id=a.task_id,
                status=delegation_pb2.Delegation.completed,
                response_preview=a.text,
            ),
        ),
        (
            arguments.Notify,
            {
                "message": "x" * MIB,
                "attachments": [
                    {"uri": "u" * 4096, "name": "n" * 512, "mimeType": "m" * 256, "size": 1e300}
                ]
                * 64,
            },
            lambda a: pb.NotifyRequest(
                workspace_id=ID,
                message=a.message,
                attachments=[
                    pb.Attachment(uri=f.uri, name=f.name, mime_type=f.mime_type, size=f.size)
                    for f in a.attachments
                ],
            ),
        ),
        (
            arguments.Peek,
            {"limit": 100},
            lambda a: pb.PullInboxRequest(workspace_id=ID, limit=a.limit),
        ),
        (
            arguments.History,
            {"peer_id": ID, "limit": 500, "before_ts": "t" * 64},
            lambda a: pb.ListActivityRequest(
                workspace_id=ID,
                peer_id=str(a.peer_id),
                limit=str(a.limit),
                before_ts=a.before_ts,
            ),
        ),
        (
            arguments.ListPeers,
            {"q": "q" * 256},
            lambda a: workspace_pb.ListPeersRequest(workspace_id=ID, q=a.q),
        ),
    ],
)
def test_what_the_schema_allows_the_proto_allows(
    kind: type[arguments.Arguments], largest: dict[str, Any], request_of: Any
) -> None:
    """Else a model that keeps to the schema would be told about fields that it never saw."""
    jsonschema.validate(largest, arguments.schema_of(kind))
    Validator(()).check(request_of(kind.model_validate(largest)))


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (arguments.Delegate, {"workspace_id": ID, "task": "é" * (MIB // 2 + 1)}),
        (arguments.CheckTask, {"task_id": "é" * 129}),
        (arguments.Notify, {"message": "x", "attachments": [{"uri": "u", "name": "é" * 257}]}),
        (arguments.Notify, {"message": "x", "attachments": [{"uri": "", "name": "n"}]}),
        (
            arguments.Notify,
            {"message": "x", "attachments": [{"uri": "u", "name": "n", "size": -1}]},
        ),
        (arguments.Wait, {"timeout_secs": 1.5}),
        (arguments.Wait, {"timeout_secs": -1}),
        (arguments.Wait, {"timeout": 1}),
    ],
)
def test_what_is_out_of_bounds_is_refused(kind: type[arguments.Arguments], given: Any) -> None:
    """Bounds in bytes, too, which a schema cannot say."""
    with pytest.raises(ValidationError):
        kind.model_validate(given)
