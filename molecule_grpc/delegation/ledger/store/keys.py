"""The SQL that frees an idempotency key of the ledger."""

from __future__ import annotations

from molecule_grpc.db.pool import Connection
from molecule_grpc.delegation.ledger.store.accept import DelegationDraft


async def free_key(conn: Connection, draft: DelegationDraft) -> None:
    """Take the key off a delegation that failed or is older than a day. It stays for audit."""
    await conn.execute(
        """
        UPDATE delegations SET idempotency_key = NULL
        WHERE caller_id = $1 AND idempotency_key = $2 AND organization_id = $3
          AND (status = 'failed' OR created_at < now() - interval '24 hours')
        """,
        draft.caller_id,
        draft.idempotency_key,
        draft.organization_id,
    )


async def release_key(conn: Connection, draft: DelegationDraft) -> None:
    """Take the key off the retry that ended badly."""
    await conn.execute(
        """
        UPDATE delegations SET idempotency_key = NULL
        WHERE caller_id = $1 AND idempotency_key = $2 AND organization_id = $3
          AND status IN ('failed', 'stuck')
        """,
        draft.caller_id,
        draft.idempotency_key,
        draft.organization_id,
    )
