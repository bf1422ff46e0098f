"""What operators decide: rights beside those of the tree, hidden authors, namespaces as a whole."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final, TypeAlias
from uuid import UUID

from molecule_grpc.db import tree_lock
from molecule_grpc.db.pool import Pool, database_errors
from molecule_grpc.kernel.errors import Exhausted, Invalid, NotFound, Unavailable
from molecule_grpc.kernel.ids import as_id
from molecule_grpc.kernel.text import clean
from molecule_grpc.memory import drafting
from molecule_grpc.memory.namespaces import workspace_missing
from molecule_grpc.memory.store import grants as store
from molecule_grpc.memory.store import places
from molecule_grpc.memory.store.grants import Grant, Quarantine
from molecule_grpc.memory.store.namespaces import MAX_GRANTS
from molecule_grpc.memory.store.places import Stats
from molecule_grpc.memory.values import NamespaceKind

MAX_LISTED: Final = 1_000
# Most memories moved or deleted in a transaction.
_BATCH = 500
_MAX_REASON_BYTES = 1_024


Listed: TypeAlias = list[Quarantine]


class Grants:
    """Decisions of operators. Each holds from the next call of anybody on.

    Args:
        default_organization: of calls that name none.
        tell_sweeper: there is something to delete. Must be quick.
    """

    def __init__(
        self, pool: Pool, default_organization: UUID, *, tell_sweeper: Callable[[], None]
    ) -> None:
        self._pool = pool
        self._default = default_organization
        self._tell_sweeper = tell_sweeper

    async def set(
        self,
        organization_id: UUID | None,
        namespace: str,
        workspace_id: UUID,
        *,
        can_write: bool,
        granted_by: str,
    ) -> Grant:
        """Let a workspace read a namespace of its organisation, and write it if `can_write`.

        Args:
            organization_id: the only one whose workspaces count; None for any.

        Raises:
            Invalid: the name is none of a namespace.
            NotFound: WORKSPACE_NOT_FOUND.
            Exhausted: QUOTA_EXCEEDED: the workspace has 100 grants.
        """
        name = _name(namespace)
        with database_errors():
            async with self._pool.acquire() as conn, conn.transaction():
                home = await tree_lock.hold_of(conn, workspace_id)
                if home is None or organization_id not in (None, home):
                    raise workspace_missing()
                if await store.grants_left(conn, workspace_id, name) < 1:
                    raise Exhausted(
                        f"too many grants: a workspace may have {MAX_GRANTS}",
                        reason="QUOTA_EXCEEDED",
                        metadata={"quota": "grants", "limit": str(MAX_GRANTS), "of": "workspace"},
                    )
                grant = await store.set_grant(
                    conn, workspace_id, name, can_write=can_write, granted_by=granted_by
                )
        if grant is None:
            raise workspace_missing()
        return grant

    async def list(
        self,
        organization_id: UUID | None,
        namespace: str = "",
        workspace_id: UUID | None = None,
        *,
        after: tuple[str, UUID] | None = None,
        limit: int = MAX_LISTED,
    ) -> list[Grant]:
        """Grants behind a place, by namespace and workspace.

        Args:
            organization_id: whose; None for those of all.
            namespace: only of this one; empty for all.
            workspace_id: only of this one; None for all.
            limit: most grants, at most 1,001.
        """
        with database_errors():
            return await store.list_grants(
                self._pool,
                organization_id,
                clean(namespace),
                workspace_id,
                after=after,
                limit=min(limit, MAX_LISTED + 1),
            )

    async def delete(
        self, organization_id: UUID | None, namespace: str, workspace_id: UUID
    ) -> None:
        """Take a grant back; when this returns, nobody writes by it any more.

        Args:
            organization_id: the only one whose workspaces count; None for any.
        """
        with database_errors():
            async with self._pool.acquire() as conn, conn.transaction():
                home = await tree_lock.hold_of(conn, workspace_id)
                if home is not None and organization_id in (None, home):
                    await store.delete_grant(conn, workspace_id, clean(namespace))

    async def quarantine(
        self, organization_id: UUID | None, author_id: UUID, reason: str, created_by: str
    ) -> Quarantine:
        """Hide everything that a workspace wrote, everywhere.

        Args:
            organization_id: the only one whose workspaces count; None for any.
            reason: at most 1,024 bytes.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND.
        """
        reason = clean(reason)
        if len(reason.encode()) > _MAX_REASON_BYTES:
            raise Invalid(f"reason must be at most {_MAX_REASON_BYTES} bytes", field="reason")
        with database_errors():
            row = await store.quarantine(self._pool, organization_id, author_id, reason, created_by)
        if row is None:
            raise workspace_missing()
        return row

    async def quarantines(
        self,
        organization_id: UUID | None,
        *,
        after: tuple[datetime, UUID] | None = None,
        limit: int = MAX_LISTED,
    ) -> Listed:
        """Whose texts are hidden, newest first, behind a place.

        Args:
            organization_id: whose; None for those of all.
            limit: most rows, at most 1,001.
        """
        with database_errors():
            return await store.list_quarantines(
                self._pool, organization_id, after=after, limit=min(limit, MAX_LISTED + 1)
            )

    async def release(self, organization_id: UUID | None, author_id: UUID) -> None:
        """Show a workspace's texts again.

        Args:
            organization_id: the only one whose authors count; None for any.
        """
        with database_errors():
            await store.release_author(self._pool, organization_id, author_id)

    async def move(self, organization_id: UUID | None, source: str, target: str) -> int:
        """Move all memories of a namespace into another one of the organisation; how many.

        In steps of 500: a failure leaves some moved, and a repeat moves the rest.

        Args:
            organization_id: None for the default one.
            target: of a workspace of the organisation, or custom. May hold memories.

        Raises:
            Invalid: a name is none of a namespace, or both are one.
            NotFound: NAMESPACE_NOT_FOUND: the source holds nothing, or the target's workspace is
                missing.
            Unavailable: the target has expired and is about to be deleted.
        """
        home = organization_id or self._default
        source, target = _name(source), _name(target)
        if source == target:
            raise Invalid("source and target are the same", field="target")
        moved = 0
        with database_errors():
            while True:
                step = await self._move(home, source, target)
                moved += step
                if step < _BATCH:
                    break
            await places.drop_namespace(self._pool, home, source)
        if not moved:
            raise _no_namespace()
        return moved

    async def _move(self, organization_id: UUID, source: str, target: str) -> int:
        async with self._pool.acquire() as conn, conn.transaction():
            # Exclusive lock: nobody else writes to a shared source. A workspace may still write to
            # its own namespace as the source, which then stays with the new memories.
            await tree_lock.lock(conn, organization_id, shared=False)
            kind, _, anchor = target.partition(":")
            if kind != NamespaceKind.CUSTOM:
                found = as_id(anchor)
                if found is None or not await places.has_anchor(conn, organization_id, found):
                    raise _no_namespace()
            if not await places.add_namespace(conn, organization_id, target):
                raise Unavailable("the target has expired and is about to be deleted, try again")
            return await places.move(conn, organization_id, source, target, limit=_BATCH)

    async def delete_namespace(self, organization_id: UUID | None, name: str) -> int:
        """Delete a namespace with its memories; returns how many memories.

        Nobody reads it from the first moment on; then memories are deleted in steps of 500. What a
        failure leaves over is deleted by the sweep of expired namespaces.

        Args:
            organization_id: None for the default one.

        Raises:
            NotFound: NAMESPACE_NOT_FOUND.
        """
        home = organization_id or self._default
        removed = 0
        with database_errors():
            if not await places.expire_namespace(self._pool, home, clean(name)):
                raise _no_namespace()
            self._tell_sweeper()
            while step := await places.empty(self._pool, home, clean(name), limit=_BATCH):
                removed += step
            await places.drop_namespace(self._pool, home, clean(name))
        return removed

    async def stats(self, organization_id: UUID | None) -> Stats:
        """What is stored.

        Args:
            organization_id: whose; None for all.
        """
        with database_errors():
            return await places.stats(self._pool, organization_id)


def _name(name: str) -> str:
    name = drafting.namespace(name)
    if name.partition(":")[0] not in set(NamespaceKind):
        kinds = ", ".join(NamespaceKind)
        raise Invalid(f"a namespace begins with one of {kinds}, and a colon", field="namespace")
    return name


def _no_namespace() -> NotFound:
    return NotFound("namespace not found", reason="NAMESPACE_NOT_FOUND")
