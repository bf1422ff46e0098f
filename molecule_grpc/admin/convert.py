"""From this slice's values to its protos."""

from __future__ import annotations

from moleculeai.admin.v1 import admin_service_pb2 as pb
from moleculeai.delegation.v1 import delegation_pb2

from molecule_grpc.admin.ports import DeadLetter, LedgerEntry
from molecule_grpc.admin.values import (
    MintedOrgToken,
    Organization,
    OrgToken,
    SubsystemState,
)
from molecule_grpc.auth.audit_store import AuditEntry
from molecule_grpc.kernel.protos import timestamp

_ORG_TOKEN_WARNING = (
    "store this token now: it is not shown again, and it administers the whole organization"
)


def organization(made: Organization) -> pb.Organization:
    """An organisation."""
    return pb.Organization(
        id=str(made.id), slug=made.slug, name=made.name, created_at=timestamp(made.created_at)
    )


def org_token(token: OrgToken) -> pb.OrgToken:
    """The visible part of an organisation's token."""
    return pb.OrgToken(
        id=str(token.id),
        prefix=token.prefix,
        name=token.name,
        organization_id=str(token.organization_id),
        created_by=token.created_by,
        created_at=timestamp(token.created_at),
        last_used_at=timestamp(token.last_used_at),
        read_only=token.read_only,
        expires_at=timestamp(token.expires_at),
    )


def minted_org_token(minted: MintedOrgToken) -> pb.CreateOrgTokenResponse:
    """A new token, with its secret."""
    token, secret = minted
    return pb.CreateOrgTokenResponse(
        id=str(token.id),
        prefix=token.prefix,
        name=token.name,
        auth_token=secret.text,
        warning=_ORG_TOKEN_WARNING,
        organization_id=str(token.organization_id),
        read_only=token.read_only,
        expires_at=timestamp(token.expires_at),
    )


def ledger_entry(entry: LedgerEntry) -> pb.LedgerEntry:
    """A delegation as operators see it. Fields that are None stay absent."""
    message = pb.LedgerEntry(
        delegation_id=entry.delegation_id,
        caller_id=str(entry.caller_id),
        callee_id=str(entry.callee_id),
        task_preview=entry.task_preview,
        status=delegation_pb2.Delegation.Status.Value(entry.status),
        last_heartbeat=timestamp(entry.last_heartbeat),
        deadline=timestamp(entry.deadline),
        result_preview=entry.result_preview,
        error_detail=entry.error_detail,
        retry_count=entry.retry_count,
        created_at=timestamp(entry.created_at),
        updated_at=timestamp(entry.updated_at),
    )
    if entry.failure_reason is not None:
        message.failure_reason = delegation_pb2.FailureReason.Value(entry.failure_reason)
    return message


def dead_letter(item: DeadLetter) -> pb.DeadLetter:
    """An inbox item that was set aside."""
    return pb.DeadLetter(
        workspace_id=str(item.workspace_id),
        seq=item.seq,
        message_id=item.message_id,
        method=item.method,
        source_id=str(item.source_id or ""),
        delegation_id=item.delegation_id or "",
        deliveries=item.deliveries,
        reason=item.reason or "",
        summary=item.summary or "",
        created_at=timestamp(item.created_at),
        poisoned_at=timestamp(item.done_at),
    )


def audit_entry(entry: AuditEntry) -> pb.AuditEntry:
    """Who did what."""
    return pb.AuditEntry(
        id=str(entry.id),
        at=timestamp(entry.at),
        party=entry.party,
        token_prefix=entry.token_prefix,
        organization_id=str(entry.organization_id or ""),
        workspace_id=str(entry.workspace_id or ""),
        rpc=entry.rpc,
        subject=entry.subject,
        outcome=entry.outcome,
        reason=entry.reason,
        address=entry.address,
        request_id=entry.request_id,
        count=entry.calls,
    )


def subsystem(state: SubsystemState) -> pb.GetLivenessResponse.Subsystem:
    """A background task."""
    return pb.GetLivenessResponse.Subsystem(
        last_tick_at=timestamp(state.last_success),
        seconds_ago=round(state.seconds_ago, 3),
        interval_seconds=state.period,
        stale=state.stale,
        failures=state.failures,
    )
