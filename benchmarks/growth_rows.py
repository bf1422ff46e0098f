"""Rows for `growth`: tables of a given size, a fifth of which belong to one busy workspace."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from benchmarks.harness import make_organization
from molecule_grpc.db.pool import Connection
from molecule_grpc.kernel.ids import new_id

# Workspaces that share the rows: so few that at 100 rows each has a page of some.
_AGENTS = 10
_FIRST_MEMORY = UUID("00000000-0000-7000-8000-000000000000").int
# For a statement that writes a million rows.
_SECONDS = 600

# `$1` is the agents, `$2` and `$3` the first and the last row to add, `$4` the organisation.
_OWNER = """
    ($1::uuid[])[1 + CASE WHEN n % 5 = 0 THEN 0 ELSE 1 + n % (cardinality($1::uuid[]) - 1) END]
"""
_SEEDS = (
    f"""
    INSERT INTO activity_logs (id, workspace_id, activity_type, source_id, target_id, method,
                               summary, request_body, record_seq, created_at, body_bytes)
    SELECT gen_random_uuid(), {_OWNER}, CASE n % 2 WHEN 0 THEN 'a2a_receive' ELSE 'agent_log' END,
           ($1::uuid[])[1 + n % cardinality($1::uuid[])], NULL, 'message/send', 'message ' || n,
           jsonb_build_object('text', 'some words of message ' || n), n,
           now() - make_interval(secs => ($3 - n) / 1000.0), 40
    FROM generate_series($2::bigint, $3::bigint) n WHERE $4::uuid IS NOT NULL
    """,
    f"""
    INSERT INTO inbox_items (workspace_id, seq, message_id, activity_id, method, bytes,
                             bytes_through, done_at)
    SELECT {_OWNER}, n, n::text, gen_random_uuid(), 'message/send', 10, 10 * n,
           CASE WHEN n % 10 > 0 THEN now() END
    FROM generate_series($2::bigint, $3::bigint) n WHERE $4::uuid IS NOT NULL
    """,
    """
    INSERT INTO delegations (delegation_id, caller_id, callee_id, organization_id, task_preview,
                             status, last_heartbeat, created_at, updated_at)
    SELECT 'd' || n, ($1::uuid[])[1 + n % cardinality($1::uuid[])],
           ($1::uuid[])[1 + (n + 1) % cardinality($1::uuid[])], $4, 'task',
           CASE WHEN n <= 50 THEN 'in_progress' WHEN n % 1000 = 0 THEN 'stuck'
                WHEN n % 100 = 1 THEN 'failed' ELSE 'completed' END,
           now(), now() - make_interval(secs => ($3 - n) / 1000.0), now()
    FROM generate_series($2::bigint, $3::bigint) n
    """,
    """
    INSERT INTO structure_events (id, xact, event_type, organization_id, workspace_id, payload)
    SELECT gen_random_uuid(), n::text::xid8, 'WORKSPACE_ONLINE', $4,
           ($1::uuid[])[1 + n % cardinality($1::uuid[])], '{"name": "x"}'
    FROM generate_series($2::bigint, $3::bigint) n
    """,
    """
    INSERT INTO memory_namespaces (organization_id, name, kind)
    SELECT $4, 'workspace:' || w, 'workspace' FROM unnest($1::uuid[]) w
    WHERE $2::bigint <= $3::bigint ON CONFLICT DO NOTHING
    """,
    f"""
    INSERT INTO memories (
        organization_id, id, namespace, content, content_sha256, text_key, kind, source, author_id,
        valid_from, change, embed_state, words, word_count
    )
    SELECT $4, ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'workspace:' || w,
           'memory ' || n, sha256(n::text::bytea),
           memory_text_key($4, 'workspace:' || w, sha256(n::text::bytea)), 'fact', 'agent', w,
           now(), 'committed', 'none', to_tsvector('english', 'memory ' || n), 2
    FROM generate_series($2::bigint, $3::bigint) n, LATERAL (SELECT {_OWNER} AS w) o
    """,
)
_HEADS = """
    INSERT INTO inbox_heads (workspace_id, last_seq, record_seq, acked_seq)
    SELECT w, n, n, greatest(n - 30, 0) FROM unnest($1::uuid[]) w, (SELECT $2::integer) s (n)
    ON CONFLICT (workspace_id) DO UPDATE SET last_seq = excluded.last_seq,
        record_seq = excluded.record_seq, acked_seq = excluded.acked_seq
"""
_TALLIES = """
    INSERT INTO delegation_tallies (organization_id, status, number)
    SELECT organization_id, status, count(*) FROM delegations
    WHERE status IN ('completed', 'failed', 'stuck') GROUP BY 1, 2
"""
_SIBLINGS = """
    INSERT INTO workspaces (id, organization_id, name, tier, status, runtime, delivery_mode,
                            agent_card, created_at)
    SELECT gen_random_uuid(), $1, 'agent ' || n, 3, 'online', 'external', 'poll',
           '{"name": "an agent", "skills": []}', now() - make_interval(secs => $3 - n)
    FROM generate_series($2::bigint, $3::bigint) n
"""


@dataclass(slots=True)
class Rows:
    """What stands in the tables.

    Args:
        agents: the workspaces with the rows; the first one is the busy one.
        organization: theirs.
        crowd: an organisation that has nothing but siblings.
        sibling: one of those.
        size: rows of each table, and siblings.
    """

    agents: list[UUID]
    organization: UUID
    crowd: UUID
    sibling: UUID
    size: int = 0

    @property
    def memory(self) -> UUID:
        """A memory of the busy workspace."""
        return UUID(int=_FIRST_MEMORY + 5)

    @property
    def busy(self) -> UUID:
        """The workspace that has a fifth of everything."""
        return self.agents[0]


async def empty_tables(dsn: str, connection: Connection) -> Rows:
    """Agents without rows, and a sibling without siblings."""
    organization, crowd = [await make_organization(dsn) for _ in range(2)]
    agents = [new_id() for _ in range(_AGENTS)]
    sibling = new_id()
    await connection.executemany(
        "INSERT INTO workspaces (id, organization_id, name, tier, status, runtime, delivery_mode)"
        " VALUES ($1::uuid, $2, $1::uuid::text, 3, 'online', 'external', 'poll')",
        [*((agent, organization) for agent in agents), (sibling, crowd)],
    )
    return Rows(agents, organization, crowd, sibling)


async def grow(connection: Connection, rows: Rows, size: int) -> None:
    """Add rows until each table has so many, and vacuum, as a day of autovacuum would have."""
    first = rows.size + 1
    for seed in _SEEDS:
        await connection.execute(
            seed, rows.agents, first, size, rows.organization, timeout=_SECONDS
        )
    await connection.execute(_SIBLINGS, rows.crowd, first, size, timeout=_SECONDS)
    await connection.execute(_HEADS, rows.agents, size)
    await connection.execute("DELETE FROM delegation_tallies")
    await connection.execute(_TALLIES, timeout=_SECONDS)
    await connection.execute("VACUUM ANALYZE", timeout=_SECONDS)
    rows.size = size
