"""What the platform itself knows of the authors of memories that a plugin keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.memory.store.visible import trusted


class Author(NamedTuple):
    """An author. `name` is None for a workspace that is gone."""

    name: str | None
    trusted: bool


async def authors(
    conn: Connection | Pool, organization_id: UUID, ids: Sequence[UUID]
) -> dict[UUID, Author]:
    """What is known of authors of an organisation: at most as many as a search finds memories."""
    rows = await conn.fetch(
        f"""
        SELECT a.id, w.name, {trusted("$1", "a.id")}
        FROM unnest($2::uuid[]) AS a (id)
        LEFT JOIN workspaces w ON w.id = a.id AND w.organization_id = $1
        """,
        organization_id,
        ids,
    )
    return {row[0]: Author(row[1], row[2]) for row in rows}
