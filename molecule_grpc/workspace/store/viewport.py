"""The SQL of viewports."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Pool


class View(NamedTuple):
    """A part of the canvas."""

    x: float
    y: float
    zoom: float


async def get(pool: Pool, organization_id: UUID) -> View | None:
    """The saved view, or the default; None for an unknown organisation."""
    row = await pool.fetchrow(
        """
        SELECT coalesce(v.x, 0), coalesce(v.y, 0), coalesce(v.zoom, 1)
        FROM organizations o LEFT JOIN canvas_viewport v ON v.organization_id = o.id
        WHERE o.id = $1
        """,
        organization_id,
    )
    return None if row is None else View(*row)


async def save(pool: Pool, organization_id: UUID, view: View) -> bool:
    """Save a view. False for an unknown organisation."""
    found = await pool.fetchval(
        """
        INSERT INTO canvas_viewport AS v (organization_id, x, y, zoom)
        SELECT id, $2, $3, $4 FROM organizations WHERE id = $1
        ON CONFLICT (organization_id) DO UPDATE
        SET x = excluded.x, y = excluded.y, zoom = excluded.zoom, saved_at = now()
        RETURNING true
        """,
        organization_id,
        *view,
    )
    return found is not None
