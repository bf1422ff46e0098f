"""The SQL of workspace rows: create, read, update, remove."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID

import asyncpg

from molecule_grpc.db.month_spend import MONTH_SPEND
from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.events.names import EventType
from molecule_grpc.host_list import HostList
from molecule_grpc.kernel.errors import AlreadyExists
from molecule_grpc.kernel.page import MAX_PAGE_BYTES, Page
from molecule_grpc.quotas import UNLIMITED, Quota
from molecule_grpc.workspace.status import EVENTS, REMOVED
from molecule_grpc.workspace.store.moves import (
    KEEP_EVENTS,
    ToldChange,
    event_column,
    move_statement,
    new_value,
)
from molecule_grpc.workspace.store.rows import Change, Held, Place, WorkspaceDraft, WorkspaceRow

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)

_CANVAS = {"x": "0", "y": "0", "collapsed": "false"}
_MADE = {name: f"coalesce(c.{name}, {absent})" for name, absent in _CANVAS.items()} | {
    "monthly_spend": MONTH_SPEND
}
_COLUMNS = ", ".join(
    f"{_MADE[name]} AS {name}" if name in _MADE else f"w.{name}" for name in WorkspaceRow._fields
)
_ROW = f"""
    SELECT {_COLUMNS}
    FROM workspaces w LEFT JOIN canvas_layouts c ON c.workspace_id = w.id
"""

_GET = f"{_ROW} WHERE w.id = $1 AND ($2::uuid IS NULL OR w.organization_id = $2)"

# About what a row takes in an answer: the texts that may be long, and room for the others. A role
# has up to 16 KiB, an error and a task up to 8 KiB each.
ROW_BYTES = "2000 + " + " + ".join(
    f"coalesce(octet_length(w.{text}), 0)"
    for text in ("agent_card::text", "role", "last_sample_error", "current_task")
)


def _list_statement(organization: str) -> str:
    """Rows behind a place. Those behind the bytes are left out before their cards are sent."""
    return f"""
        WITH found AS (
            SELECT w.* FROM workspaces w
            WHERE w.status <> 'removed' {organization} AND (w.created_at, w.id) > ($1, $2)
            ORDER BY w.created_at, w.id LIMIT $3
        ), measured AS (
            SELECT w.*, row_number() OVER through AS number, count(*) OVER () AS found,
                   sum({ROW_BYTES}) OVER through AS bytes_so_far
            FROM found w
            WINDOW through AS (ORDER BY w.created_at, w.id ROWS UNBOUNDED PRECEDING)
        )
        SELECT {_COLUMNS}, w.found
        FROM measured w LEFT JOIN canvas_layouts c ON c.workspace_id = w.id
        WHERE w.number = 1 OR w.bytes_so_far <= $4
        ORDER BY w.created_at, w.id
    """


# Two statements, so that each walks an index of its own in the list's order.
_LIST_ALL = _list_statement("")
_LIST_OF_ORGANIZATION = _list_statement("AND w.organization_id = $5")

_INSERT = f"""
    WITH moved AS (
        INSERT INTO workspaces (id, organization_id, parent_id, name, role, tier, status, runtime,
                                url, delivery_mode, max_concurrent_tasks, budget_limit,
                                last_sample_error, platform_inbound_secret,
                                provisioning_started_at, hibernation_idle_minutes, template, model,
                                workspace_dir, workspace_access, egress)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14,
                CASE WHEN $7::workspace_status = 'provisioning' THEN now() END, $16,
                nullif($17, ''), nullif($18, ''), nullif($19, ''), $20, $21)
        ON CONFLICT (id) DO NOTHING
        RETURNING {event_column(ToldChange("true", "$15::text"))}
    ), kept AS ({KEEP_EVENTS})
    SELECT workspace_id FROM moved
"""

_UPDATE = f"""
    WITH moved AS (
        UPDATE workspaces SET
            name = coalesce($2, name),
            role = CASE WHEN $3 THEN $4 ELSE role END,
            tier = coalesce($5, tier),
            runtime = coalesce($6, runtime),
            parent_id = CASE WHEN $7 THEN $8 ELSE parent_id END,
            workspace_dir = CASE WHEN $9 THEN $10 ELSE workspace_dir END,
            hibernation_idle_minutes = CASE WHEN $12 THEN $13 ELSE hibernation_idle_minutes END,
            egress = CASE WHEN $14 THEN $15 ELSE egress END,
            updated_at = now()
        WHERE id = $1 AND status <> 'removed'
        RETURNING {event_column(new_value("parent_id", "$11"))}
    ), kept AS ({KEEP_EVENTS})
    SELECT workspace_id FROM moved
"""

_FIND_CHILD = """
    SELECT id, status FROM workspaces
    WHERE organization_id = $1 AND parent_id IS NOT DISTINCT FROM $2 AND name = $3
      AND status <> 'removed'
"""

_REMOVE = move_statement(REMOVED, also=", url = '', active_tasks = 0, current_task = ''")


async def get(
    pool: Pool | Connection, workspace_id: UUID, organization_id: UUID | None
) -> WorkspaceRow | None:
    """A workspace, removed or not; of this organisation only unless that is None."""
    row = await pool.fetchrow(_GET, workspace_id, organization_id)
    return WorkspaceRow(*row) if row else None


async def list_live(
    pool: Pool,
    organization_id: UUID | None,
    *,
    after: tuple[datetime, UUID] | None,
    limit: int,
    max_bytes: int = MAX_PAGE_BYTES,
) -> Page[WorkspaceRow]:
    """Live workspaces behind a place, oldest first, in a page of about `max_bytes`.

    Args:
        organization_id: only of this organisation; None for all.
        after: time of creation and id of a workspace.
    """
    start = after or (_BEGINNING, UUID(int=0))
    given: list[object] = [*start, limit + 1, max_bytes]
    if organization_id is None:
        rows = await pool.fetch(_LIST_ALL, *given)
    else:
        rows = await pool.fetch(_LIST_OF_ORGANIZATION, *given, organization_id)
    listed = [WorkspaceRow(*list(row)[:-1]) for row in rows[:limit]]
    return Page(listed, more=bool(rows) and rows[0]["found"] > len(listed))


async def find_child(
    pool: Pool, organization_id: UUID, parent_id: UUID | None, name: str
) -> tuple[UUID, str] | None:
    """Id and status of the live workspace of that name below a parent, or among the roots."""
    row = await pool.fetchrow(_FIND_CHILD, organization_id, parent_id, name)
    return None if row is None else (row["id"], row["status"])


async def insert(conn: Connection, draft: WorkspaceDraft) -> bool:
    """Store a new workspace. False when the id is taken.

    Raises:
        AlreadyExists: WORKSPACE_NAME_TAKEN: a live sibling has the name.
    """
    with _name_taken(draft.name):
        found = await conn.fetchval(
            _INSERT,
            draft.id,
            draft.organization_id,
            draft.parent_id,
            draft.name,
            draft.role or None,
            draft.tier,
            draft.status,
            draft.runtime,
            draft.url,
            draft.delivery_mode,
            draft.max_concurrent_tasks,
            draft.budget_limit,
            draft.last_sample_error,
            draft.inbound_secret,
            EVENTS[draft.status],
            draft.hibernation_idle_minutes,
            draft.template,
            draft.model,
            draft.workspace_dir,
            draft.workspace_access,
            draft.egress.as_stored,
        )
    return found is not None


async def update(conn: Connection, workspace_id: UUID, change: Change) -> bool:
    """Change a live workspace. False when there is none.

    Raises:
        AlreadyExists: WORKSPACE_NAME_TAKEN: a live sibling has the name.
    """
    with _name_taken(change.name):
        found = await conn.fetchval(
            _UPDATE,
            workspace_id,
            change.name,
            "role" in change.given,
            change.role or None,
            change.tier,
            change.runtime,
            "parent_id" in change.given,
            change.parent_id,
            "workspace_dir" in change.given,
            change.workspace_dir,
            EventType.WORKSPACE_MOVED,
            "hibernation_idle_minutes" in change.given,
            change.hibernation_idle_minutes,
            "egress" in change.given,
            change.egress.as_stored,
        )
    return found is not None


async def place(conn: Connection, workspace_id: UUID, where: Place) -> None:
    """Write what is given of a workspace's place on the canvas."""
    await conn.execute(
        """
        INSERT INTO canvas_layouts AS c (workspace_id, x, y, collapsed)
        VALUES ($1, coalesce($2::float8, 0), coalesce($3::float8, 0), coalesce($4, false))
        ON CONFLICT (workspace_id) DO UPDATE SET
            x = coalesce($2, c.x), y = coalesce($3, c.y), collapsed = coalesce($4, c.collapsed)
        """,
        workspace_id,
        where.x,
        where.y,
        where.collapsed,
    )


async def organization_of(conn: Connection, workspace_id: UUID) -> UUID | None:
    """The organisation that owns a workspace, which never changes."""
    found: UUID | None = await conn.fetchval(
        "SELECT organization_id FROM workspaces WHERE id = $1", workspace_id
    )
    return found


async def lock_live(conn: Connection, workspace_id: UUID, within: UUID | None) -> Held | None:
    """Lock a workspace until the transaction ends; None when it is removed or missing.

    Args:
        within: the only organisation that the workspace may be of; None for any. Whoever was
            admitted by what a worker remembers learns here that the id has changed hands.
    """
    row = await conn.fetchrow(
        """
        SELECT id, organization_id, runtime, workspace_dir, egress FROM workspaces
        WHERE id = $1 AND status <> 'removed' AND ($2::uuid IS NULL OR organization_id = $2)
        FOR NO KEY UPDATE
        """,
        workspace_id,
        within,
    )
    if row is None:
        return None
    organization_id, runtime, directory = row[1:4]
    return Held(row[0], organization_id, runtime, directory, HostList.stored(row["egress"]))


async def status_of(pool: Pool, workspace_id: UUID) -> str | None:
    """A workspace's status, `removed` included; None when there is no row."""
    found: str | None = await pool.fetchval(
        "SELECT status FROM workspaces WHERE id = $1", workspace_id
    )
    return found


async def organization_exists(conn: Connection | Pool, organization_id: UUID) -> bool:
    """Whether there is such an organisation."""
    found: bool = await conn.fetchval(
        "SELECT EXISTS (SELECT FROM organizations WHERE id = $1)", organization_id
    )
    return found


async def require_quota(conn: Connection, organization_id: UUID, quota: Quota) -> None:
    """Raise unless an organisation may have one more live workspace.

    Others that add a workspace to it wait until the transaction ends. Nothing where the
    organisation is unknown.

    Raises:
        Exhausted: QUOTA_EXCEEDED.
    """
    if not quota.limit:
        return
    # Lock in a statement before the count: the count sees rows committed while the lock waited.
    await conn.execute("SELECT FROM organizations WHERE id = $1 FOR NO KEY UPDATE", organization_id)
    if quota.exceeded(await count_live(conn, organization_id, most=quota.limit)):
        raise quota.refusal(organization_id)


async def count_live(
    conn: Connection | Pool, organization_id: UUID, *, most: int = UNLIMITED
) -> int:
    """How many live workspaces an organisation has, counted up to `most` of them."""
    found: int = await conn.fetchval(
        """
        SELECT count(*) FROM (
            SELECT FROM workspaces WHERE organization_id = $1 AND status <> 'removed' LIMIT $2
        ) live
        """,
        organization_id,
        most,
    )
    return found


async def mark_removed(conn: Connection, workspace_ids: list[UUID]) -> None:
    """Make tombstones, in id order like every other statement that changes many."""
    await conn.execute(_REMOVE, workspace_ids, EVENTS[REMOVED.target])
    await conn.execute("DELETE FROM canvas_layouts WHERE workspace_id = ANY($1)", workspace_ids)


async def purge(conn: Connection, workspace_ids: list[UUID]) -> None:
    """Delete whole families of tombstones, and what hangs on them by foreign key."""
    await conn.execute("DELETE FROM workspaces WHERE id = ANY($1)", workspace_ids)


@contextlib.contextmanager
def _name_taken(name: str | None) -> Iterator[None]:
    try:
        yield
    except asyncpg.UniqueViolationError as error:
        if error.constraint_name != "workspaces_live_name":
            raise
        raise AlreadyExists(
            "another workspace of the same parent has this name",
            reason="WORKSPACE_NAME_TAKEN",
            metadata={"name": name} if name else None,
        ) from error
