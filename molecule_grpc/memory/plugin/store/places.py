"""The namespaces that a plugin may have, by the workspaces they hang on."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool

_PAGE = 500


class Anchor(NamedTuple):
    """A workspace. `leads`: has children or no parent, so that a team hangs on it."""

    organization_id: UUID
    id: UUID
    name: str
    is_root: bool
    leads: bool


class Custom(NamedTuple):
    """A custom namespace that somebody was granted."""

    organization_id: UUID
    name: str


async def anchors(
    conn: Connection | Pool, organization_id: UUID | None, after: tuple[UUID, UUID]
) -> list[Anchor]:
    """Up to 500 workspaces behind one, by organisation and id; removed ones, too."""
    rows = await conn.fetch(
        f"""
        SELECT w.organization_id, w.id, w.name, w.parent_id IS NULL,
               w.parent_id IS NULL OR EXISTS (SELECT FROM workspaces c WHERE c.parent_id = w.id)
        FROM workspaces w
        WHERE (w.organization_id, w.id) > ($2, $3)
          AND ($1::uuid IS NULL OR w.organization_id = $1)
        ORDER BY w.organization_id, w.id LIMIT {_PAGE}
        """,
        organization_id,
        *after,
    )
    return [Anchor(*row) for row in rows]


async def customs(
    conn: Connection | Pool, organization_id: UUID | None, after: tuple[UUID, str]
) -> list[Custom]:
    """Up to 500 custom namespaces behind one, by organisation and name."""
    rows = await conn.fetch(
        f"""
        SELECT DISTINCT g.organization_id, g.namespace FROM memory_grants g
        WHERE (g.organization_id, g.namespace) > ($2, $3) AND g.namespace LIKE 'custom:%'
          AND ($1::uuid IS NULL OR g.organization_id = $1)
        ORDER BY 1, 2 LIMIT {_PAGE}
        """,
        organization_id,
        *after,
    )
    return [Custom(*row) for row in rows]
