"""The SQL that appends to the activity record and to inboxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db import rows
from molecule_grpc.db.pool import Connection, Pool, Writer
from molecule_grpc.delegation.record.store.entries import (
    APPEND,
    PLACED_COLUMNS,
    Entry,
    Placed,
    placed,
    same_message,
)
from molecule_grpc.delegation.record.store.usage import RECORD_BYTES, USAGE
from molecule_grpc.events.names import EventType
from molecule_grpc.quotas import UNLIMITED


class EntryDraft(NamedTuple):
    """An entry on its way.

    Args:
        exempt: whether the inbox takes it even when it looks full.
        kept: whether the record takes it even when the organisation has recorded too much today:
            it tells of what was accepted before.
    """

    entry: Entry
    exempt: bool = False
    kept: bool = False


class Appended(NamedTuple):
    """What became of an entry.

    Args:
        seq: number of its inbox item; None when it is not one.
        activity_id: the row that records it: the first one, when the message was known.
        known: whether the inbox had this message already, so that nothing was written.
        full: whether the inbox takes no more, so that nothing was written.
        placed: the new inbox item, when there is one.
        beyond: the organisation that has recorded too much today, so that nothing was written.
    """

    seq: int | None
    activity_id: UUID
    known: bool
    full: bool
    placed: Placed | None = None
    beyond: UUID | None = None


# Parameters: the limits of an inbox, $3 and $4 the names of the events, $5 whether somebody reads
# events, $6 the bytes that an organisation may record in a day, $7 and $8 who is exempt from the
# limits of inboxes and from $6, and the entries.
APPEND_ENTRIES = f"""
    WITH input AS (
        SELECT t.*, (SELECT w.organization_id FROM workspaces w WHERE w.id = t.workspace_id)
        FROM unnest($7::bool[], $8::bool[], {rows.arrays(Entry, 9)})
            WITH ORDINALITY AS t (exempt, kept, {rows.names(Entry)}, ord)
    ),
    {USAGE},
    -- Messages that their sender has sent before.
    known AS (
        SELECT i.ord, x.seq, x.activity_id
        FROM input i CROSS JOIN LATERAL (
            SELECT * FROM inbox_items x
            WHERE {same_message("i.message_id", "i.workspace_id")}
              AND x.source_id IS NOT DISTINCT FROM i.sender_id
            LIMIT 1
        ) x
    ),
    -- Messages for inboxes that are full.
    filling AS (
        SELECT i.ord
        FROM input i JOIN inbox_heads h USING (workspace_id)
        WHERE i.message_id IS NOT NULL AND NOT i.exempt
          AND (h.last_seq - h.acked_seq >= $1 OR h.bytes - h.acked_bytes >= $2)
    ),
    -- Rows that would bring their organisation beyond its bytes of the day.
    beyond AS (
        SELECT i.ord, i.organization_id
        FROM (
            SELECT ord, organization_id, kept,
                   sum({RECORD_BYTES}) OVER (PARTITION BY organization_id ORDER BY ord) AS bytes
            FROM input
        ) i LEFT JOIN usage u USING (organization_id)
        WHERE NOT i.kept AND coalesce(u.bytes, 0) + i.bytes > $6::bigint
    ),
    entries AS (
        SELECT i.*, 0 AS step, 0 AS opened FROM input i
        WHERE i.ord NOT IN (SELECT ord FROM known UNION ALL SELECT ord FROM filling
                            UNION ALL SELECT ord FROM beyond)
    ),
    -- What is said to a person, who may come back and ask for the last minutes; and what is
    -- recorded, while somebody watches.
    shown AS (
        INSERT INTO live_events (id, event_type, organization_id, workspace_id, payload)
        SELECT gen_random_uuid(), CASE e.method WHEN 'notify' THEN $3::text ELSE $4::text END,
               w.organization_id, w.id,
               CASE e.method
                   WHEN 'notify' THEN jsonb_build_object(
                       'message', e.response_body::jsonb -> 'result', 'workspace_id', w.id,
                       'name', w.name,
                       'attachments', coalesce(e.response_body::jsonb -> 'parts', '[]'))
                   ELSE jsonb_strip_nulls(jsonb_build_object(
                       'activity_type', e.activity_type, 'method', e.method,
                       'summary', e.summary, 'status', e.status, 'source_id', e.source_id,
                       'target_id', e.target_id, 'duration_ms', e.duration_ms))
               END
        FROM entries e JOIN workspaces w ON w.id = e.workspace_id
        WHERE $5 OR e.method = 'notify'
    ),
    {APPEND}
    SELECT coalesce(p.seq, k.seq) AS seq,
           coalesce(p.activity_id, k.activity_id, i.activity_id) AS activity_id,
           k.ord IS NOT NULL AS known, f.ord IS NOT NULL AND k.ord IS NULL AS full,
           CASE WHEN k.ord IS NULL THEN b.organization_id END AS beyond, {PLACED_COLUMNS}
    FROM input i LEFT JOIN placed p USING (ord) LEFT JOIN known k USING (ord)
    LEFT JOIN filling f USING (ord) LEFT JOIN beyond b USING (ord)
    ORDER BY i.ord
"""


async def append(
    writer: Writer | Connection,
    entries: Sequence[EntryDraft],
    *,
    max_items: int,
    max_bytes: int,
    day_bytes: int = UNLIMITED,
    watched: bool = True,
) -> list[Appended]:
    """Append entries to their records and inboxes, in this order, as one transaction.

    Args:
        writer: where the statement runs.
        max_items: an inbox with so many undone items takes no more.
        max_bytes: an inbox with so many undone bytes takes no more.
        day_bytes: an organisation records so many bytes a day. Statements of several workers at
            once may each add up to that.
        watched: whether somebody may read events; ACTIVITY_LOGGED is not written for nobody.
    """
    found = await writer.fetch(
        APPEND_ENTRIES,
        max_items,
        max_bytes,
        EventType.AGENT_MESSAGE,
        EventType.ACTIVITY_LOGGED,
        watched,
        day_bytes,
        [draft.exempt for draft in entries],
        [draft.kept for draft in entries],
        *rows.columns([draft.entry for draft in entries]),
    )
    return [
        Appended(
            row["seq"], row["activity_id"], row["known"], row["full"], placed(row), row["beyond"]
        )
        for row in found
    ]


async def undone(pool: Pool | Connection, workspace_id: UUID) -> tuple[int, int]:
    """Undone items of a workspace and their body bytes, counted row by row."""
    row = await pool.fetchrow(
        """
        SELECT count(*), coalesce(sum(x.bytes), 0)
        FROM inbox_items x JOIN inbox_heads h USING (workspace_id)
        WHERE x.workspace_id = $1 AND x.seq > h.acked_seq AND x.done_at IS NULL
        """,
        workspace_id,
    )
    assert row is not None
    return row[0], row[1]
