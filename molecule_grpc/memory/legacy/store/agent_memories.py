"""The table `agent_memories` of an old installation, read for a move."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.directory import DEFAULT_ORGANIZATION

MAX_DEPTH: Final = 50
PAGE: Final = 100
# Characters read of a text: 1 more than a memory may have bytes, so that longer texts are noticed.
_MOST_CHARS: Final = 100_001


class Cursor(NamedTuple):
    """A place in the table, oldest row first."""

    created_at: datetime
    id: UUID

    def __str__(self) -> str:
        return f"{self.created_at.isoformat()},{self.id}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Raises `ValueError`."""
        at, _, row_id = text.partition(",")
        time = datetime.fromisoformat(at)
        return cls(time if time.tzinfo else time.replace(tzinfo=UTC), UUID(row_id))


FIRST: Final = Cursor(datetime(1, 1, 2, tzinfo=UTC), UUID(int=0))


class LegacyRow(NamedTuple):
    """A row. `label` is its column `namespace`, a free word."""

    id: UUID
    workspace_id: UUID
    content: str
    scope: str
    label: str
    created_at: datetime


class Owner(NamedTuple):
    """A workspace in its tree.

    Args:
        removed: deleted, and not yet purged.
        root_id: None where the walk up its parents does not end within 50.
    """

    id: UUID
    organization_id: UUID
    parent_id: UUID | None
    root_id: UUID | None
    removed: bool


class SourceTables(NamedTuple):
    """What the old database has."""

    present: bool
    is_table: bool
    labelled: bool
    organizations: bool


async def tables(conn: Connection | Pool) -> SourceTables:
    """Look for the table and its columns."""
    row = await conn.fetchrow(
        """
        SELECT c.oid IS NOT NULL, coalesce(c.relkind IN ('r', 'p'), false),
               EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid
                       AND a.attname = 'namespace' AND NOT a.attisdropped),
               EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = to_regclass('workspaces')
                       AND a.attname = 'organization_id' AND NOT a.attisdropped)
        FROM (SELECT to_regclass('agent_memories') AS name) wanted
        LEFT JOIN pg_class c ON c.oid = wanted.name
        """
    )
    assert row is not None
    return SourceTables(*row)


async def page(
    conn: Connection | Pool,
    found: SourceTables,
    after: Cursor,
    *,
    workspace_id: UUID | None = None,
    limit: int = PAGE,
) -> list[LegacyRow]:
    """Up to 100 rows after a place, oldest first."""
    label = "coalesce(namespace, 'general')" if found.labelled else "'general'"
    rows = await conn.fetch(
        f"""
        SELECT id, workspace_id, left(content, {_MOST_CHARS}), scope, {label}, created_at
        FROM agent_memories
        WHERE (created_at, id) > ($1, $2) AND ($3::uuid IS NULL OR workspace_id = $3)
        ORDER BY created_at, id LIMIT $4
        """,
        after.created_at,
        after.id,
        workspace_id,
        min(limit, PAGE),
    )
    return [LegacyRow(*row) for row in rows]


async def owners(
    conn: Connection | Pool, found: SourceTables, ids: Sequence[UUID]
) -> dict[UUID, Owner]:
    """Workspaces by id, with the ends of their parents' chains. Unknown ids are absent."""
    organization = "w.organization_id" if found.organizations else f"'{DEFAULT_ORGANIZATION}'::uuid"
    rows = await conn.fetch(
        f"""
        WITH RECURSIVE chain (owner, id, parent_id, depth) AS (
            SELECT w.id, w.id, w.parent_id, 1 FROM workspaces w WHERE w.id = ANY($1::uuid[])
            UNION ALL
            SELECT c.owner, p.id, p.parent_id, c.depth + 1
            FROM chain c JOIN workspaces p ON p.id = c.parent_id
            WHERE c.depth < {MAX_DEPTH}
        ) CYCLE id SET looped USING path
        SELECT w.id, {organization}, w.parent_id,
               (SELECT c.id FROM chain c
                WHERE c.owner = w.id AND c.parent_id IS NULL AND NOT c.looped),
               w.status::text = 'removed'
        FROM workspaces w WHERE w.id = ANY($1::uuid[])
        """,
        ids,
    )
    return {row[0]: Owner(*row) for row in rows}


async def sample(conn: Connection | Pool, count: int) -> list[UUID]:
    """Workspaces picked at random that have rows and are not removed."""
    rows = await conn.fetch(
        """
        SELECT w.id FROM workspaces w
        WHERE w.status::text <> 'removed'
          AND EXISTS (SELECT FROM agent_memories m WHERE m.workspace_id = w.id)
        ORDER BY random() LIMIT $1
        """,
        count,
    )
    return [row[0] for row in rows]
