"""The SQL of the tree: who is whose ancestor, and who may talk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import asyncpg

from molecule_grpc.db import rows
from molecule_grpc.db.pool import Connection, Pool, Writer
from molecule_grpc.directory import URL_BY_ENGINE, Peer
from molecule_grpc.kernel.page import MAX_PAGE_BYTES, Page
from molecule_grpc.workspace.rules import MAX_DEPTH
from molecule_grpc.workspace.store.workspaces import ROW_BYTES

_NO_PARENT = "'00000000-0000-0000-0000-000000000000'::uuid"

# Siblings, or one above the other: every step of both walks goes up by one level. Symmetric by
# construction, and false beyond the depth that the tree can have.
_RELATED = f"""
    s.organization_id = t.organization_id AND (
        s.id = t.id
        OR s.parent_id IS NOT DISTINCT FROM t.parent_id
        OR EXISTS (
            WITH RECURSIVE up (id, wanted, steps) AS (
                VALUES (s.parent_id, t.id, 1), (t.parent_id, s.id, 1)
                UNION ALL
                SELECT w.parent_id, up.wanted, up.steps + 1
                FROM up JOIN workspaces w ON w.id = up.id
                WHERE up.id <> up.wanted AND up.steps < {MAX_DEPTH}
            )
            SELECT FROM up WHERE id = wanted
        )
    )
"""

# In the order of `Node`, and behind it the fields that `Pair` adds.
_PAIR_COLUMNS = f"""
    t.id, t.organization_id, t.name, coalesce(t.role, '') AS role, t.status, t.url,
    t.mode_in_force, t.runtime, t.idle_timeout_seconds,
    t.{URL_BY_ENGINE} AND t.resource_id <> '' AS engine_url,
    s.status AS source_status,
    coalesce(s.organization_id = t.organization_id, false) AS visible,
    coalesce({_RELATED}, false) AS related
"""
_PAIR = f"""
    SELECT {_PAIR_COLUMNS}
    FROM workspaces t LEFT JOIN workspaces s ON s.id = $1
    WHERE t.id = $2 AND ($3::uuid IS NULL OR t.organization_id = $3)
"""


class Parties(NamedTuple):
    """The ids of two workspaces."""

    source: UUID
    target: UUID


# A row for each pair, in order; `id` is NULL where there is no target.
PAIRS = f"""
    SELECT {_PAIR_COLUMNS}
    FROM {rows.unnest(Parties, 1, "i")}
    LEFT JOIN workspaces t ON t.id = i.target
    LEFT JOIN workspaces s ON s.id = i.source
    ORDER BY i.ord
"""

_ONE = f"""
    SELECT id, organization_id, name, coalesce(role, '') AS role, status, url, mode_in_force,
           runtime, idle_timeout_seconds,
           {URL_BY_ENGINE} AND resource_id <> '' AS engine_url
    FROM workspaces WHERE id = $1
"""

# Among live children of one parent a name is unique, so that (name, id) is the order of names.
_WANTED = """
    w.status <> 'removed' AND w.name >= $3 AND (w.name, w.id) > ($3, $4)
    AND ($2 = '' OR position(lower($2) IN lower(w.name)) > 0
        OR position(lower($2) IN lower(coalesce(w.role, ''))) > 0)
"""

# Of each set the first rows behind a place, read in the order of the index on live names, whose
# expressions these are. Rows behind the bytes are left out before their cards are sent.
_PEERS = f"""
    WITH me AS (
        SELECT id, organization_id, parent_id, coalesce(parent_id, {_NO_PARENT}) AS parent
        FROM workspaces WHERE id = $1
    ), found AS (
        (SELECT w.* FROM me, LATERAL (
            SELECT * FROM workspaces w
            WHERE w.organization_id = me.organization_id
                AND coalesce(w.parent_id, {_NO_PARENT}) = me.parent
                AND w.id <> me.id AND {_WANTED}
            ORDER BY w.name LIMIT $5
        ) w)
        UNION ALL
        (SELECT w.* FROM me, LATERAL (
            SELECT * FROM workspaces w
            WHERE w.organization_id = me.organization_id
                AND coalesce(w.parent_id, {_NO_PARENT}) = me.id AND {_WANTED}
            ORDER BY w.name LIMIT $5
        ) w)
        UNION ALL
        SELECT w.* FROM me JOIN workspaces w ON w.id = me.parent_id AND {_WANTED}
    ), first AS (
        SELECT * FROM found ORDER BY name, id LIMIT $5
    ), measured AS (
        SELECT w.*, row_number() OVER through AS number, count(*) OVER () AS found,
               sum({ROW_BYTES}) OVER through AS bytes_so_far
        FROM first w
        WINDOW through AS (ORDER BY w.name, w.id ROWS UNBOUNDED PRECEDING)
    )
    SELECT id, name, coalesce(role, '') AS role, tier, status, url, parent_id, active_tasks,
           agent_card, found
    FROM measured
    WHERE number = 1 OR bytes_so_far <= $6
    ORDER BY name, id
"""

_BRANCH = f"""
    WITH RECURSIVE up (id, parent_id, depth) AS (
        SELECT id, parent_id, 1 FROM workspaces
        WHERE id = $1 AND organization_id = $2 AND status <> 'removed'
        UNION ALL
        SELECT w.id, w.parent_id, up.depth + 1
        FROM up JOIN workspaces w ON w.id = up.parent_id
        WHERE up.depth <= {MAX_DEPTH}
    )
    SELECT id FROM up ORDER BY depth
"""

_HEIGHT = f"""
    WITH RECURSIVE down (id, height) AS (
        VALUES ($1::uuid, 1)
        UNION ALL
        SELECT w.id, down.height + 1
        FROM down JOIN workspaces w ON w.parent_id = down.id
        WHERE w.status <> 'removed' AND down.height <= {MAX_DEPTH}
    )
    SELECT max(height) FROM down
"""

# UNION, not UNION ALL: ends even where the rows form a ring.
_FAMILY = """
    WITH RECURSIVE down (id) AS (
        VALUES ($1::uuid)
        UNION
        SELECT w.id FROM down JOIN workspaces w ON w.parent_id = down.id
    )
    SELECT w.id, w.parent_id, w.name, w.status <> 'removed' AS live
    FROM down JOIN workspaces w ON w.id = down.id
    ORDER BY w.name, w.id
"""


class Node(NamedTuple):
    """A workspace of the tree, removed or not."""

    id: UUID
    organization_id: UUID
    name: str
    role: str
    status: str
    url: str
    mode_in_force: str
    runtime: str
    idle_timeout_seconds: int | None
    engine_url: bool


class Pair(NamedTuple):
    """Two workspaces, seen from the first one; `target` is the second.

    Args:
        source_status: None when there is no first one.
        visible: both are of one organisation.
        related: the tree lets them talk, whatever their statuses.
    """

    target: Node
    source_status: str | None
    visible: bool
    related: bool


class Member(NamedTuple):
    """A workspace of a subtree."""

    id: UUID
    parent_id: UUID | None
    name: str
    live: bool


async def pair(pool: Pool, source: UUID, target: UUID, within: UUID | None = None) -> Pair | None:
    """Two workspaces, removed or not; None when there is no target, or none `within`."""
    row = await pool.fetchrow(_PAIR, source, target, within)
    return None if row is None else _pair(row)


async def pairs(writer: Writer, wanted: Sequence[Parties]) -> list[Pair | None]:
    """Many pairs by one statement; None where there is no target."""
    found = await writer.fetch(PAIRS, *rows.columns(wanted))
    return [None if row["id"] is None else _pair(row) for row in found]


def _pair(row: asyncpg.Record) -> Pair:
    *target_columns, source_status, visible, related = row
    return Pair(Node(*target_columns), source_status, visible, related)


async def one(pool: Pool, workspace_id: UUID) -> Node | None:
    """A workspace, removed or not."""
    row = await pool.fetchrow(_ONE, workspace_id)
    return Node(*row) if row else None


async def peers(
    pool: Pool,
    workspace_id: UUID,
    wanted: str,
    *,
    after: tuple[str, UUID] | None,
    limit: int,
    max_bytes: int = MAX_PAGE_BYTES,
) -> Page[Peer]:
    """Live siblings, children and parent, by name, in a page of about `max_bytes`.

    Args:
        wanted: only those whose name or role contains this, in any case.
        after: only peers behind this name and id.
    """
    name, peer_id = after or ("", UUID(int=0))
    found = await pool.fetch(_PEERS, workspace_id, wanted, name, peer_id, limit + 1, max_bytes)
    listed = [Peer(*list(row)[:-1]) for row in found[:limit]]
    return Page(listed, more=bool(found) and found[0]["found"] > len(listed))


async def branch(conn: Connection, organization_id: UUID, workspace_id: UUID) -> list[UUID]:
    """A live workspace and its ancestors, upwards. Empty when it is none of this organisation's."""
    rows = await conn.fetch(_BRANCH, workspace_id, organization_id)
    return [row["id"] for row in rows]


async def height(conn: Connection, workspace_id: UUID) -> int:
    """Levels of a workspace's live subtree, its own included."""
    levels: int = await conn.fetchval(_HEIGHT, workspace_id)
    return levels


async def family(conn: Connection, workspace_id: UUID) -> list[Member]:
    """A workspace and everything below it, live or removed."""
    return [Member(*row) for row in await conn.fetch(_FAMILY, workspace_id)]
