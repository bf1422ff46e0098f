"""Rows to protos."""

from __future__ import annotations

from datetime import UTC, datetime

import asyncpg
from google.protobuf.timestamp_pb2 import Timestamp
from moleculeai.admin.v1 import admin_service_pb2 as pb
from moleculeai.delegation.v1 import delegation_pb2


def organization(row: asyncpg.Record) -> pb.Organization:
    """An organisation."""
    return pb.Organization(
        id=str(row["id"]),
        slug=row["slug"],
        name=row["name"],
        created_at=timestamp(row["created_at"]),
    )


def org_token(row: asyncpg.Record) -> pb.OrgToken:
    """The visible part of an organisation's token."""
    return pb.OrgToken(
        id=str(row["id"]),
        prefix=row["prefix"],
        name=row["name"],
        organization_id=str(row["organization_id"]),
        created_by=row["created_by"],
        created_at=timestamp(row["created_at"]),
        last_used_at=timestamp(row["last_used_at"]),
    )


def entry(row: asyncpg.Record) -> pb.LedgerEntry:
    """A delegation as operators see it. What is NULL stays absent."""
    message = pb.LedgerEntry(
        delegation_id=row["delegation_id"],
        caller_id=str(row["caller_id"]),
        callee_id=str(row["callee_id"]),
        task_preview=row["task_preview"],
        status=delegation_pb2.Delegation.Status.Value(row["status"]),
        last_heartbeat=timestamp(row["last_heartbeat"]),
        deadline=timestamp(row["deadline"]),
        result_preview=row["result_preview"],
        error_detail=row["error_detail"],
        retry_count=row["retry_count"],
        created_at=timestamp(row["created_at"]),
        updated_at=timestamp(row["updated_at"]),
    )
    if row["failure_reason"] is not None:
        message.failure_reason = delegation_pb2.FailureReason.Value(row["failure_reason"])
    return message


def timestamp(moment: datetime | float | None) -> Timestamp | None:
    """A proto timestamp of a moment or of Unix seconds; None stays None."""
    if moment is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(
        moment if isinstance(moment, datetime) else datetime.fromtimestamp(moment, UTC)
    )
    return stamp
