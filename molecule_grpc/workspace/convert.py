"""Rows to protos, and free-form JSON both ways."""

from __future__ import annotations

import json
import math
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
from google.protobuf import json_format, struct_pb2
from google.protobuf.timestamp_pb2 import Timestamp
from moleculeai.workspace.v1 import workspace_pb2 as pb

from molecule_grpc.auth.store import TokenRow
from molecule_grpc.errors import Invalid
from molecule_grpc.text import clean
from molecule_grpc.workspace import rules


def workspace(row: asyncpg.Record, *, whole: bool) -> pb.Workspace:
    """A workspace; without `whole`, what a stranger or a peer may see of it."""
    message = pb.Workspace(
        id=str(row["id"]),
        organization_id=str(row["organization_id"]),
        name=row["name"],
        role=row["role"] or "",
        tier=row["tier"],
        status=status(row["status"]),
        agent_card=value(row["agent_card"]),
        url=row["url"],
        parent_id=_text(row["parent_id"]),
        active_tasks=row["active_tasks"],
        max_concurrent_tasks=row["max_concurrent_tasks"],
        last_error_rate=row["last_error_rate"],
        uptime_seconds=row["uptime_seconds"],
        runtime=row["runtime"],
        x=row["x"],
        y=row["y"],
        collapsed=row["collapsed"],
        delivery_mode=mode(rules.effective_mode("", row["delivery_mode"], row["runtime"])),
        last_heartbeat_at=timestamp(row["last_heartbeat_at"]),
        last_outbound_at=timestamp(row["last_outbound_at"]),
        created_at=timestamp(row["created_at"]),
        updated_at=timestamp(row["updated_at"]),
    )
    if whole:
        _add_private(message, row)
    return message


def peer(row: asyncpg.Record) -> pb.Peer:
    """What a workspace may know of its neighbour."""
    return pb.Peer(
        id=str(row["id"]),
        name=row["name"],
        role=row["role"],
        tier=row["tier"],
        status=status(row["status"]),
        url=row["url"],
        parent_id=_text(row["parent_id"]),
        active_tasks=row["active_tasks"],
        agent_card=value(row["agent_card"]),
    )


def token(row: TokenRow) -> pb.Token:
    """The visible part of a token."""
    return pb.Token(
        id=str(row.id),
        prefix=row.prefix,
        created_at=timestamp(row.created_at),
        last_used_at=timestamp(row.last_used_at),
    )


def status(text: str) -> pb.Workspace.Status.ValueType:
    """A stored status."""
    return pb.Workspace.Status.Value(text)


def mode(text: str) -> pb.Workspace.DeliveryMode.ValueType:
    """A stored delivery mode."""
    return pb.Workspace.DeliveryMode.Value(text)


def timestamp(moment: datetime | None) -> Timestamp | None:
    """A proto timestamp; None stays None."""
    if moment is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp


def value(text: str | None) -> struct_pb2.Value:
    """Stored JSON as a proto value; JSON null when nothing is stored."""
    result = struct_pb2.Value(null_value=struct_pb2.NULL_VALUE)
    if text is not None:
        json_format.Parse(text, result)
    return result


def json_text(given: struct_pb2.Value, field: str) -> str:
    """A proto value as JSON that Postgres stores.

    Raises:
        Invalid: it holds a number that JSON has no word for.
    """
    return json.dumps(_plain(given, field), separators=(",", ":"))


def _plain(given: struct_pb2.Value, field: str) -> Any:
    kind = given.WhichOneof("kind")
    if kind == "struct_value":
        return {clean(key): _plain(each, field) for key, each in given.struct_value.fields.items()}
    if kind == "list_value":
        return [_plain(each, field) for each in given.list_value.values]
    if kind == "string_value":
        return clean(given.string_value)
    if kind == "number_value":
        return _number(given.number_value, field)
    return given.bool_value if kind == "bool_value" else None


def _number(number: float, field: str) -> float | int:
    if not math.isfinite(number):
        raise Invalid(f"{field} must not contain numbers that JSON lacks", field=field)
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def _add_private(message: pb.Workspace, row: asyncpg.Record) -> None:
    message.current_task = row["current_task"]
    message.monthly_spend = row["monthly_spend"]
    for name in ("last_sample_error", "workspace_dir", "budget_limit"):
        if row[name] is not None:
            setattr(message, name, row[name])


def _text(identifier: UUID | None) -> str | None:
    return None if identifier is None else str(identifier)
