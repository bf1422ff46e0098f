"""The SQL of bootstrap tokens."""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool

# Tokens of older starts go; those of another try of this one stay, since its machine may run.
_FORGET: Final = """
    DELETE FROM workspace_bootstraps
    WHERE workspace_id = $1 AND (operation_id <> $2 OR expires_at < now())
"""
_ADD: Final = """
    INSERT INTO workspace_bootstraps (token_hash, workspace_id, operation_id, expires_at)
    VALUES ($1, $2, $3, now() + make_interval(secs => $4))
"""
# Of two callers at once the second waits for the first one's commit, and finds the token used.
_CLAIM: Final = """
    UPDATE workspace_bootstraps b SET used_at = now()
    FROM workspaces w
    WHERE b.token_hash = $1 AND b.workspace_id = $2 AND b.used_at IS NULL AND b.expires_at > now()
      AND w.id = b.workspace_id AND w.status = 'provisioning'
    RETURNING b.operation_id, b.used_at
"""
_RELEASE: Final = """
    UPDATE workspace_bootstraps SET used_at = NULL WHERE token_hash = $1 AND used_at = $2
"""


class Claim(NamedTuple):
    """The first use of a bootstrap token, and the operation of the token's start."""

    operation_id: UUID
    used_at: datetime


async def add(
    conn: Connection, token_hash: bytes, workspace_id: UUID, operation_id: UUID, seconds: int
) -> None:
    """Store a token of a start, which works for so many seconds."""
    await conn.execute(_FORGET, workspace_id, operation_id)
    await conn.execute(_ADD, token_hash, workspace_id, operation_id, seconds)


async def claim(pool: Pool, token_hash: bytes, workspace_id: UUID) -> Claim | None:
    """Use a token. None where it is unknown, another workspace's, used, too old or of no use."""
    row = await pool.fetchrow(_CLAIM, token_hash, workspace_id)
    return None if row is None else Claim(*row)


async def release(pool: Pool, token_hash: bytes, claimed: Claim) -> None:
    """Let a token be used again: its use gave nothing out."""
    await pool.execute(_RELEASE, token_hash, claimed.used_at)
