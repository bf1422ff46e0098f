"""Rows to protos, and an agent's card both ways."""

from __future__ import annotations

import json
import math
from typing import Any
from uuid import UUID

import asyncpg
from google.protobuf import json_format, struct_pb2
from moleculeai.workspace.v1 import workspace_pb2 as pb

from molecule_grpc.auth.store import TokenRow
from molecule_grpc.kernel.errors import Invalid
from molecule_grpc.kernel.protos import timestamp
from molecule_grpc.kernel.text import clean
from molecule_grpc.workspace import rules

MAX_CARD_BYTES = 256 * 1024
MAX_CARD_LEVELS = 32
_CARD = "agent_card"


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


def value(text: str | None) -> struct_pb2.Value:
    """Stored JSON as a proto value; JSON null when nothing is stored."""
    result = struct_pb2.Value(null_value=struct_pb2.NULL_VALUE)
    if text is not None:
        json_format.Parse(text, result)
    return result


def card_text(card: struct_pb2.Value) -> str:
    """An agent's card as JSON that Postgres stores and every reader can take.

    Raises:
        Invalid: it is nested too deeply, or holds a number that JSON has no word for; or, as
            BODY_TOO_LARGE, it is larger than 256 KiB.
    """
    text = json.dumps(_plain(card, MAX_CARD_LEVELS), separators=(",", ":"))
    if len(text) > MAX_CARD_BYTES:
        raise Invalid(
            f"agent_card must not be larger than {MAX_CARD_BYTES} bytes",
            field=_CARD,
            reason="BODY_TOO_LARGE",
            metadata={"max": str(MAX_CARD_BYTES)},
        )
    return text


def _plain(given: struct_pb2.Value, levels: int) -> Any:
    if levels < 0:
        # One level more in a list of workspaces, and its readers could not parse the list.
        raise Invalid(
            f"agent_card must not be nested deeper than {MAX_CARD_LEVELS} levels", field=_CARD
        )
    kind = given.WhichOneof("kind")
    if kind == "struct_value":
        fields = given.struct_value.fields.items()
        return {clean(key): _plain(each, levels - 1) for key, each in fields}
    if kind == "list_value":
        return [_plain(each, levels - 1) for each in given.list_value.values]
    if kind == "string_value":
        return clean(given.string_value)
    if kind == "number_value":
        return _number(given.number_value)
    return given.bool_value if kind == "bool_value" else None


def _number(number: float) -> float | int:
    """Whole numbers as integers, exact below 2**53; -0.0 as 0, since jsonb has no negative zero."""
    if not math.isfinite(number):
        raise Invalid("agent_card must not contain numbers that JSON lacks", field=_CARD)
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def _add_private(message: pb.Workspace, row: asyncpg.Record) -> None:
    message.current_task = row["current_task"]
    message.monthly_spend = row["monthly_spend"]
    for name in ("last_sample_error", "workspace_dir", "budget_limit"):
        if row[name] is not None:
            setattr(message, name, row[name])


def _text(identifier: UUID | None) -> str | None:
    return None if identifier is None else str(identifier)
