"""The SQL of sweeps over workloads: which workspaces look as if something has to be done."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.directory import Managed
from molecule_grpc.workspace.status import CRASHED, DIED, EVENTS, PROVISION_FAILED, Status
from molecule_grpc.workspace.store.moves import may, move_statement
from molecule_grpc.workspace.store.verbs import COLUMNS, IDLE, UNDER_PAUSED

_TOLD: Final = f"workspace_id AS id, {COLUMNS}"
_LONG_RUNTIME: Final = "hermes"


class ProvisionTimeouts(NamedTuple):
    """Seconds that a workspace may take from the beginning of its start until it registers.

    Args:
        everybody: for all; 0 for the row's own, and where it has none the two others.
        default: of most runtimes.
        hermes: of the runtime `hermes`.
    """

    everybody: int
    default: int
    hermes: int


_LIMIT: Final = f"""coalesce(
    nullif($1::int, 0), w.provision_timeout_seconds,
    CASE WHEN w.runtime = '{_LONG_RUNTIME}' THEN $3::int ELSE $2::int END)"""
_LATE: Final = f"""(
    w.status = '{Status.PROVISIONING}'
    AND coalesce(w.provisioning_started_at, w.updated_at) < now() - make_interval(secs => {_LIMIT})
)"""


def _listing(condition: str, place: str, *more: str) -> str:
    return f"""
        SELECT {", ".join(("id", COLUMNS, *more))} FROM workspaces w
        WHERE {condition} AND id > {place} ORDER BY id LIMIT
    """


_RUNNING = _listing(f"backend <> '' AND {may(DIED)} AND runtime <> 'external'", "$1") + "$2"
_RUNNING_IN = (
    _listing(
        f"""backend <> '' AND {may(DIED)} AND runtime <> 'external'
            AND organization_id = coalesce($3, organization_id)""",
        "$1",
    )
    + "$2"
)
_OFFLINE = (
    _listing(
        f"""backend <> '' AND status = '{DIED.target}' AND runtime <> 'external'
            AND NOT {UNDER_PAUSED}""",
        "$1",
    )
    + "$2"
)
_LATE_ROWS = _listing(_LATE, "$4", f"{_LIMIT} AS seconds") + "$5"
_SECONDS: Final = f"SELECT {_LIMIT} FROM workspaces w WHERE id = $4 AND status <> 'removed'"
_IDLE_ROWS = (
    _listing(
        f"{IDLE} AND status IN ('online', 'degraded') AND runtime <> 'external'",
        "$1",
        "greatest(w.last_active_at, w.last_outbound_at) AS last_active",
    )
    + "$2"
)
_STUCK = (
    _listing("status = 'hibernating' AND asleep_since < now() - make_interval(secs => $3)", "$1")
    + "$2"
)

_DIE: Final = move_statement(
    DIED,
    """, last_sample_error = $5, url = '', active_tasks = 0, current_task = '',
    delivery_mode = coalesce(w.delivery_mode, CASE WHEN w.url <> '' THEN w.mode_in_force END)""",
    only="(w.backend, w.resource_id) = ($3, $4)",
    told=_TOLD,
)
# With the reason of the last time, which the move to `offline` has stored.
_CRASH: Final = move_statement(
    CRASHED,
    """, last_sample_error =
        left($3 || coalesce('. The last time: ' || w.last_sample_error, ''), 4096)""",
    told=_TOLD,
)
_FAIL_LATE: Final = move_statement(
    PROVISION_FAILED,
    ", last_sample_error = $3",
    only="coalesce(w.provisioning_started_at, w.updated_at)"
    " < now() - make_interval(secs => $4::int)",
    told=_TOLD,
)


class Late(NamedTuple):
    """A workspace whose agent did not register within `seconds`."""

    workspace: Managed
    seconds: int


async def running(pool: Pool, *, after: UUID, limit: int) -> list[Managed]:
    """Workspaces whose workload should run now, behind an id."""
    return [Managed(*row) for row in await pool.fetch(_RUNNING, after, limit)]


async def running_in(pool: Pool, within: UUID | None, *, after: UUID, limit: int) -> list[Managed]:
    """The same within one organisation, or within none in particular."""
    rows = await pool.fetch(_RUNNING_IN, after, limit, within)
    return [Managed(*row) for row in rows]


async def offline(pool: Pool, *, after: UUID, limit: int) -> list[Managed]:
    """Workspaces that are offline and may be restarted, behind an id."""
    return [Managed(*row) for row in await pool.fetch(_OFFLINE, after, limit)]


async def late(pool: Pool, timeouts: ProvisionTimeouts, *, after: UUID, limit: int) -> list[Late]:
    """Workspaces that are being started for too long, behind an id."""
    rows = await pool.fetch(_LATE_ROWS, *timeouts, after, limit)
    return [Late(Managed(*list(row)[:-1]), row["seconds"]) for row in rows]


async def provision_seconds(
    conn: Connection, timeouts: ProvisionTimeouts, workspace_id: UUID
) -> int:
    """How long a workspace may take until it registers; 0 for a workspace that was removed."""
    return await conn.fetchval(_SECONDS, *timeouts, workspace_id) or 0


async def idle(pool: Pool, *, after: UUID, limit: int) -> list[tuple[Managed, datetime]]:
    """Workspaces that look idle for as long as they may be, and since when; behind an id."""
    rows = await pool.fetch(_IDLE_ROWS, after, limit)
    return [(Managed(*list(row)[:-1]), row["last_active"]) for row in rows]


async def stuck(pool: Pool, seconds: float, *, after: UUID, limit: int) -> list[Managed]:
    """Workspaces that are about to hibernate for so long already, behind an id."""
    return [Managed(*row) for row in await pool.fetch(_STUCK, after, limit, seconds)]


async def die(conn: Connection, workspace: Managed, reason: str) -> bool:
    """A workload ended. False where the workspace has another one by now, or another status."""
    given: Sequence[object] = (workspace.backend, workspace.resource_id, reason)
    rows = await conn.fetch(_DIE, [workspace.id], EVENTS[DIED.target], *given)
    return bool(rows)


async def crash(conn: Connection, workspace_id: UUID, reason: str) -> bool:
    """A workload ended too often. False where the workspace is not one that is started again."""
    rows = await conn.fetch(_CRASH, [workspace_id], EVENTS[CRASHED.target], reason)
    return bool(rows)


async def fail_late(conn: Connection, workspace_id: UUID, reason: str, seconds: int) -> bool:
    """A start has taken too long. False where the agent registered meanwhile."""
    event = EVENTS[PROVISION_FAILED.target]
    return bool(await conn.fetch(_FAIL_LATE, [workspace_id], event, reason, seconds))
