"""The SQL of vectors: the table's making, what is still to be read, and what was read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db import rows
from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.memory.search.store.literals import quoted_name


class PendingText(NamedTuple):
    """A text without a vector."""

    organization_id: UUID
    id: UUID
    content: str
    content_sha256: bytes


class NewVector(NamedTuple):
    """A vector of one window of a text."""

    organization_id: UUID
    memory_id: UUID
    chunk: int
    content_sha256: bytes
    embedding: str


class Read(NamedTuple):
    """A text that was read, or that the model refused."""

    organization_id: UUID
    id: UUID
    content_sha256: bytes
    state: str


# Making an index walks the table: longer than any other statement of a worker.
_ENABLE_SECONDS = 600.0


async def enable(pool: Pool, model: str, dimensions: int) -> str | None:
    """The schema of the extension, after the model's vectors have their place; None without it."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(f"SET LOCAL statement_timeout = {round(_ENABLE_SECONDS * 1000)}")
        schema: str | None = await connection.fetchval(
            "SELECT memory_enable_vectors($1, $2)", model, dimensions, timeout=_ENABLE_SECONDS
        )
    return schema


async def place_of_vectors(pool: Pool, model: str) -> str | None:
    """The schema of the extension, if the model's vectors have their place already."""
    schema: str | None = await pool.fetchval(
        """
        SELECT home.nspname::text FROM pg_extension e JOIN pg_namespace home
          ON home.oid = e.extnamespace
        WHERE e.extname = 'vector' AND to_regclass('memory_embeddings') IS NOT NULL
          AND EXISTS (SELECT FROM memory_readers WHERE model = $1)
        """,
        model,
    )
    return schema


# What a crash takes back is done again: nobody waits for the disk.
_UNFLUSHED = "set_config('synchronous_commit', 'off', true)"


async def claim(pool: Pool, model: str, holder: UUID, seconds: float) -> bool:
    """Whether the holder turns texts into vectors of the model, alone, for so many seconds."""
    row = await pool.fetchrow(
        f"""
        INSERT INTO memory_readers (model, holder, until)
        VALUES ($1, $2, now() + make_interval(secs => $3))
        ON CONFLICT (model) DO UPDATE SET holder = excluded.holder, until = excluded.until
            WHERE memory_readers.until < now() OR memory_readers.holder = $2
        RETURNING {_UNFLUSHED}
        """,
        model,
        holder,
        seconds,
    )
    return row is not None


async def earlier_model(pool: Pool, model: str) -> str | None:
    """The model that texts were read by before this one, as long as some wait for this one."""
    found: str | None = await pool.fetchval(
        """
        SELECT model FROM memory_readers
        WHERE model <> $1 AND EXISTS (SELECT FROM memories WHERE embed_state = 'pending')
        ORDER BY until DESC LIMIT 1
        """,
        model,
    )
    return found


async def idle_earlier(pool: Pool, model: str) -> list[str]:
    """Models before this one that no worker has used for ten minutes."""
    rows = await pool.fetch(
        """
        SELECT model FROM memory_readers
        WHERE model <> $1 AND until < now() - interval '10 minutes' ORDER BY model LIMIT 100
        """,
        model,
    )
    return [row["model"] for row in rows]


async def drop_vectors(pool: Pool, models: Sequence[str], after: UUID, limit: int) -> UUID | None:
    """Delete vectors of models among the next rows in the order of memories.

    Returns:
        The last memory looked at; None at the end.
    """
    row = await pool.fetchrow(
        """
        WITH looked AS (
            SELECT memory_id, model, chunk, organization_id FROM memory_embeddings
            WHERE memory_id > $2 ORDER BY memory_id LIMIT $3
        ),
        gone AS (
            DELETE FROM memory_embeddings e USING looked l
            WHERE e.memory_id = l.memory_id AND e.model = l.model AND e.chunk = l.chunk
              AND e.organization_id = l.organization_id AND l.model = ANY($1)
        )
        SELECT count(*) AS looked, (array_agg(memory_id ORDER BY memory_id DESC))[1] AS last
        FROM looked
        """,
        list(models),
        after,
        limit,
    )
    assert row is not None
    last: UUID | None = row["last"]
    return last if row["looked"] == limit else None


async def end_earlier(pool: Pool, models: Sequence[str]) -> None:
    """Models whose vectors are gone are asked no more."""
    await pool.execute("DELETE FROM memory_readers WHERE model = ANY($1)", list(models))


async def release(pool: Pool, model: str, holder: UUID) -> None:
    """Let another worker turn texts into vectors."""
    await pool.execute(
        "UPDATE memory_readers SET until = now() WHERE model = $1 AND holder = $2", model, holder
    )


# Texts of the line that are looked at; organisations take turns among them, short texts first.
_LINE = 1000
# Letters of one round: long texts of one organisation do not keep the others waiting.
_BYTES = 64 * 1024

_NEXT_PENDING = f"""
    WITH line AS (
        SELECT organization_id, id, updated_at, octet_length(content) AS bytes FROM memories
        WHERE embed_state = 'pending' ORDER BY updated_at, id LIMIT {_LINE}
    ),
    turns AS (
        SELECT *, row_number() OVER (
            PARTITION BY organization_id, bytes > 8000 ORDER BY updated_at, id
        ) AS turn FROM line
    ),
    round AS (
        SELECT organization_id, id, row_number() OVER next AS place,
               sum(bytes) OVER next AS filled
        FROM turns WINDOW next AS (ORDER BY turn, bytes, updated_at, id)
    )
    SELECT m.organization_id, m.id, m.content, m.content_sha256
    FROM round JOIN memories m
      ON m.id = round.id AND (m.organization_id = round.organization_id) IS TRUE
    WHERE round.place = 1 OR (round.place <= $1 AND round.filled <= {_BYTES})
    ORDER BY round.place
"""


async def next_pending(pool: Pool, limit: int) -> list[PendingText]:
    """Texts whose turn it is: at most `limit`, and 64 KiB or one text. Nothing is locked."""
    return [PendingText(*row.values()) for row in await pool.fetch(_NEXT_PENDING, limit)]


_STORE = f"""
    WITH read AS (SELECT * FROM {rows.unnest(Read, 2, "r")}),
    -- Of texts that changed meanwhile, or are forgotten, nothing is stored.
    held AS (
        UPDATE memories m SET embed_state = read.state
        FROM read
        WHERE m.organization_id = read.organization_id AND m.id = read.id
          AND m.content_sha256 = read.content_sha256 AND m.embed_state = 'pending'
        RETURNING m.organization_id, m.id
    ),
    old AS (
        DELETE FROM memory_embeddings e USING held
        WHERE e.organization_id = held.organization_id AND e.memory_id = held.id AND e.model = $1
          AND e.chunk >= (
              SELECT count(*) FROM {rows.unnest(NewVector, 6, "v")}
              WHERE v.organization_id = held.organization_id AND v.memory_id = held.id
          )
    )
    INSERT INTO memory_embeddings
        (organization_id, memory_id, model, chunk, content_sha256, embedding)
    SELECT v.organization_id, v.memory_id, $1, v.chunk, v.content_sha256,
           v.embedding::{{schema}}.vector
    FROM {rows.unnest(NewVector, 6, "v")} JOIN held ON held.organization_id = v.organization_id
        AND held.id = v.memory_id
    WHERE (SELECT {_UNFLUSHED}) = 'off'
    ON CONFLICT (memory_id, model, chunk, organization_id) DO UPDATE
        SET content_sha256 = excluded.content_sha256, embedding = excluded.embedding,
            created_at = excluded.created_at
"""


async def store(
    pool: Pool, schema: str, model: str, texts: Sequence[Read], vectors: Sequence[NewVector]
) -> None:
    """Put vectors in place of those of earlier texts, and say that their texts are read."""
    sql = _STORE.replace("{schema}", quoted_name(schema))
    new = rows.columns(vectors) if vectors else rows.no_rows(NewVector)
    await pool.execute(sql, model, *rows.columns(texts), *new)


async def mark_unread(
    connection: Connection, model: str, after: tuple[UUID, UUID], limit: int
) -> tuple[tuple[UUID, UUID] | None, int]:
    """Put texts without a vector of the model into the line of those that wait.

    Looks at the next rows in the order of their keys.

    Returns:
        The last key looked at, None at the end, and how many texts were put into the line.
    """
    row = await connection.fetchrow(
        """
        WITH looked AS (
            SELECT organization_id, id, content_sha256, embed_state FROM memories
            WHERE (id, organization_id) > ($2, $3)
            ORDER BY id, organization_id LIMIT $4
        ),
        unread AS (
            SELECT l.organization_id, l.id FROM looked l
            WHERE l.embed_state <> 'pending' AND NOT EXISTS (
                SELECT FROM memory_embeddings e
                WHERE e.organization_id = l.organization_id AND e.memory_id = l.id
                  AND e.model = $1 AND e.content_sha256 = l.content_sha256
            )
        ),
        marked AS (
            UPDATE memories m SET embed_state = 'pending' FROM unread u
            WHERE m.organization_id = u.organization_id AND m.id = u.id
              AND m.embed_state <> 'pending'
            RETURNING 1
        )
        SELECT (SELECT count(*) FROM looked) AS looked, (SELECT count(*) FROM marked) AS marked,
               l.id, l.organization_id
        FROM looked l ORDER BY l.id DESC, l.organization_id DESC LIMIT 1
        """,
        model,
        *after,
        limit,
    )
    if row is None or row["looked"] < limit:
        return None, 0 if row is None else row["marked"]
    return (row["id"], row["organization_id"]), row["marked"]


async def count_pending(pool: Pool, most: int) -> int:
    """How many texts wait, up to `most`."""
    count: int = await pool.fetchval(
        """
        SELECT count(*)::integer FROM (
            SELECT FROM memories WHERE embed_state = 'pending' LIMIT $1
        ) counted
        """,
        most,
    )
    return count
