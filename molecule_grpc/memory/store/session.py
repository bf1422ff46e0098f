"""The SQL of the search through all that a workspace did and knows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Pool
from molecule_grpc.memory.store.visible import current

_SEARCH = f"""
    SELECT id, author_id, namespace, content, kind, created_at
    FROM (
        SELECT found.*, sum(octet_length(content)) OVER newest - octet_length(content) AS before
        FROM (
            SELECT here.* FROM unnest($2::text[]) n (name) CROSS JOIN LATERAL (
                SELECT m.id, m.author_id, m.namespace, m.content, m.kind, m.created_at
                FROM memories m
                WHERE m.organization_id = $1 AND m.namespace = n.name
                  AND ($3 = '' OR m.content ILIKE '%' || $3 || '%') AND {current("m")}
                  AND ($4::timestamptz IS NULL OR (m.created_at, m.id) < ($4, $5::uuid))
                ORDER BY m.created_at DESC, m.id DESC LIMIT $6
            ) here
            ORDER BY created_at DESC, id DESC LIMIT $6
        ) found
        WINDOW newest AS (ORDER BY created_at DESC, id DESC)
    ) sized
    WHERE before <= $7
    ORDER BY created_at DESC, id DESC
"""
_ESCAPED = str.maketrans({"\\": r"\\", "%": r"\%", "_": r"\_"})


class FoundText(NamedTuple):
    """A memory whose text, here as stored, contains the text of the search."""

    id: UUID
    author_id: UUID | None
    namespace: str
    content: str
    kind: str
    created_at: datetime


async def search(
    pool: Pool,
    organization_id: UUID,
    namespaces: Sequence[str],
    text: str,
    *,
    before: tuple[datetime, UUID] | None,
    limit: int,
    max_bytes: int,
    seconds: float,
) -> list[FoundText]:
    """Memories that hold now and contain a text in any case, newest first.

    The text is literal: no wildcards. Raises `TimeoutError` after `seconds`.

    Args:
        text: empty for any text.
        before: only memories behind this time and id.
        limit: most rows.
        max_bytes: of all texts; the row that exceeds them is the last row.
        seconds: limit of the statement.
    """
    rows = await pool.fetch(
        _SEARCH,
        organization_id,
        list(namespaces),
        text.translate(_ESCAPED),
        *(before or (None, None)),
        limit,
        max_bytes,
        timeout=seconds,
    )
    return [FoundText(*row) for row in rows]
