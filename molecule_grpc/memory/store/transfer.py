"""The SQL of export and import."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Pool
from molecule_grpc.memory.store.visible import visible

# Texts of a page are bounded by bytes, too.
PAGE_ROWS: Final = 500
PAGE_BYTES: Final = 1_048_576

_OF_WORKSPACE = "^(workspace|team|org):[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
_ANCHOR = f"""CASE WHEN m.namespace ~ '{_OF_WORKSPACE}'
         THEN split_part(m.namespace, ':', 2)::uuid ELSE m.author_id END"""

# A lookup each: a join may walk all workspaces.
_NAME = """(
        SELECT w.name FROM workspaces w
        WHERE w.id = p.{} AND w.organization_id = p.organization_id
    )"""
_PAGE = f"""
    SELECT p.*, {_NAME.format("anchor_id")}, {_NAME.format("author_id")}
    FROM (
        SELECT m.organization_id, m.id, m.namespace, m.content, m.kind, m.source, m.tags,
               m.entities, m.label, m.author_id, m.pinned, m.expires_at, m.valid_from, m.valid_to,
               m.delegation_id, m.file_id, m.metadata, m.created_at, {_ANCHOR} AS anchor_id,
               sum(octet_length(m.content)) OVER (ORDER BY m.id, m.organization_id)
                   - octet_length(m.content) AS before
        FROM memories m
        WHERE (m.id, m.organization_id) > ($2::uuid, $1::uuid)
          AND ($3::uuid IS NULL OR m.organization_id = $3)
          AND m.superseded_by IS NULL AND {visible("m")}
        ORDER BY m.id, m.organization_id LIMIT {PAGE_ROWS}
    ) p
    WHERE p.before < {PAGE_BYTES}
    ORDER BY p.id, p.organization_id
"""


class ExportRow(NamedTuple):
    """A memory on its way out. The order of the fields is that of the statement.

    Args:
        anchor_id: the workspace that the namespace hangs on; of a custom one the author.
        before: bytes of the texts in front of it on its page.
    """

    organization_id: UUID
    id: UUID
    namespace: str
    content: str
    kind: str
    source: str
    tags: list[str]
    entities: list[str]
    label: str
    author_id: UUID | None
    pinned: bool
    expires_at: datetime | None
    valid_from: datetime
    valid_to: datetime | None
    delegation_id: str | None
    file_id: UUID | None
    metadata: str | None
    created_at: datetime
    anchor_id: UUID | None
    before: int
    workspace_name: str | None
    author_name: str | None


async def page(
    pool: Pool, organization_id: UUID | None, after: tuple[UUID, UUID]
) -> list[ExportRow]:
    """Some memories behind one, in the order of ids; none at the end.

    Args:
        pool: where to read.
        organization_id: whose; None for all.
        after: organisation and id of the last row of the page before.
    """
    rows = await pool.fetch(_PAGE, *after, organization_id)
    return [ExportRow(*row) for row in rows]


async def organization_exists(pool: Pool, organization_id: UUID) -> bool:
    """Whether there is such an organisation."""
    found = await pool.fetchval("SELECT true FROM organizations WHERE id = $1", organization_id)
    return found is not None


async def named(
    pool: Pool, organization_id: UUID, names: Sequence[str]
) -> list[tuple[str, UUID, UUID | None]]:
    """Name, id and parent of the live workspaces with these names, at most two of each name."""
    rows = await pool.fetch(
        """
        SELECT name, id, parent_id
        FROM (
            SELECT w.name, w.id, w.parent_id, row_number() OVER (PARTITION BY w.name) AS nth
            FROM workspaces w
            WHERE w.organization_id = $1 AND w.name = ANY($2::text[]) AND w.status <> 'removed'
        ) found
        WHERE nth <= 2
        """,
        organization_id,
        list(names),
    )
    return [(row["name"], row["id"], row["parent_id"]) for row in rows]
