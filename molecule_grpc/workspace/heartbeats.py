"""Signs of life of all workspaces, each flushed with those that arrived meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Self
from uuid import UUID

from moleculeai.workspace.v1 import workspace_service_pb2 as pb

from molecule_grpc.db.group_commit import GroupCommit
from molecule_grpc.db.pool import Writer
from molecule_grpc.errors import NotFound
from molecule_grpc.ids import parse_id
from molecule_grpc.settings import Settings
from molecule_grpc.text import clean
from molecule_grpc.workspace import rules
from molecule_grpc.workspace.store import beats
from molecule_grpc.workspace.store.beats import Beat, Beaten

Observe = Callable[[int, int, float], None]
Moved = Callable[[Sequence[tuple[Beat, Beaten]]], None]


class Heartbeats:
    """Makes signs of life durable. Open it for as long as calls are served.

    Args:
        observe: told of every flush: size, failures, seconds.
        moved: told of every flush what it did, before its callers are. Must be quick.
    """

    def __init__(
        self,
        dsn: str,
        settings: Settings,
        *,
        observe: Observe | None = None,
        moved: Moved | None = None,
    ) -> None:
        self._writer = Writer(dsn, application_name="molecule-grpc-heartbeat")
        self._presence = Writer(dsn, application_name="molecule-grpc-presence")
        self._queue: GroupCommit[Beat, Beaten] = GroupCommit(
            "heartbeat",
            self._flush,
            key=lambda each: each.workspace_id,
            linger=settings.group_commit_linger_ms / 1000,
            observe=observe,
            after_flush=moved,
        )

    async def __aenter__(self) -> Self:
        await self._queue.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._queue.stop()
        await self._writer.close()
        await self._presence.close()

    async def beat(self, each: Beat) -> Beaten:
        """Apply one heartbeat; it is durable when this returns.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND or WORKSPACE_REMOVED.
        """
        return await self._queue.submit(each)

    async def touch_present(self, workspace_ids: list[UUID]) -> None:
        """Count workspaces as alive: their agents hold a stream open. One call at a time."""
        if workspace_ids:
            async with self._presence.connection() as connection:
                await beats.touch(connection, workspace_ids)

    async def _flush(self, batch: Sequence[Beat]) -> Sequence[Beaten | NotFound]:
        async with self._writer.connection() as connection:
            return await beats.beat(connection, batch)


def read_beat(request: pb.HeartbeatRequest) -> Beat:
    """What a request reports; what it leaves out is None."""

    def given(field: str) -> bool:
        return request.HasField(field)  # type: ignore[arg-type]

    capabilities = request.runtime_metadata.capabilities
    return Beat(
        workspace_id=parse_id(request.workspace_id, "workspace_id"),
        error_rate=request.error_rate if given("error_rate") else None,
        sample_error=clean(request.sample_error) if given("sample_error") else None,
        active_tasks=request.active_tasks if given("active_tasks") else None,
        uptime_seconds=request.uptime_seconds if given("uptime_seconds") else None,
        current_task=clean(request.current_task) if given("current_task") else None,
        monthly_spend=rules.reported_spend(
            request.monthly_spend if given("monthly_spend") else None
        ),
        wedged=request.runtime_state == "wedged",
        well=request.runtime_state in ("", "ok"),
        self_managed="status_mgmt" in capabilities and capabilities["status_mgmt"],
    )
