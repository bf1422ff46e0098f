"""The SQL that lists delegations for operators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Pool
from molecule_grpc.delegation.ledger.rules import LIVE, Status


class LedgerEntry(NamedTuple):
    """A delegation as operators see it. The names of the fields are those of the columns."""

    delegation_id: str
    caller_id: UUID
    callee_id: UUID
    task_preview: str
    status: str
    last_heartbeat: datetime | None
    deadline: datetime
    result_preview: str | None
    error_detail: str | None
    retry_count: int
    created_at: datetime
    updated_at: datetime
    failure_reason: str | None


_FILTERS: Final[Mapping[str, Sequence[Status]]] = {
    "in_flight": sorted(LIVE),
    "stuck": [Status.STUCK],
    "failed": [Status.FAILED],
    "completed": [Status.COMPLETED],
}

# Each status is a range of its own in an index that is in the list's order: the newest of each are
# read, and no row of another status.
_COLUMNS = ", ".join(LedgerEntry._fields)
_OF_STATUS = f"""
    (SELECT {_COLUMNS} FROM delegations WHERE status = '{{status}}' {{clauses}}
     ORDER BY created_at DESC, delegation_id DESC LIMIT $1)
"""


async def list_entries(
    pool: Pool,
    wanted: str,
    organization_id: UUID | None,
    *,
    before: tuple[datetime, str] | None = None,
    limit: int,
) -> list[LedgerEntry]:
    """Delegations under a filter, newest first; of one organisation, or of all.

    Args:
        wanted: `in_flight`, `stuck`, `failed` or `completed`.
        before: only delegations behind this time of acceptance and id.
    """
    values: list[object] = [limit]
    clauses = ""
    if organization_id is not None:
        values.append(organization_id)
        clauses += f" AND organization_id = ${len(values)}"
    if before is not None:
        values += before
        clauses += f" AND (created_at, delegation_id) < (${len(values) - 1}, ${len(values)})"
    each = [_OF_STATUS.format(status=status, clauses=clauses) for status in _FILTERS[wanted]]
    rows = await pool.fetch(
        f"""
        SELECT * FROM ({" UNION ALL ".join(each)}) d
        ORDER BY created_at DESC, delegation_id DESC LIMIT $1
        """,
        *values,
    )
    return [LedgerEntry(*row) for row in rows]
