"""Who is there, and who may talk to whom."""

from __future__ import annotations

from uuid import UUID

import asyncpg

from molecule_grpc.db.pool import Pool, database_errors
from molecule_grpc.directory import WorkspaceInfo
from molecule_grpc.kernel.errors import Denied
from molecule_grpc.workspace import rules
from molecule_grpc.workspace.refusals import missing
from molecule_grpc.workspace.store import tree


class Directory:
    """Answers from the rows as they are now; nothing is remembered.

    Every method raises `Unavailable` when the database cannot say: not knowing is never a no.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def lookup(self, workspace_id: UUID) -> WorkspaceInfo | None:
        """A workspace that is not removed; None when there is none."""
        with database_errors():
            row = await tree.one(self._pool, workspace_id)
        return None if row is None or row["status"] == "removed" else _facts(row)

    async def can_communicate(self, a: UUID, b: UUID) -> bool:
        """Whether two workspaces may message one another. Symmetric.

        They are the same, siblings, or one is above the other at any depth, in one organisation,
        and neither is removed.
        """
        with database_errors():
            row = await tree.pair(self._pool, a, b)
        return row is not None and _both_live(row) and bool(row["related"])

    async def is_related(self, a: UUID, b: UUID) -> bool:
        """Like `can_communicate`, for looking only: tombstones count as what they were."""
        with database_errors():
            row = await tree.pair(self._pool, a, b)
        return row is not None and bool(row["related"])

    async def require_reachable(self, source: UUID, target: UUID) -> WorkspaceInfo:
        """The target, if the source may message it.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND: either is unknown or removed, or the target is of
                another organisation.
            Denied: NOT_RELATED.
        """
        with database_errors():
            row = await tree.pair(self._pool, source, target)
        if row is None or not row["visible"] or not _both_live(row):
            raise missing()
        if not row["related"]:
            raise Denied(
                "access denied: workspaces cannot communicate per hierarchy rules",
                reason="NOT_RELATED",
            )
        return _facts(row)


def _both_live(row: asyncpg.Record) -> bool:
    return row["status"] != "removed" and row["source_status"] not in (None, "removed")


def _facts(row: asyncpg.Record) -> WorkspaceInfo:
    return WorkspaceInfo(
        id=row["id"],
        organization_id=row["organization_id"],
        name=row["name"],
        role=row["role"],
        status=row["status"],
        url=row["url"],
        delivery_mode=rules.effective_mode("", row["delivery_mode"], row["runtime"]),
        runtime=row["runtime"],
        idle_timeout=row["idle_timeout_seconds"] or None,
    )
