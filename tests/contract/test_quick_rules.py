"""The quick check of requests never accepts what the rules of the protos refuse."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any

import protovalidate
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from moleculeai.admin.v1 import admin_service_pb2
from moleculeai.delegation.v1 import delegation_pb2, inbox_pb2
from moleculeai.delegation.v1 import delegation_service_pb2 as delegation
from moleculeai.upload.v1 import upload_service_pb2
from moleculeai.workspace.v1 import workspace_service_pb2 as workspace

from molecule_grpc.server.quick_rules import quick_check

UUID = "11111111-1111-7111-8111-11111111111a"
LENGTHS = (1, 16, 17, 64, 65, 100, 101, 128, 200, 255, 256, 257, 512, 1000, 1001, 2048, 4096, 8193)
TEXTS = (
    "", "x", UUID, UUID.upper(), UUID + "\n", "\n" + UUID, UUID.replace("-", ""), "{" + UUID + "}",
    UUID[:-1] + "\n", UUID[:-1] + "ü", UUID[:-1] + "g", "1" * 36, "agent_log", "error", "canvas",
    "sent", "completed", "acme", "ü" * 128, "😀" * 16, "😀" * 17, "\x00",
    *("x" * length for length in LENGTHS), "y" * 65_536, "y" * 65_537,
)  # fmt: skip
NUMBERS = (-1, 0, 1, 2, 3, 4, 6, 7, 20, 21, 100, 101, 300, 301, 500, 501, 3600, 3601, 2**31 - 1)
FLOATS = (-1.0, -0.0, 0.0, 0.5, 1.0, 1.0000001, 100.0, 1e9, 1e300, math.inf, -math.inf, math.nan)
SIZES = (0, 0, 1, 1, 2, 3, 16, 17, 64, 65, 100, 101, 256, 257, 500, 501, 1000, 1001)
MESSAGES_OF_A_TYPE = 300
SERVICES = (
    admin_service_pb2.DESCRIPTOR.services_by_name["AdminService"],
    delegation.DESCRIPTOR.services_by_name["DelegationService"],
    upload_service_pb2.DESCRIPTOR.services_by_name["UploadService"],
    workspace.DESCRIPTOR.services_by_name["WorkspaceService"],
)
TYPES = {
    method.input_type.full_name: method.input_type
    for service in SERVICES
    for method in service.methods
}


def value_of(field: FieldDescriptor, dice: random.Random, depth: int) -> Any:
    if field.message_type is not None:
        return random_message(field.message_type, dice, depth + 1)
    if field.enum_type is not None:
        return dice.choice([*field.enum_type.values_by_number, 77])
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        text = dice.choice(TEXTS)
        return text.encode() if field.type == FieldDescriptor.TYPE_BYTES else text
    if field.cpp_type in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        return dice.choice(FLOATS)
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return dice.random() < 0.5
    number = dice.choice(NUMBERS)
    unsigned = (FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64)
    return abs(number) if field.cpp_type in unsigned else number


def random_message(descriptor: Descriptor, dice: random.Random, depth: int = 0) -> Message:
    """A message with a third of its fields, whose values lie at and around the bounds of rules."""
    message = message_factory.GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if dice.random() < 0.6 or depth > 3:
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            continue
        if field.is_repeated:
            size = min(dice.choice(SIZES), 1001 if field.message_type is None else 3)
            getattr(message, field.name).extend(
                [value_of(field, dice, depth)] * size
                if dice.random() < 0.5
                else [value_of(field, dice, depth) for _ in range(size)]
            )
        elif field.message_type is not None:
            getattr(message, field.name).SetInParent()
            getattr(message, field.name).CopyFrom(value_of(field, dice, depth))
        else:
            setattr(message, field.name, value_of(field, dice, depth))
    return message


def mostly_valid(descriptor: Descriptor, dice: random.Random) -> Iterator[Message]:
    """Messages whose ids are well-formed, so that other rules decide."""
    for _ in range(MESSAGES_OF_A_TYPE):
        message = random_message(descriptor, dice)
        for field in descriptor.fields:
            text = field.cpp_type == FieldDescriptor.CPPTYPE_STRING and not field.is_repeated
            if text and field.name.endswith("_id") and dice.random() < 0.9:
                setattr(message, field.name, UUID)
        yield message


@pytest.mark.parametrize("name", sorted(TYPES))
def test_what_the_quick_check_accepts_breaks_no_rule(name: str) -> None:
    descriptor = TYPES[name]
    quick, validator, dice = quick_check(descriptor), protovalidate.Validator(), random.Random(name)
    for message in mostly_valid(descriptor, dice):
        if quick(message):
            assert not validator.collect_violations(message), message


HOT: list[Message] = [
    workspace.HeartbeatRequest(workspace_id=UUID, active_tasks=1, active_delegations=["a", "b"]),
    workspace.GetWorkspaceRequest(workspace_id=UUID),
    delegation.DelegateRequest(workspace_id=UUID, target_id=UUID, task="x" * 200),
    delegation.UpdateDelegationRequest(
        workspace_id=UUID, delegation_id="d", status=delegation_pb2.Delegation.completed
    ),
    delegation.ReportActivityRequest(workspace_id=UUID, activity_type="agent_log", summary="x"),
    delegation.PullInboxRequest(workspace_id=UUID, limit=10),
    delegation.AckInboxRequest(workspace_id=UUID, up_to_seq=4),
    delegation.GetDelegationRequest(workspace_id=UUID, delegation_id="d"),
    delegation.SubscribeInboxRequest(ack=inbox_pb2.Ack(up_to_seq=3, seqs=[5, 7])),
    delegation.SubscribeInboxRequest(
        heartbeat=workspace.HeartbeatRequest(workspace_id=UUID, active_tasks=1)
    ),
]


@pytest.mark.parametrize("request_", HOT, ids=lambda each: type(each).__name__)
def test_what_agents_send_all_the_time_is_accepted_quickly(request_: Message) -> None:
    assert quick_check(request_.DESCRIPTOR)(request_)
