"""The SQL that stores memories: one statement for the memories of many authors."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from molecule_grpc.db import rows
from molecule_grpc.db.pool import Connection, Pool, Writer
from molecule_grpc.events.names import EventType
from molecule_grpc.memory.store.namespaces import right
from molecule_grpc.memory.store.usage import USAGE_SHARD, Limits
from molecule_grpc.memory.store.visible import current


class Item(NamedTuple):
    """A memory on its way. The fields are the columns of the row, see `db.rows`.

    Args:
        shared: others may write the namespace, so that the right follows from the tree.
        locked: whether the transaction holds the author's tree, without which nothing shared is
            stored.
        tags: JSON text, like `entities`.
    """

    memory_id: UUID
    event_id: UUID
    author_id: UUID
    shared: bool
    locked: bool
    namespace: str
    content: str
    sha256: bytes
    keep: bool
    kind: str
    source: str
    tags: str
    entities: str
    label: str
    pinned: bool
    expires_at: datetime | None
    valid_from: datetime | None
    valid_to: datetime | None
    delegation_id: str | None
    file_id: UUID | None
    metadata: str | None
    redactions: int
    embed_state: str
    change: str
    created_at: datetime | None


class Verdict(enum.StrEnum):
    """What became of an item."""

    STORED = "stored"
    SAME = "same"
    """A memory that holds now has the text already. It lasts as long as the longer of both asks."""
    KNOWN = "known"
    """The namespace has a memory with the id that was asked for."""
    TAKEN = "taken"
    """Another namespace has a memory with the id."""
    LAPSED = "lapsed"
    """What has the id, or the text, is not to be seen any more: free it and try again."""
    RACE = "race"
    """Another transaction stored the same at the same moment: try again."""
    GONE = "gone"
    """There is no such author."""
    DENIED = "denied"
    """The author may not write the namespace."""
    UNHELD = "unheld"
    """Somebody changes the tree: wait for its lock and try again."""
    EXPIRED = "expired"
    """The namespace has expired and is about to be deleted."""
    OVER = "over"
    """The text does not hold any more when it is stored."""
    NAMESPACE_MEMORIES = "namespace memories"
    NAMESPACE_BYTES = "namespace bytes"
    ORGANIZATION_MEMORIES = "organization memories"
    ORGANIZATION_BYTES = "organization bytes"


class Stored(NamedTuple):
    """What became of an item. The order of the fields is that of the statement.

    Args:
        memory_id: of the memory that has the text now; None where there is none.
        sha256: of the text of a known memory.
        embed_state: of the memory.
    """

    verdict: str
    organization_id: UUID | None
    memory_id: UUID | None
    sha256: bytes | None
    embed_state: str | None


# Before the first try.
UNDECIDED: Final = Stored(Verdict.RACE, None, None, None, None)

_NEW = f"verdict = '{Verdict.STORED}'"
# Two items may ask for one id with different texts.
_MINE = """s.organization_id = v.organization_id AND s.id = v.memory_id
            AND s.content_sha256 = v.sha256"""

# What the tables say of each item, before the quotas are asked. Each item looks up its own rows
# (LATERAL, OFFSET 0), by an index that serves nothing else: a plan made while the tables were empty
# would else read all rows of an organisation.
_JUDGED = f"""
    judged AS (
        SELECT i.*, a.organization_id, octet_length(i.content) AS size,
               coalesce(n.language, 'english') AS language,
               coalesce(n.memories, 0) AS namespace_memories,
               coalesce(n.bytes, 0) AS namespace_bytes,
               coalesce(t.id, s.id) AS found_id, t.content_sha256 AS known_sha256,
               coalesce(t.embed_state, s.embed_state) AS found_state,
               CASE
                   WHEN a.id IS NULL OR a.status = 'removed' THEN '{Verdict.GONE}'
                   WHEN r.rule IS NULL THEN '{Verdict.DENIED}'
                   WHEN i.shared AND NOT i.locked THEN '{Verdict.UNHELD}'
                   WHEN n.expires_at <= now() THEN '{Verdict.EXPIRED}'
                   WHEN i.valid_to <= coalesce(i.valid_from, i.created_at, now())
                       THEN '{Verdict.OVER}'
                   WHEN t.expires_at <= now() THEN '{Verdict.LAPSED}'
                   WHEN t.namespace = i.namespace THEN '{Verdict.KNOWN}'
                   WHEN t.id IS NOT NULL THEN '{Verdict.TAKEN}'
                   WHEN s.id IS NOT NULL AND NOT i.keep AND s.holds THEN '{Verdict.SAME}'
                   WHEN s.id IS NOT NULL AND NOT s.holds THEN '{Verdict.LAPSED}'
                   ELSE '{Verdict.STORED}'
               END AS verdict
        FROM input i
        LEFT JOIN workspaces a ON a.id = i.author_id
        LEFT JOIN LATERAL (SELECT {right("a", "i.namespace")} AS rule) r ON true
        LEFT JOIN LATERAL (
            SELECT * FROM memory_namespaces n
            WHERE n.organization_id = a.organization_id AND n.name = i.namespace OFFSET 0
        ) n ON true
        LEFT JOIN LATERAL (
            SELECT * FROM memories t
            WHERE t.id = i.memory_id AND (t.organization_id = a.organization_id) IS TRUE OFFSET 0
        ) t ON true
        LEFT JOIN LATERAL (
            SELECT m.id, m.embed_state, {current("m")} AS holds
            FROM memories m
            WHERE m.text_key = memory_text_key(a.organization_id, i.namespace, i.sha256) OFFSET 0
        ) s ON true
    )
"""

# A new item counts against the quotas together with the new items before it in the batch. Batches
# that workers store at once do not see each other: each but the first may exceed a quota.
_VERDICTS = f"""
    used AS (
        SELECT organization_id, sum(memories) AS memories, sum(bytes) AS bytes
        FROM memory_usage
        WHERE organization_id = ANY (ARRAY(SELECT DISTINCT organization_id FROM judged))
        GROUP BY organization_id
    ),
    verdicts AS (
        SELECT x.ord, x.memory_id, x.event_id, x.author_id, x.namespace, x.content, x.sha256,
               x.keep, x.kind, x.source, x.tags, x.entities, x.label, x.pinned, x.expires_at,
               x.valid_from, x.valid_to, x.delegation_id, x.file_id, x.metadata, x.redactions,
               x.embed_state, x.change, x.created_at, x.organization_id, x.language, x.found_id,
               x.known_sha256, x.found_state,
               CASE
                   WHEN NOT {_NEW} THEN verdict
                   WHEN namespace_memories + count(*) FILTER (WHERE {_NEW}) OVER in_namespace
                        > $1::bigint THEN '{Verdict.NAMESPACE_MEMORIES}'
                   WHEN namespace_bytes + sum(size) FILTER (WHERE {_NEW}) OVER in_namespace
                        > $2::bigint THEN '{Verdict.NAMESPACE_BYTES}'
                   WHEN coalesce(u.memories, 0)
                        + count(*) FILTER (WHERE {_NEW}) OVER in_organization
                        > $3::bigint THEN '{Verdict.ORGANIZATION_MEMORIES}'
                   WHEN coalesce(u.bytes, 0)
                        + sum(size) FILTER (WHERE {_NEW}) OVER in_organization
                        > $4::bigint THEN '{Verdict.ORGANIZATION_BYTES}'
                   ELSE verdict
               END AS verdict
        FROM judged x LEFT JOIN used u USING (organization_id)
        WINDOW in_namespace AS (PARTITION BY x.organization_id, x.namespace ORDER BY x.ord),
               in_organization AS (PARTITION BY x.organization_id ORDER BY x.ord)
    )
"""

# Rows are stored in the order of their keys, so that two batches with the same texts do not wait
# for one another in a ring. OFFSET 0: the words are made once.
_STORED = f"""
    stored AS (
        INSERT INTO memories (
            organization_id, id, namespace, content, content_sha256, text_key, kind, source,
            tags, entities, label, author_id, pinned, expires_at, valid_from, valid_to, change,
            delegation_id, file_id, metadata, redactions, embed_state, words, word_count,
            created_at
        )
        SELECT v.organization_id, v.memory_id, v.namespace, v.content, v.sha256,
               CASE WHEN v.found_id IS NULL
                    THEN memory_text_key(v.organization_id, v.namespace, v.sha256) END,
               v.kind, v.source,
               ARRAY(SELECT jsonb_array_elements_text(v.tags::jsonb)),
               ARRAY(SELECT jsonb_array_elements_text(v.entities::jsonb)),
               v.label, v.author_id, v.pinned, v.expires_at,
               coalesce(v.valid_from, v.created_at, now()), v.valid_to, v.change, v.delegation_id,
               v.file_id, v.metadata::jsonb, v.redactions, v.embed_state, w.words,
               memory_word_count(w.words), coalesce(v.created_at, now())
        FROM verdicts v
        CROSS JOIN LATERAL (SELECT memory_words(v.language, v.content) AS words OFFSET 0) w
        WHERE {_NEW}
        ORDER BY v.organization_id, v.namespace, v.sha256, v.memory_id
        ON CONFLICT DO NOTHING
        RETURNING organization_id, id, namespace, content_sha256, octet_length(content) AS size
    ),
    -- A stored memory with the same text stays as long as the longer of both asks.
    extended AS (
        UPDATE memories m
        SET expires_at = CASE WHEN m.expires_at IS NOT NULL AND v.expires_at IS NOT NULL
                              THEN greatest(m.expires_at, v.expires_at) END,
            valid_to = CASE WHEN m.valid_to IS NOT NULL AND v.valid_to IS NOT NULL
                            THEN greatest(m.valid_to, v.valid_to) END,
            updated_at = now()
        FROM verdicts v
        WHERE v.verdict = '{Verdict.SAME}' AND m.id = v.found_id
          AND (m.organization_id = v.organization_id) IS TRUE
          AND (m.expires_at < coalesce(v.expires_at, 'infinity')
               OR m.valid_to < coalesce(v.valid_to, 'infinity'))
    )
"""

_COUNTED = f"""
    places AS (
        INSERT INTO memory_namespaces AS n (organization_id, name, kind, memories, bytes)
        SELECT organization_id, namespace, split_part(namespace, ':', 1), count(*), sum(size)
        FROM stored GROUP BY organization_id, namespace ORDER BY organization_id, namespace
        ON CONFLICT (organization_id, name) DO UPDATE
        SET memories = n.memories + excluded.memories, bytes = n.bytes + excluded.bytes
    ),
    counted AS (
        INSERT INTO memory_usage AS u (organization_id, shard, memories, bytes)
        SELECT organization_id, {USAGE_SHARD}, count(*), sum(size)
        FROM stored GROUP BY organization_id ORDER BY organization_id
        ON CONFLICT (organization_id, shard) DO UPDATE
        SET memories = u.memories + excluded.memories, bytes = u.bytes + excluded.bytes
    ),
    happened AS (
        INSERT INTO structure_events (id, event_type, organization_id, workspace_id, payload)
        SELECT v.event_id, $5::text, v.organization_id, v.author_id,
               jsonb_build_object('memory_id', v.memory_id, 'namespace', v.namespace)
        FROM verdicts v
        JOIN stored s ON {_MINE}
    )
"""

# Parameters: the limits, the name of the event, and the items, no two of them with one id or with
# one text of a namespace.
COMMIT = f"""
    WITH input AS (SELECT * FROM {rows.unnest(Item, 6)}),
    {_JUDGED}, {_VERDICTS}, {_STORED}, {_COUNTED}
    SELECT CASE WHEN {_NEW} AND s.id IS NULL THEN '{Verdict.RACE}' ELSE verdict END,
           v.organization_id, CASE WHEN {_NEW} THEN s.id ELSE v.found_id END, v.known_sha256,
           CASE WHEN {_NEW} THEN v.embed_state ELSE v.found_state END
    FROM verdicts v
    LEFT JOIN stored s ON {_MINE}
    ORDER BY v.ord
"""

# Who stands for the text of an item without holding.
_FREE = f"""
    UPDATE memories m SET text_key = NULL
    FROM workspaces a
    WHERE a.id = $1 AND m.text_key = memory_text_key(a.organization_id, $2, $3)
      AND NOT {current("m")}
"""


async def store(writer: Writer | Connection, items: Sequence[Item], limits: Limits) -> list[Stored]:
    """Store memories, with their namespaces, counters and events, in one statement.

    Args:
        items: no two of them with one id, or with one text of a namespace.
        limits: compared for each item by itself.
    """
    found = await writer.fetch(COMMIT, *limits, EventType.MEMORY_COMMITTED, *rows.columns(items))
    return [Stored(*row) for row in found]


async def free(pool: Pool | Connection, wanted: Item) -> None:
    """Let another memory stand for a text whose memory does not hold any more."""
    await pool.execute(_FREE, wanted.author_id, wanted.namespace, wanted.sha256)
