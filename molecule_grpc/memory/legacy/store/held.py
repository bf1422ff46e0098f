"""What the built-in store has, as digests."""

from __future__ import annotations

from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool

_PAGE = 1_000


async def page(
    conn: Connection | Pool, organization_id: UUID, namespace: str, after: UUID
) -> list[tuple[UUID, bytes]]:
    """Up to 1,000 memories of a namespace with greater ids: id and digest of the text."""
    rows = await conn.fetch(
        f"""
        SELECT id, content_sha256 FROM memories
        WHERE organization_id = $1 AND namespace = $2 AND id > $3
        ORDER BY id LIMIT {_PAGE}
        """,
        organization_id,
        namespace,
        after,
    )
    return [(row[0], row[1]) for row in rows]
