"""Who works in a workspace: one assigned agent at a time."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.configuration import rules
from molecule_grpc.configuration.refusals import missing, no_agent, occupied
from molecule_grpc.configuration.store import agents as store
from molecule_grpc.configuration.store import workspaces
from molecule_grpc.configuration.store.agents import Assignment
from molecule_grpc.db.pool import Connection, Pool, database_errors
from molecule_grpc.events.names import EventType
from molecule_grpc.events.store import Event, keep
from molecule_grpc.kernel.ids import new_id


class _Held(NamedTuple):
    """Locked workspaces with their organisations, in the transaction of `conn`."""

    conn: Connection
    organizations: dict[UUID, UUID]

    async def tell(self, kind: EventType, workspace_id: UUID, **payload: object) -> None:
        """Store an event of one of the workspaces."""
        event = Event.of(kind, self.organizations[workspace_id], workspace_id, **payload)
        await keep(self.conn, [event])


class Agents:
    """Assigns agents.

    `within` is the only organisation that the workspaces may be of; None for any. Every method
    raises `NotFound` with WORKSPACE_NOT_FOUND for a workspace that is removed or invisible.

    Args:
        tell_readers: wakes the readers of the feed of events.
    """

    def __init__(self, pool: Pool, tell_readers: Callable[[], None]) -> None:
        self._pool = pool
        self._tell_readers = tell_readers

    async def get(self, workspace_id: UUID, within: UUID | None) -> Assignment:
        """The assigned agent. Raises `NotFound`: AGENT_NOT_FOUND."""
        with database_errors():
            found = await store.of_workspace(self._pool, workspace_id, within)
        if not found:
            raise missing()
        if found[0] is None:
            raise no_agent()
        return found[0]

    async def assign(self, workspace_id: UUID, within: UUID | None, model: str) -> Assignment:
        """Assign an agent.

        Raises:
            Invalid: the model has a line break.
            AlreadyExists: AGENT_ASSIGNED.
        """
        rules.check_model(model)
        async with self._holding([workspace_id], within) as held:
            if await store.active(held.conn, workspace_id) is not None:
                raise occupied()
            added = await store.add(held.conn, new_id(), workspace_id, model)
            await held.tell(EventType.AGENT_ASSIGNED, workspace_id, **_told(added))
        self._tell_readers()
        return added

    async def replace(
        self, workspace_id: UUID, within: UUID | None, model: str, reason: str
    ) -> Assignment:
        """Assign another agent; the same one where the model is the same.

        Raises:
            Invalid: the model has a line break.
            NotFound: AGENT_NOT_FOUND.
        """
        rules.check_model(model)
        async with self._holding([workspace_id], within) as held:
            old = await _active(held, workspace_id)
            if old.model == model:
                return old
            await store.end(held.conn, old, reason)
            added = await store.add(held.conn, new_id(), workspace_id, model)
            before = {"old_agent_id": str(old.id), "old_model": old.model, "reason": reason}
            await held.tell(EventType.AGENT_REPLACED, workspace_id, **_told(added), **before)
        self._tell_readers()
        return added

    async def remove(self, workspace_id: UUID, within: UUID | None, reason: str) -> Assignment:
        """End an assignment. Raises `NotFound`: AGENT_NOT_FOUND."""
        async with self._holding([workspace_id], within) as held:
            old = await _active(held, workspace_id)
            await store.end(held.conn, old, reason)
            await held.tell(EventType.AGENT_REMOVED, workspace_id, **_told(old), reason=reason)
        self._tell_readers()
        return old

    async def move(self, workspace_id: UUID, within: UUID | None, target_id: UUID) -> Assignment:
        """Assign an agent to another workspace of the same organisation.

        Raises:
            NotFound: AGENT_NOT_FOUND.
            AlreadyExists: AGENT_ASSIGNED: the target has an agent.
        """
        async with self._holding([workspace_id, target_id], within) as held:
            agent = await _active(held, workspace_id)
            if target_id == workspace_id:
                return agent
            if held.organizations[target_id] != held.organizations[workspace_id]:
                raise missing()
            if await store.active(held.conn, target_id) is not None:
                raise occupied()
            moved = await store.move(held.conn, agent, target_id)
            way = {"from_workspace_id": str(workspace_id), "to_workspace_id": str(target_id)}
            for end in (workspace_id, target_id):
                await held.tell(EventType.AGENT_MOVED, end, **_told(agent), **way)
        self._tell_readers()
        return moved

    @contextlib.asynccontextmanager
    async def _holding(
        self, workspace_ids: Sequence[UUID], within: UUID | None
    ) -> AsyncIterator[_Held]:
        with database_errors():
            async with self._pool.acquire() as conn, conn.transaction():
                found = await workspaces.hold(conn, workspace_ids, within)
                if set(found) != set(workspace_ids):
                    raise missing()
                yield _Held(conn, found)


async def _active(held: _Held, workspace_id: UUID) -> Assignment:
    found = await store.active(held.conn, workspace_id)
    if found is None:
        raise no_agent()
    return found


def _told(agent: Assignment) -> dict[str, str]:
    return {"agent_id": str(agent.id), "model": agent.model}
