"""Tombstones of workspaces, and removing everything below one."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final
from uuid import UUID

from molecule_grpc.auth import store as tokens
from molecule_grpc.db import tree_lock
from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.events import store as event_store
from molecule_grpc.events.names import EventType
from molecule_grpc.events.store import Event
from molecule_grpc.workspace.refusals import missing
from molecule_grpc.workspace.store import workspaces
from molecule_grpc.workspace.subscriptions import Subscriptions
from molecule_grpc.workspace.tree import store as tree

# Names of removed workspaces that an event tells.
_NAMES_TOLD: Final = 100


async def mark_removed(
    conn: Connection, subscriptions: Subscriptions, everyone: list[UUID], live: list[UUID]
) -> None:
    """Make tombstones, and end what hangs on them, in one transaction with the subscribers' part.

    Tombstones first: from then on no late sign of life brings anything back.

    Args:
        everyone: with those that are removed already, whose stop may have failed.
    """
    await workspaces.mark_removed(conn, live)
    await tokens.revoke_workspace_tokens(conn, everyone)
    await subscriptions.removing(conn, everyone)


class Collapse:
    """Removes what is below a workspace.

    Args:
        subscriptions: told of removals.
        tell_readers: wakes the readers of the feed of events.
    """

    def __init__(
        self, pool: Pool, subscriptions: Subscriptions, tell_readers: Callable[[], None]
    ) -> None:
        self._pool = pool
        self._subscriptions = subscriptions
        self._tell_readers = tell_readers

    async def collapse(self, workspace_id: UUID, within: UUID | None) -> list[str]:
        """Remove everything below a workspace; the names of what was removed, in their order.

        Args:
            within: the only organisation that the workspace may be of; None for any.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND.
        """
        async with self._pool.acquire() as conn, conn.transaction():
            organization_id = await tree_lock.hold_of(conn, workspace_id)
            held = await workspaces.lock_live(conn, workspace_id, within)
            if organization_id is None or held is None:
                raise missing()
            below = [one for one in await tree.family(conn, workspace_id) if one.id != workspace_id]
            live = [one for one in below if one.live]
            if not live:
                return []
            removed, names = [one.id for one in live], [one.name for one in live]
            await mark_removed(conn, self._subscriptions, [one.id for one in below], removed)
            await event_store.keep(conn, [_collapsed(organization_id, workspace_id, names)])
        self._subscriptions.removed(removed)
        self._tell_readers()
        return names


def _collapsed(organization_id: UUID, workspace_id: UUID, names: Collection[str]) -> Event:
    told = list(names)[:_NAMES_TOLD]
    return Event.of(
        EventType.WORKSPACE_COLLAPSED, organization_id, workspace_id, removed_children=told
    )
