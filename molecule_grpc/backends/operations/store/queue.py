"""The SQL of asking for operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.backends.operations.rules import Kind, Options
from molecule_grpc.backends.operations.store.rows import options_text, read_options
from molecule_grpc.db.pool import Connection

# In id order, like every statement that locks many workspaces. One that is missing locks nothing:
# its operations are asked for by `remove` alone, and the index of pending ones then decides.
_HOLD_WORKSPACES = """
    SELECT FROM workspaces WHERE id = ANY($1::uuid[]) ORDER BY id FOR NO KEY UPDATE
"""

# An operation that a worker takes first is `running` when the lock is granted: its row is no longer
# pending, and is left out.
_HOLD_PENDING = """
    SELECT id, workspace_id, kind, options FROM workspace_operations
    WHERE workspace_id = ANY($1::uuid[]) AND state = 'pending'
    ORDER BY workspace_id FOR UPDATE
"""

_REPLACE = """
    UPDATE workspace_operations
    SET state = 'cancelled', reason = 'replaced', ended_at = now()
    WHERE id = ANY($1::uuid[]) AND state = 'pending'
"""

_CHANGE = """
    UPDATE workspace_operations o
    SET kind = c.kind, options = c.options,
        not_before = least(o.not_before, now() + make_interval(secs => c.delay))
    FROM unnest($1::uuid[], $2::text[], $3::jsonb[], $4::float8[]) AS c (id, kind, options, delay)
    WHERE o.id = c.id AND o.state = 'pending'
"""

_INSERT = """
    INSERT INTO workspace_operations
        (id, workspace_id, organization_id, kind, source, options, not_before)
    SELECT id, workspace_id, organization_id, kind, source, options,
           now() + make_interval(secs => delay)
    FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::jsonb[],
                $7::float8[]) AS n (id, workspace_id, organization_id, kind, source, options, delay)
"""

_REQUEST_CANCEL = """
    UPDATE workspace_operations SET cancel_requested = true
    WHERE workspace_id = ANY($1::uuid[]) AND state = 'running' AND kind IN ('start', 'restart')
      AND NOT cancel_requested
"""

_STARTED = """
    SELECT w.id, w.organization_id FROM workspaces w
    WHERE w.id = ANY($1::uuid[]) AND (w.backend <> '' OR EXISTS (
        SELECT FROM workspace_operations o
        WHERE o.workspace_id = w.id AND o.state IN ('pending', 'running')
    ))
    ORDER BY w.id
"""


class Pending(NamedTuple):
    """An operation that waits."""

    id: UUID
    workspace_id: UUID
    kind: Kind
    options: Options


class Change(NamedTuple):
    """What a waiting operation becomes; it waits no longer than `delay` seconds from now."""

    id: UUID
    kind: Kind
    options: Options
    delay: float


class New(NamedTuple):
    """A new operation."""

    id: UUID
    workspace_id: UUID
    organization_id: UUID
    kind: Kind
    source: str
    options: Options
    delay: float


async def hold_pending(conn: Connection, workspace_ids: list[UUID]) -> list[Pending]:
    """Lock workspaces and the operations that wait for them until the transaction ends."""
    await conn.execute(_HOLD_WORKSPACES, workspace_ids)
    rows = await conn.fetch(_HOLD_PENDING, workspace_ids)
    return [
        Pending(row["id"], row["workspace_id"], Kind(row["kind"]), read_options(row["options"]))
        for row in rows
    ]


async def replace(conn: Connection, operation_ids: list[UUID]) -> None:
    """Cancel operations that wait: others take their place."""
    if operation_ids:
        await conn.execute(_REPLACE, operation_ids)


async def change(conn: Connection, changes: Sequence[Change]) -> None:
    """Change operations that wait."""
    if changes:
        ids, kinds, options, delays = zip(*changes, strict=True)
        await conn.execute(
            _CHANGE, list(ids), list(kinds), [options_text(each) for each in options], list(delays)
        )


async def insert(conn: Connection, new: Sequence[New]) -> None:
    """Store operations that wait."""
    if new:
        ids, workspaces, organizations, kinds, sources, options, delays = zip(*new, strict=True)
        await conn.execute(
            _INSERT,
            list(ids),
            list(workspaces),
            list(organizations),
            list(kinds),
            list(sources),
            [options_text(each) for each in options],
            list(delays),
        )


async def request_cancel(conn: Connection, workspace_ids: list[UUID]) -> None:
    """Ask the running starts of these workspaces to end."""
    if workspace_ids:
        await conn.execute(_REQUEST_CANCEL, workspace_ids)


async def started(conn: Connection, workspace_ids: list[UUID]) -> dict[UUID, UUID]:
    """Those of these workspaces that a backend may know, and whose they are."""
    rows = await conn.fetch(_STARTED, workspace_ids)
    return {row["id"]: row["organization_id"] for row in rows}
