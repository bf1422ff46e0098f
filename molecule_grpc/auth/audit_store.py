"""The SQL of the audit log of operators' acts and of refusals."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Pool
from molecule_grpc.kernel.ids import as_id


class AuditEntry(NamedTuple):
    """One entry, in the order of the columns.

    Args:
        at: of the first call, where `calls` is above 1.
        party: the caller's role.
        token_prefix: first 8 characters of the caller's token; empty without one.
        organization_id: None where the call says none; in the table then that of the workspace, or
            of the delegation or token that `subject` names.
        rpc: `AdminService/CreateOrgToken`.
        subject: what else the request named.
        outcome: OK, or the name of a code.
        calls: how many equal calls the entry stands for.
    """

    id: UUID
    at: datetime
    party: str
    token_prefix: str
    organization_id: UUID | None
    workspace_id: UUID | None
    rpc: str
    subject: str
    outcome: str
    reason: str
    address: str
    request_id: str
    calls: int


_COLUMNS = ", ".join(AuditEntry._fields)

# An entry that a cancelled write has stored already is written again.
_APPEND = f"""
    INSERT INTO audit_log ({_COLUMNS})
    SELECT e.id, e.at, e.party, e.token_prefix,
           coalesce(e.organization_id, w.organization_id, d.organization_id, t.organization_id),
           e.workspace_id, e.rpc, e.subject, e.outcome, e.reason, e.address, e.request_id, e.calls
    FROM unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::text[], $5::uuid[], $6::uuid[],
                $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[],
                $13::int[], $14::uuid[]) AS e ({_COLUMNS}, named)
    LEFT JOIN workspaces w ON w.id = e.workspace_id
    LEFT JOIN delegations d
        ON e.rpc = 'AdminService/RetryDelegation' AND d.delegation_id = e.subject
    LEFT JOIN org_api_tokens t ON e.rpc = 'AdminService/RevokeOrgToken' AND t.id = e.named
    ON CONFLICT (id) DO NOTHING
"""


async def append(pool: Pool, entries: Sequence[AuditEntry]) -> None:
    """Store entries, in one statement."""
    named = [as_id(entry.subject) for entry in entries]
    await pool.execute(_APPEND, *map(list, zip(*entries, strict=True)), named)


async def newest(
    pool: Pool,
    *,
    organization_id: UUID | None,
    workspace_id: UUID | None,
    before: tuple[datetime, UUID] | None,
    limit: int,
) -> list[AuditEntry]:
    """Entries, newest first; None leaves a filter out."""
    conditions, given = ["true"], list[object]()
    for condition, values in (
        ("organization_id = ${}", (organization_id,)),
        ("workspace_id = ${}", (workspace_id,)),
        ("(at, id) < (${}, ${})", before or (None, None)),
    ):
        if values[0] is not None:
            numbers = range(len(given) + 1, len(given) + len(values) + 1)
            conditions.append(condition.format(*numbers))
            given += values
    rows = await pool.fetch(
        f"""
        SELECT {_COLUMNS} FROM audit_log WHERE {" AND ".join(conditions)}
        ORDER BY at DESC, id DESC LIMIT {limit:d}
        """,
        *given,
    )
    return [AuditEntry(*row) for row in rows]


async def drop_old(pool: Pool, *, days: int, limit: int) -> int:
    """Delete at most `limit` entries that are older than `days`, at least 7; how many it was."""
    deleted: int = await pool.fetchval("SELECT drop_audit_entries($1, $2)", days, limit)
    return deleted
