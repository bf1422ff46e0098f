"""Read, update and remove workspaces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, cast
from uuid import UUID

from molecule_grpc.auth import store as tokens
from molecule_grpc.auth.principal import Principal, Role
from molecule_grpc.db import tree_lock
from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.kernel.errors import Denied, Unauthenticated
from molecule_grpc.kernel.page import Page
from molecule_grpc.kernel.page_tokens import PageTokens
from molecule_grpc.workspace import drafts, rules
from molecule_grpc.workspace.refusals import missing, removed
from molecule_grpc.workspace.removing import mark_removed
from molecule_grpc.workspace.scope import scope
from molecule_grpc.workspace.status import Status
from molecule_grpc.workspace.store import workspaces
from molecule_grpc.workspace.store.rows import Change, Held, Place, WorkspaceRow
from molecule_grpc.workspace.subscriptions import Subscriptions
from molecule_grpc.workspace.tree import placement
from molecule_grpc.workspace.tree import store as tree
from molecule_grpc.workspace.tree.directory import Directory

MAX_LISTED = 1_000
_LISTING = "workspaces"


class Sight(NamedTuple):
    """A workspace, and how much of it the caller may see.

    Args:
        whole: everything; otherwise what a stranger or a peer may see.
    """

    row: WorkspaceRow
    whole: bool


@dataclass(frozen=True, slots=True)
class Removal:
    """What a removal did.

    Args:
        organization_id: whose the workspace was.
        descendants: how many workspaces went with it.
        unconfirmed: live children for whose sake nothing was removed: a confirmation is needed.
    """

    organization_id: UUID
    purged: bool = False
    descendants: int = 0
    unconfirmed: tuple[tree.Member, ...] = ()


class Lifecycle:
    """The use cases of a workspace's life.

    Args:
        public_view: whether strangers may read the public part of a workspace.
        subscriptions: told of removals.
        tell_readers: wakes the readers of the feed of events.
    """

    def __init__(
        self,
        pool: Pool,
        directory: Directory,
        subscriptions: Subscriptions,
        page_tokens: PageTokens,
        *,
        public_view: bool,
        tell_readers: Callable[[], None],
    ) -> None:
        self._pool = pool
        self._directory = directory
        self._subscriptions = subscriptions
        self._page_tokens = page_tokens
        self._public_view = public_view
        self._tell_readers = tell_readers

    async def list_live(
        self, principal: Principal, *, after: UUID | None, limit: int, page_token: str
    ) -> Page[WorkspaceRow]:
        """Live workspaces that the caller administers, oldest first, in a page of about 3 MiB.

        Args:
            after: only workspaces behind this one in the list.
            limit: most workspaces of the page; 0, and anything above 1000, means 1000.
            page_token: from the page before; empty for the first page.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND: there is no `after`.
            Invalid: the page token is not one of ours.
        """
        organization_id = scope(principal)
        parts = self._page_tokens.read(_LISTING, page_token, datetime, UUID)
        place = None if parts is None else cast("tuple[datetime, UUID]", tuple(parts))
        if place is None and after is not None:
            start = await workspaces.get(self._pool, after, organization_id)
            if start is None:
                raise missing()
            place = start.created_at, start.id
        return await workspaces.list_live(
            self._pool, organization_id, after=place, limit=min(limit or MAX_LISTED, MAX_LISTED)
        )

    def token_after(self, row: WorkspaceRow) -> str:
        """The token of the page of `list_live` that begins behind a row."""
        return self._page_tokens.make(_LISTING, row.created_at, row.id)

    async def get(
        self, principal: Principal, workspace_id: UUID, *, include_removed: bool
    ) -> Sight:
        """One workspace: whole for itself and its administrators, in part for others.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND, also where the caller may not see it; WORKSPACE_REMOVED.
            Unauthenticated: a stranger, where strangers see nothing.
        """
        whole = principal.administers or principal.workspace_id == workspace_id
        if not whole:
            await self._require_visible(principal, workspace_id)
        row = await workspaces.get(self._pool, workspace_id, scope(principal))
        if row is None:
            raise missing()
        if row.status == Status.REMOVED and not include_removed:
            raise removed(str(workspace_id), row.updated_at)
        return Sight(row, whole)

    async def status(self, principal: Principal, workspace_id: UUID) -> str:
        """The status of a live workspace, by which its agent decides whether to go on.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND with `deleted: true` in the body: the agent stops.
            Unauthenticated: the caller is not this workspace.
        """
        if principal.role is Role.ANONYMOUS and principal.revoked_workspace != workspace_id:
            raise Unauthenticated("missing workspace auth token")
        if principal.workspace_id not in (None, workspace_id):
            raise Unauthenticated("invalid workspace auth token")
        row = await workspaces.get(self._pool, workspace_id, scope(principal))
        if row is None or row.status == Status.REMOVED:
            # Always 404, never the 410 of a plain read: deployed agents stop on this one.
            told = {"status": row.status} if row else {}
            raise missing(workspace_id=str(workspace_id), deleted=True, **told)
        return row.status

    async def update(
        self, principal: Principal, workspace_id: UUID, change: Change, place: Place
    ) -> bool:
        """Change what is given, all or nothing. Whether the change needs a restart.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND.
            Invalid: a field breaks its rule; PARENT_INVALID.
            Denied: PERMISSION_DENIED: an agent would change what it may reach itself.
            Conflict: TREE_TOO_DEEP.
            AlreadyExists: WORKSPACE_NAME_TAKEN.
        """
        if "egress" in change.given and not principal.administers:
            raise Denied("only an administrator may change what a workspace may reach")
        change, place = drafts.check_change(change), drafts.check_new_place(place)
        moving = "parent_id" in change.given
        async with self._pool.acquire() as conn, conn.transaction():
            before = await placement.hold(conn, workspace_id, scope(principal), moving=moving)
            if change.parent_id is not None:
                await placement.require_fit(
                    conn, before.organization_id, workspace_id, change.parent_id
                )
            external = (change.runtime or before.runtime) == rules.EXTERNAL
            rules.check_egress(change.egress, external=external)
            await workspaces.update(conn, workspace_id, change)
            if place.given:
                await workspaces.place(conn, workspace_id, place)
        if moving:
            self._tell_readers()
        return _needs_restart(before, change)

    async def remove(
        self, principal: Principal, workspace_id: UUID, *, confirmed: bool, purge: bool
    ) -> Removal:
        """Remove a workspace and everything below it. Live children need a confirmation.

        Args:
            purge: delete the rows as well, and what other slices keep of them.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND.
        """
        row = await workspaces.get(self._pool, workspace_id, scope(principal))
        if row is None:
            raise missing()
        async with self._pool.acquire() as conn, conn.transaction():
            await tree_lock.lock(conn, row.organization_id, shared=False)
            # A purge locks the same tree: from here on the id is nobody else's.
            if await workspaces.get(conn, workspace_id, row.organization_id) is None:
                raise missing()
            family = await tree.family(conn, workspace_id)
            if not family:
                raise missing()
            children = [one for one in family if one.parent_id == workspace_id and one.live]
            if children and not confirmed:
                return Removal(row.organization_id, unconfirmed=tuple(children))
            removal = await self._remove(conn, row.organization_id, family, purge=purge)
        self._subscriptions.removed([one.id for one in family])
        self._tell_readers()
        return removal

    async def _require_visible(self, principal: Principal, workspace_id: UUID) -> None:
        """Raise unless a stranger or a peer may see that the workspace exists."""
        if principal.workspace_id is not None:
            if not await self._directory.is_related(principal.workspace_id, workspace_id):
                raise missing()
        elif not (self._public_view or principal.revoked_workspace == workspace_id):
            raise Unauthenticated("missing workspace auth token")

    async def _remove(
        self, conn: Connection, organization_id: UUID, family: list[tree.Member], *, purge: bool
    ) -> Removal:
        everyone = [one.id for one in family]
        live = [one.id for one in family if one.live]
        await mark_removed(conn, self._subscriptions, everyone, live)
        if not purge:
            return Removal(organization_id, descendants=max(0, len(live) - 1))
        await self._subscriptions.purging(conn, everyone)
        await workspaces.purge(conn, everyone)
        await tokens.announce_purged(conn, everyone)
        return Removal(organization_id, purged=True, descendants=len(everyone) - 1)


def _needs_restart(before: Held, change: Change) -> bool:
    """Whether what runs must be started again to be as the change wants it."""
    if "workspace_dir" in change.given and change.workspace_dir != before.workspace_dir:
        return True
    # Another network. From one list to another the proxy alone is concerned.
    return "egress" in change.given and change.egress.is_open != before.egress.is_open
