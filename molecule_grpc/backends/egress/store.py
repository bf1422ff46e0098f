"""The SQL of egress: which starts may speak to the proxy, and which hosts were refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from molecule_grpc.backends.egress.values import Caller, Refusal, View
from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.host_list import HostList

# Refused hosts that are kept of each workspace.
MOST_REFUSED: Final = 100
_MOST_ATTEMPTS: Final = 2**31 - 1

# In the key's order, so that two workers that note the same hosts do not wait for each other in a
# circle. A workspace that was purged meanwhile is left out.
_NOTE: Final = f"""
    INSERT INTO workspace_refused_hosts AS r
        (workspace_id, host, port, reason, attempts, first_at, last_at)
    SELECT given.* FROM unnest(
        $1::uuid[], $2::text[], $3::integer[], $4::text[], $5::integer[],
        $6::timestamptz[], $7::timestamptz[]
    ) AS given (workspace_id, host, port, reason, attempts, first_at, last_at)
    JOIN (
        SELECT id FROM workspaces WHERE id = ANY($1) AND status <> 'removed' FOR KEY SHARE
    ) w ON w.id = given.workspace_id
    ORDER BY given.workspace_id, given.host, given.port
    ON CONFLICT (workspace_id, host, port) DO UPDATE SET
        reason = excluded.reason,
        attempts = least(r.attempts::bigint + excluded.attempts, {_MOST_ATTEMPTS}),
        last_at = greatest(r.last_at, excluded.last_at)
"""
_PRUNE: Final = f"""
    DELETE FROM workspace_refused_hosts WHERE (workspace_id, host, port) IN (
        SELECT r.workspace_id, r.host, r.port
        FROM unnest($1::uuid[]) AS given (id), LATERAL (
            SELECT workspace_id, host, port FROM workspace_refused_hosts
            WHERE workspace_id = given.id
            ORDER BY last_at DESC, host, port OFFSET {MOST_REFUSED}
        ) r
    )
"""


async def note_start(conn: Connection, workspace_id: UUID, operation_id: UUID) -> None:
    """The proxy takes the password of this start from now on, and of no other."""
    await conn.execute(
        """
        INSERT INTO workspace_proxied (workspace_id, operation_id) VALUES ($1, $2)
        ON CONFLICT (workspace_id) DO UPDATE SET operation_id = excluded.operation_id
        """,
        workspace_id,
        operation_id,
    )


async def note_open_start(conn: Connection, workspace_id: UUID) -> None:
    """The workspace is started open: the proxy takes none of its passwords."""
    await conn.execute("DELETE FROM workspace_proxied WHERE workspace_id = $1", workspace_id)


async def caller(pool: Pool, workspace_id: UUID) -> Caller | None:
    """A live workspace that was last started behind the proxy."""
    row = await pool.fetchrow(
        """
        SELECT w.organization_id, p.operation_id, w.egress::text
        FROM workspace_proxied p JOIN workspaces w ON w.id = p.workspace_id
        WHERE p.workspace_id = $1 AND w.status <> 'removed'
        """,
        workspace_id,
    )
    return None if row is None else Caller(row[0], row[1], HostList.stored(row[2]))


async def note_refused(conn: Connection, refused: Sequence[Refusal]) -> None:
    """Add to what was refused. Of each workspace the newest 100 hosts stay."""
    columns = [list(each) for each in zip(*refused, strict=True)]
    await conn.execute(_NOTE, *columns)
    await conn.execute(_PRUNE, sorted(set(columns[0])))


async def view(pool: Pool, workspace_id: UUID, within: UUID | None) -> View | None:
    """What people are shown of a live workspace; None when there is none.

    Args:
        within: the only organisation that it may be of; None for any.
    """
    row = await pool.fetchrow(
        """
        SELECT w.egress::text, p.workspace_id IS NOT NULL
        FROM workspaces w LEFT JOIN workspace_proxied p ON p.workspace_id = w.id
        WHERE w.id = $1 AND w.status <> 'removed' AND ($2::uuid IS NULL OR w.organization_id = $2)
        """,
        workspace_id,
        within,
    )
    if row is None:
        return None
    refused = await pool.fetch(
        f"""
        SELECT workspace_id, host, port, reason, attempts, first_at, last_at
        FROM workspace_refused_hosts WHERE workspace_id = $1
        ORDER BY last_at DESC, host, port LIMIT {MOST_REFUSED}
        """,
        workspace_id,
    )
    return View(HostList.stored(row[0]), row[1], [Refusal(*each) for each in refused])
