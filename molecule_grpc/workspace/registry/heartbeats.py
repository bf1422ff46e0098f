"""Signs of life of all workspaces, each written with those that arrived meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Self
from uuid import UUID

from molecule_grpc.db.group_commit import GroupCommit
from molecule_grpc.db.pool import Writer
from molecule_grpc.directory import Heartbeat, HeartbeatResult
from molecule_grpc.kernel.errors import NotFound
from molecule_grpc.workspace.registry.store import heartbeats as store
from molecule_grpc.workspace.subscriptions import Subscriptions

Observe = Callable[[int, int, float], None]


class Heartbeats:
    """Makes signs of life durable. Open it for as long as calls are served.

    Args:
        subscriptions: told of every flush what it did, before its callers are; and which
            delegations an agent works on.
        linger: most seconds that a busy process waits for more heartbeats of the same flush.
        tell_readers: wakes the readers of the feed of events.
        observe: told of every flush: size, failures, seconds.
    """

    def __init__(
        self,
        dsn: str,
        subscriptions: Subscriptions,
        *,
        linger: float,
        tell_readers: Callable[[], None],
        observe: Observe | None = None,
    ) -> None:
        self._subscriptions = subscriptions
        self._tell_readers = tell_readers
        self._writer = Writer(dsn, store.HEARTBEAT, application_name="molecule-grpc-heartbeat")
        self._presence = Writer(dsn, application_name="molecule-grpc-presence")
        self._queue: GroupCommit[Heartbeat, HeartbeatResult] = GroupCommit(
            "heartbeat",
            self._flush,
            key=lambda each: each.workspace_id.int,
            linger=linger,
            observe=observe,
            after_flush=self._applied,
        )

    async def __aenter__(self) -> Self:
        await self._writer.open()
        await self._queue.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._queue.stop()
        await self._writer.close()
        await self._presence.close()

    async def beat(self, heartbeat: Heartbeat) -> HeartbeatResult:
        """Apply a heartbeat; it is durable when this returns. Its sender was authorised before.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND or WORKSPACE_REMOVED.
        """
        if not heartbeat.active_delegations:
            return await self._queue.submit(heartbeat)
        result, _ = await asyncio.gather(
            self._queue.submit(heartbeat),
            self._subscriptions.delegations_active(
                heartbeat.workspace_id, list(heartbeat.active_delegations)
            ),
        )
        return result

    async def touch_present(self, workspace_ids: list[UUID]) -> None:
        """Count workspaces as alive: their agents hold a stream open. One call at a time."""
        if not workspace_ids:
            return
        async with self._presence.connection() as connection:
            moved = await store.touch(connection, workspace_ids)
        if moved:
            self._tell_readers()

    async def _flush(self, batch: Sequence[Heartbeat]) -> Sequence[HeartbeatResult | NotFound]:
        async with self._writer.connection() as connection:
            return await store.beat(connection, batch)

    def _applied(self, done: Sequence[tuple[Heartbeat, HeartbeatResult]]) -> None:
        if any(result.before != result.after for _, result in done):
            self._tell_readers()
        self._subscriptions.heartbeats_applied(done)
