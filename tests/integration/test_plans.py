"""Hot statements on tables of a size that matters: each finds its rows by an index."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from molecule_grpc.db.pool import Pool, Writer, connect_pool
from molecule_grpc.delegation.inbox.store import acks, leases, reads, retention
from molecule_grpc.delegation.ledger.moves import draft_move
from molecule_grpc.delegation.ledger.rules import Status
from molecule_grpc.delegation.ledger.store import accept as accepts
from molecule_grpc.delegation.ledger.store import move as ledger_moves
from molecule_grpc.delegation.ledger.store import overview, tallies
from molecule_grpc.delegation.ledger.store import retention as ledger_retention
from molecule_grpc.delegation.ledger.store import views as ledger_views
from molecule_grpc.delegation.ledger.store.limits import Limits
from molecule_grpc.delegation.record.store import activity, queries
from molecule_grpc.delegation.record.store import retention as record_retention
from molecule_grpc.events import store as event_store
from molecule_grpc.events.values import Position, Scope
from molecule_grpc.kernel.ids import new_id
from molecule_grpc.workspace.registry.store import heartbeats as beats
from molecule_grpc.workspace.store import workspaces
from molecule_grpc.workspace.tree import store as tree
from tests.conftest import execute, with_database
from tests.integration.agents import ORGANIZATION, Slice, draft, hire, message, slice_of
from tests.integration.workspaces import add_organization

Plan = dict[str, Any]

# Seeded by statement: workspaces that share 100,000 activity rows, 50,000 items and 50,000
# delegations. `$1` is all of them; the first has a fifth of everything, and one peer that it hears
# of seldom.
_SEED = """
    INSERT INTO activity_logs (id, workspace_id, activity_type, source_id, target_id, method,
                               request_body, record_seq, created_at)
    SELECT gen_random_uuid(), w, CASE n % 4 WHEN 0 THEN 'a2a_receive' WHEN 1 THEN 'task_update'
                                            ELSE 'agent_log' END,
           CASE WHEN n % 4 = 0 THEN CASE WHEN n % 1000 = 0 THEN $2::uuid ELSE $3::uuid END END,
           CASE WHEN n % 4 = 1 THEN CASE WHEN n % 1001 = 0 THEN $2::uuid ELSE $3::uuid END END,
           'message/send', jsonb_build_object('n', n), n, now() - make_interval(secs => 100000 - n)
    FROM generate_series(1, 100000) n, LATERAL (SELECT ($1::uuid[])[1 + CASE WHEN n % 5 = 0 THEN 0
        ELSE 1 + n % (cardinality($1::uuid[]) - 1) END] AS w) x;
"""
_ITEMS = """
    INSERT INTO inbox_items (workspace_id, seq, message_id, activity_id, method, bytes,
                             bytes_through, done_at, not_before, deliveries)
    SELECT w, row_number() OVER (PARTITION BY w ORDER BY n), n::text, gen_random_uuid(),
           'message/send', 10, 10 * n, CASE WHEN n % 10 > 0 THEN now() END,
           CASE WHEN n % 1000 = 0 THEN now() + interval '1 hour' END, 0
    FROM generate_series(1, 50000) n, LATERAL (SELECT ($1::uuid[])[1 + CASE WHEN n % 5 = 0 THEN 0
        ELSE 1 + n % (cardinality($1::uuid[]) - 1) END] AS w) x;
"""
_HEADS = """
    INSERT INTO inbox_heads (workspace_id, last_seq, record_seq, bytes, acked_seq)
    SELECT w, (SELECT count(*) FROM inbox_items x WHERE x.workspace_id = w), 100000, 0,
           (SELECT count(*) * 9 / 10 FROM inbox_items x WHERE x.workspace_id = w)
    FROM unnest($1::uuid[]) w;
"""
_DELEGATIONS = """
    INSERT INTO delegations (delegation_id, caller_id, callee_id, organization_id, task_preview,
                             status, last_heartbeat, deadline, created_at, idempotency_key)
    SELECT 'd' || n, ($1::uuid[])[1 + n % cardinality($1::uuid[])],
           ($1::uuid[])[1 + (n + 1) % cardinality($1::uuid[])], $2, 'task',
           CASE WHEN n % 100 = 0 THEN 'in_progress' WHEN n % 100 = 1 THEN 'queued'
                ELSE 'completed' END,
           now(), now() + make_interval(secs => n), now() - make_interval(secs => 50000 - n),
           CASE WHEN n % 10 = 0 THEN n::text END
    FROM generate_series(1, 50000) n;
"""
_EVENTS = """
    INSERT INTO structure_events (id, xact, event_type, organization_id, payload, workspace_id)
    SELECT gen_random_uuid(), n::text::xid8, 'WORKSPACE_ONLINE', $2, '{}',
           ($1::uuid[])[1 + CASE WHEN n % 5 = 0 THEN 0 ELSE n % cardinality($1::uuid[]) END]
    FROM generate_series(1, 20000) n
"""
# Roots of an organisation of their own, `$1`.
_SIBLINGS = """
    INSERT INTO workspaces (id, organization_id, name, tier, status, agent_card, created_at)
    SELECT gen_random_uuid(), $1, 'agent ' || n, 3, 'online', '{"name": "x"}',
           now() - make_interval(secs => n)
    FROM generate_series(1, 10000) n
"""


class Watched:
    """A connection that records the plan of every statement.

    Two of each: as it ran, with what each step looked at; and the one that the driver's prepared
    statements settle on, which knows no values.
    """

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self.plans: list[Plan] = []
        self.generic: list[Plan] = []

    async def fetch(
        self, sql: str, *args: object, timeout: float | None = None
    ) -> list[asyncpg.Record]:
        async with self._transaction():
            ran = await self._connection.fetchval(
                f"EXPLAIN (FORMAT JSON, ANALYZE, BUFFERS) {sql}", *args
            )
        settled = await self._connection.fetchval(
            f"EXPLAIN (FORMAT JSON, GENERIC_PLAN) {sql}", *args
        )
        self.plans.append(json.loads(ran)[0]["Plan"])
        self.generic.append(json.loads(settled)[0]["Plan"])
        return await self._connection.fetch(sql, *args)

    async def fetchrow(self, sql: str, *args: object) -> asyncpg.Record | None:
        rows = await self.fetch(sql, *args)
        return rows[0] if rows else None

    async def fetchval(self, sql: str, *args: object) -> Any:
        row = await self.fetchrow(sql, *args)
        return row[0] if row else None

    async def execute(self, sql: str, *args: object) -> str:
        return f"DONE {len(await self.fetch(sql, *args))}"

    def _transaction(self) -> Any:
        return _RolledBack(self._connection)


class _RolledBack:
    """What the explained statement writes is undone."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._transaction = connection.transaction()

    async def __aenter__(self) -> None:
        await self._transaction.start()

    async def __aexit__(self, *_: object) -> None:
        await self._transaction.rollback()


def nodes(plan: Plan) -> Iterator[Plan]:
    """A plan and everything below it."""
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def indexes(plan: Plan) -> set[str]:
    """Names of the indexes that a plan uses."""
    return {node["Index Name"] for node in nodes(plan) if "Index Name" in node}


_BIG = {"activity_logs", "inbox_items", "delegations", "workspaces", "structure_events"}


def require_bound(watched: Watched, rows: int = 1500) -> None:
    """No table of size is walked, and no step looks at more rows than its answer explains."""
    assert watched.plans
    for plan in watched.plans + watched.generic:
        for node in nodes(plan):
            if node["Node Type"] == "Seq Scan":
                assert node["Relation Name"] not in _BIG, node
    for plan in watched.plans:
        for node in nodes(plan):
            looked_at = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
            if node.get("Relation Name") in _BIG:
                assert looked_at * node["Actual Loops"] <= rows, node


@pytest.fixture(scope="module")
async def seeded(postgres: str, template: str) -> AsyncIterator[tuple[str, list[UUID], UUID]]:
    """A database with rows, its workspaces, and a peer with few messages to the first one."""
    name = f"plans_{new_id().hex[:12]}"
    await execute(postgres, f"CREATE DATABASE {name} TEMPLATE {template}")
    url = with_database(postgres, name)
    pool = await connect_pool(url, min_size=1, max_size=1)
    agents = await hire(pool, 200)
    rare, often = await hire(pool, 2)
    await pool.execute(_SEED, agents, rare, often)
    await pool.execute(_ITEMS, agents)
    await pool.execute(_HEADS, agents)
    await pool.execute(_DELEGATIONS, agents, ORGANIZATION)
    await pool.execute(_EVENTS, agents, ORGANIZATION)
    await pool.execute(_SIBLINGS, await add_organization(pool))
    await pool.execute("ANALYZE")
    await pool.close()
    yield url, agents, rare
    await execute(postgres, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def watched(seeded: tuple[str, list[UUID], UUID]) -> AsyncIterator[Watched]:
    connection = await asyncpg.connect(seeded[0], server_settings={"jit": "off"})
    yield Watched(connection)
    await connection.close()


@pytest.fixture
def busy(seeded: tuple[str, list[UUID], UUID]) -> UUID:
    """The workspace with a fifth of all rows."""
    return seeded[1][0]


@pytest.fixture
def rare(seeded: tuple[str, list[UUID], UUID]) -> UUID:
    """The peer of a few of them."""
    return seeded[2]


# The inbox.


async def test_read_of_many_inboxes(watched: Watched, seeded: tuple[str, list[UUID], UUID]) -> None:
    wants = [reads.InboxQuery(workspace_id, 0, 16) for workspace_id in seeded[1][:50]]
    await reads.read(watched, wants)  # type: ignore[arg-type]
    require_bound(watched, rows=50 * 2 * 40)


async def test_read_of_an_inbox_that_is_up_to_date(watched: Watched, busy: UUID) -> None:
    await reads.read(watched, [reads.InboxQuery(busy, 9_999, 64)])  # type: ignore[arg-type]
    require_bound(watched, rows=200)


async def test_read_skips_what_is_done_by_the_mark(watched: Watched, busy: UUID) -> None:
    """A reader from the start does not walk over 9,000 done items."""
    await reads.read(watched, [reads.InboxQuery(busy, 0, 16)])  # type: ignore[arg-type]
    require_bound(watched, rows=400)


async def test_ack(watched: Watched, seeded: tuple[str, list[UUID], UUID]) -> None:
    marks = [acks.Ack(w, 230, (240, 241), None) for w in seeded[1][1:30]]
    await acks.ack(watched, marks)  # type: ignore[arg-type]
    require_bound(watched)


async def test_hand_back_of_a_window(watched: Watched, busy: UUID) -> None:
    await leases.take(
        watched,  # type: ignore[arg-type]
        busy,
        "one",
        seconds=30,
        window=16,
        after=0,
        takeover=False,
        resumes_epoch=None,
    )
    await acks.nack(watched, busy, 9_010, delay=0, reason="", epoch=None)  # type: ignore[arg-type]
    require_bound(watched, rows=300)


async def test_safety_check_and_renewal(
    watched: Watched, seeded: tuple[str, list[UUID], UUID]
) -> None:
    await reads.positions(watched, seeded[1])  # type: ignore[arg-type]
    await leases.renew(watched, [(w, 0) for w in seeded[1]], seconds=30)  # type: ignore[arg-type]
    require_bound(watched)


async def test_items_by_their_activity_rows(watched: Watched, busy: UUID) -> None:
    ids = await watched._connection.fetch(
        "SELECT activity_id FROM inbox_items WHERE workspace_id = $1 LIMIT 100", busy
    )
    await reads.seqs_of(watched, busy, [row["activity_id"] for row in ids])  # type: ignore[arg-type]
    require_bound(watched, rows=200)


async def test_retention_finds_what_is_old(watched: Watched) -> None:
    """When nothing is due, a row of each inbox and each record is read."""
    start = UUID(int=0)
    for look in (
        retention.look(watched, after=start, done_days=7, unread_days=30, limit=1000),  # type: ignore[arg-type]
        record_retention.look(watched, after=start, days=7, limit=1000),  # type: ignore[arg-type]
        ledger_retention.prune(watched, days=90, limit=2000),  # type: ignore[arg-type]
    ):
        await look
    require_bound(watched, rows=202)


async def test_retention_takes_a_batch_of_the_oldest(watched: Watched, busy: UUID) -> None:
    """However much is due, a step looks at its batch, and at no young row."""
    async with watched._transaction():
        await record_retention.prune(watched, busy, days=0, limit=300)  # type: ignore[arg-type]
        await retention.prune(
            watched,  # type: ignore[arg-type]
            busy,
            done_days=0,
            unread_days=0,
            limit=300,
        )
        await ledger_retention.prune(watched, days=0, limit=300)  # type: ignore[arg-type]
    require_bound(watched, rows=320)


@pytest.mark.parametrize("organization_id", [None, ORGANIZATION])
@pytest.mark.parametrize("wanted", ["in_flight", "stuck", "failed", "completed"])
async def test_operators_lists_and_counts(
    watched: Watched, wanted: str, organization_id: UUID | None
) -> None:
    """A rare status costs its rows, and a count the delegations under way."""
    await overview.list_entries(watched, wanted, organization_id, limit=100)  # type: ignore[arg-type]
    require_bound(watched, rows=100)
    await tallies.count_by_status(watched, organization_id)  # type: ignore[arg-type]
    require_bound(watched, rows=1000)


# The tree.


@pytest.fixture
async def crowded(watched: Watched) -> tuple[UUID, UUID]:
    """A workspace with ten thousand siblings, and the organisation."""
    row = await watched._connection.fetchrow(
        "SELECT id, organization_id FROM workspaces WHERE name = 'agent 5000'"
    )
    assert row is not None
    return row["id"], row["organization_id"]


@pytest.mark.parametrize("after", [None, ("agent 5", UUID(int=0))])
async def test_a_page_of_peers_reads_its_rows(
    watched: Watched, crowded: tuple[UUID, UUID], after: tuple[str, UUID] | None
) -> None:
    page = await tree.peers(watched, crowded[0], "", after=after, limit=100)  # type: ignore[arg-type]
    assert len(page.rows) == 100
    require_bound(watched, rows=102)


@pytest.mark.parametrize("of_all", [True, False])
async def test_a_page_of_workspaces_reads_its_rows(
    watched: Watched, crowded: tuple[UUID, UUID], of_all: bool
) -> None:
    after = await watched._connection.fetchval("SELECT now() - interval '5000 s'"), UUID(int=0)
    organization_id = None if of_all else crowded[1]
    page = await workspaces.list_live(
        watched,  # type: ignore[arg-type]
        organization_id,
        after=after,
        limit=100,
    )
    assert len(page.rows) == 100
    require_bound(watched, rows=102)


# Events.


@pytest.mark.parametrize("of_workspace", [True, False])
async def test_a_page_of_events_reads_its_rows(
    watched: Watched, seeded: tuple[str, list[UUID], UUID], of_workspace: bool
) -> None:
    """Of one workspace or of an organisation, also far from the newest event."""
    quiet = seeded[1][7]
    row = await watched._connection.fetchrow(
        "SELECT xact::text::bigint, position FROM structure_events ORDER BY position OFFSET 10100"
    )
    assert row is not None
    scope = Scope(ORGANIZATION, quiet if of_workspace else None, ())
    for before in (None, Position(*row)):
        page = await event_store.newest(watched, scope, before=before, limit=30)  # type: ignore[arg-type]
        assert len(page.rows) == 30
    require_bound(watched, rows=32)


# The record.


@pytest.mark.parametrize(
    "chosen",
    [
        queries.ActivityFilter(),
        queries.ActivityFilter(type="a2a_receive"),
        queries.ActivityFilter(type="a2a_receive", source="agent"),
        queries.ActivityFilter(source="agent"),
        queries.ActivityFilter(type="agent_log", source="canvas"),
    ],
    ids=str,
)
async def test_newest_rows(watched: Watched, busy: UUID, chosen: queries.ActivityFilter) -> None:
    await queries.list_rows(watched, busy, chosen, limit=100)  # type: ignore[arg-type]
    require_bound(watched)


async def test_window_of_the_last_seconds(watched: Watched, busy: UUID) -> None:
    since = await watched._connection.fetchval("SELECT now() - interval '30 s'")
    chosen = queries.ActivityFilter(type="a2a_receive", since=since)
    await queries.list_rows(watched, busy, chosen, limit=100)  # type: ignore[arg-type]
    require_bound(watched, rows=300)


@pytest.mark.parametrize(("type_", "bound"), [("a2a_receive", 60), (None, 1500)])
async def test_rows_after_a_cursor(
    watched: Watched, busy: UUID, type_: str | None, bound: int
) -> None:
    """In a busy workspace, too, only rows since the cursor are read; an hour more without type."""
    start = await watched._connection.fetchval(
        "SELECT id FROM activity_logs WHERE workspace_id = $1 AND record_seq = 99000", busy
    )
    position = await queries.cursor(watched, busy, start)  # type: ignore[arg-type]
    assert position is not None
    await queries.list_rows_after(
        watched,  # type: ignore[arg-type]
        busy,
        queries.ActivityFilter(type=type_),
        cursor=position,
        limit=100,
    )
    require_bound(watched, rows=bound)


async def test_history_with_a_rare_peer_joins_both_indexes(
    watched: Watched, busy: UUID, rare: UUID
) -> None:
    """D44: cost grows with what they said to each other, not with the record."""
    chosen = queries.ActivityFilter(type="a2a_receive", peer_id=rare)
    await queries.list_rows(watched, busy, chosen, limit=500)  # type: ignore[arg-type]
    (plan,) = watched.plans
    assert "BitmapOr" in {node["Node Type"] for node in nodes(plan)}
    assert indexes(plan) >= {"idx_activity_ws_source", "idx_activity_ws_target"}
    require_bound(watched)


async def test_append_finds_what_it_knows(watched: Watched, busy: UUID) -> None:
    entries = [activity.EntryDraft(message(busy)) for _ in range(100)]
    await activity.append(watched, entries, max_items=10**9, max_bytes=10**12)  # type: ignore[arg-type]
    require_bound(watched)


# The ledger.


@pytest.mark.parametrize("direction", ["sent", "received", None])
@pytest.mark.parametrize("status", ["completed", None])
async def test_page_of_delegations(
    watched: Watched, busy: UUID, direction: str | None, status: str | None
) -> None:
    page = ledger_views.DelegationQuery(limit=50, direction=direction, status=status)
    await ledger_views.list_rows(watched, busy, page)  # type: ignore[arg-type]
    require_bound(watched)


async def test_one_delegation(watched: Watched, busy: UUID) -> None:
    await ledger_views.get(watched, busy, "d7")  # type: ignore[arg-type]
    require_bound(watched, rows=5)


async def test_move_and_accept(
    watched: Watched, seeded: tuple[str, list[UUID], UUID], database_url: str, pool: Pool
) -> None:
    async with slice_of(database_url, pool) as slice_:
        parties = seeded[1]
        moves = [_move(slice_, f"d{n}", parties[n % len(parties)]) for n in range(100, 10_001, 100)]
    await ledger_moves.move(watched, moves)  # type: ignore[arg-type]
    drafts = [draft(seeded[1][n], seeded[1][n + 1]) for n in range(100)]
    limits = Limits(10**9, 10**12)
    await accepts.accept(watched, drafts, limits)  # type: ignore[arg-type]
    drafts = [draft(seeded[1][n], seeded[1][n + 1]) for n in range(100)]
    await accepts.accept_with_room(watched, drafts, limits)  # type: ignore[arg-type]
    require_bound(watched)


async def test_taken_key_is_found(watched: Watched, busy: UUID) -> None:
    taken = draft(busy, busy, idempotency_key="200", delegation_id="d200")
    await ledger_views.id_holder(watched, taken)  # type: ignore[arg-type]
    await ledger_views.key_holder(watched, taken)  # type: ignore[arg-type]
    require_bound(watched, rows=5)


async def test_sweep_looks_at_live_rows_only(watched: Watched) -> None:
    beat_before = await watched._connection.fetchval("SELECT now() - interval '600 s'")
    await ledger_views.lapsed(watched, beat_before=beat_before, limit=500)  # type: ignore[arg-type]
    (plan,) = watched.plans
    assert any(re.match("idx_delegations_inflight", name) for name in indexes(plan))
    require_bound(watched)


def _move(slice_: Slice, name: str, party_id: UUID) -> ledger_moves.Move:
    return draft_move(name, party_id, Status.COMPLETED, text="x")


# The writers plan each statement once, as a rule on a new database.

# What a scan of a growing table must name, else it walks all rows of a workspace or organisation.
_NAMED = {
    "delegations": "delegation_id =",
    "inbox_items": "seq|message_id|not_before",
    "activity_logs": r"\(id =",
}


@pytest.mark.parametrize(
    "statement",
    [
        activity.APPEND_ENTRIES,
        accepts.ACCEPT,
        accepts.ACCEPT_WITH_ROOM,
        ledger_moves.MOVE,
        reads.READ,
        acks.ACK,
        beats.HEARTBEAT,
        beats._TOUCH,
        tree.PAIRS,
    ],
    ids=["append", "accept", "room", "move", "read", "ack", "beat", "touch", "pairs"],
)
async def test_a_plan_made_on_small_tables_still_serves_large_ones(
    database_url: str, pool: Pool, statement: str
) -> None:
    await hire(pool, 3)
    await pool.execute("ANALYZE workspaces")
    writer = Writer(database_url)
    # Not EXPLAIN (GENERIC_PLAN): the driver would bind its parameters, and Postgres fold them.
    await writer.fetch(f"PREPARE prepared AS {statement}")
    parameters = max(int(number) for number in re.findall(r"\$(\d+)", statement))
    nothing = ", ".join(["NULL"] * parameters)
    rows = await writer.fetch(f"EXPLAIN (FORMAT JSON) EXECUTE prepared ({nothing})")
    await writer.close()
    for node in nodes(json.loads(rows[0][0])[0]["Plan"]):
        # Workspaces come at the pace of people: autovacuum analyses their table in time, which
        # makes Postgres plan anew.
        if node["Node Type"] != "ModifyTable" and node.get("Relation Name", "workspaces") != (
            "workspaces"
        ):
            # A bitmap of an index has the condition beside the heap.
            assert {"Index Cond", "Recheck Cond"} & node.keys(), node
        if "Index Cond" in node:
            named = _NAMED.get(node.get("Relation Name", ""), "")
            assert re.search(named, node["Index Cond"]), node
