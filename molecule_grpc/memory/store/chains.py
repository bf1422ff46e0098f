"""The SQL of memories that take the place of others, and of taking that back.

Every statement is one of a transaction that holds the rows, see `changes.hold`.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from molecule_grpc.db.pool import Connection
from molecule_grpc.memory.store.changes import free_key
from molecule_grpc.memory.store.visible import beside, current, replaced, visible

# What hidden authors had put in the place of the memories is replaced with them, so that nothing of
# it holds when the authors are shown again.
_SUPERSEDE = f"""
    WITH RECURSIVE later (id, next) AS (
        SELECT w.id, w.superseded_by FROM memories m
        JOIN memories w ON w.id = m.superseded_by AND {beside("w", "m")}
        WHERE m.id = ANY ($2::uuid[]) AND (m.organization_id = $1) IS TRUE
        UNION
        SELECT w.id, w.superseded_by FROM later
        JOIN memories w ON w.id = later.next AND (w.organization_id = $1) IS TRUE
    ),
    hidden AS (
        UPDATE memories m
        SET superseded_by = $3, superseded_at = now(), text_key = NULL, updated_at = now()
        FROM later
        WHERE later.next IS NULL AND m.id = later.id AND (m.organization_id = $1) IS TRUE
    )
    UPDATE memories m
    SET superseded_by = $3, superseded_at = now(), text_key = NULL, updated_at = now()
    WHERE m.id = ANY ($2::uuid[]) AND (m.organization_id = $1) IS TRUE AND NOT {replaced("m")}
    RETURNING m.id
"""

# What was replaced when the memory was stored, and nothing that a forgotten memory left to it.
_RESTORE = f"""
    UPDATE memories m SET superseded_by = NULL, superseded_at = NULL, updated_at = now()
    FROM memories w
    WHERE w.id = $2 AND (w.organization_id = $1) IS TRUE
      AND m.superseded_by = w.id AND {beside("m", "w")}
      AND m.superseded_at = least(w.known_from, (
          SELECT min(v.known_from) FROM memory_versions v
          WHERE v.organization_id = w.organization_id AND v.memory_id = w.id
      ))
    RETURNING m.id, {visible("m")} AS visible
"""

# One of the restored rows with a text stands for that text, unless another row does.
_STAND_AGAIN = f"""
    UPDATE memories m SET text_key = {free_key("m", "m.content_sha256")}
    WHERE (m.organization_id = $1) IS TRUE AND m.id IN (
        SELECT DISTINCT ON (namespace, content_sha256) id
        FROM memories WHERE (organization_id = $1) IS TRUE AND id = ANY ($2::uuid[])
        ORDER BY namespace, content_sha256, id
    )
"""


async def twin(
    conn: Connection, organization_id: UUID, memory_id: UUID, sha256: bytes
) -> UUID | None:
    """The memory that holds in the same namespace and has this text. Takes no lock."""
    found: UUID | None = await conn.fetchval(
        f"""
        SELECT m.id FROM memories old JOIN memories m
            ON m.text_key = memory_text_key(old.organization_id, old.namespace, $3)
        WHERE old.id = $2 AND (old.organization_id = $1) IS TRUE AND {current("m")}
        """,
        organization_id,
        memory_id,
        sha256,
    )
    return found


async def supersede(
    conn: Connection, organization_id: UUID, ids: Sequence[UUID], winner: UUID
) -> list[UUID]:
    """Put a memory in the place of those of others that nothing has replaced yet; which ones."""
    rows = await conn.fetch(_SUPERSEDE, organization_id, ids, winner)
    return sorted(row["id"] for row in rows)


async def restore(conn: Connection, organization_id: UUID, winner: UUID) -> list[UUID]:
    """Let hold again what a memory had replaced; which of it can be seen."""
    rows = await conn.fetch(_RESTORE, organization_id, winner)
    await conn.execute(_STAND_AGAIN, organization_id, [row["id"] for row in rows])
    return sorted(row["id"] for row in rows if row["visible"])


async def was_consolidated(conn: Connection, organization_id: UUID, memory_id: UUID) -> bool:
    """Whether an earlier text of a memory took the place of several."""
    found: bool = await conn.fetchval(
        """
        SELECT EXISTS (
            SELECT FROM memory_versions
            WHERE organization_id = $1 AND memory_id = $2 AND change = 'consolidated'
        )
        """,
        organization_id,
        memory_id,
    )
    return found
