"""Signs of life of all workspaces, each flushed with those that arrived meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self
from uuid import UUID

from moleculeai.workspace.v1 import workspace_service_pb2 as pb

from molecule_grpc.db.group_commit import GroupCommit
from molecule_grpc.db.pool import Writer
from molecule_grpc.kernel.errors import NotFound
from molecule_grpc.kernel.ids import parse_id
from molecule_grpc.kernel.text import clean
from molecule_grpc.settings.settings import Settings
from molecule_grpc.workspace import rules
from molecule_grpc.workspace.store import heartbeats as beats
from molecule_grpc.workspace.store.heartbeats import Heartbeat, HeartbeatResult

Observe = Callable[[int, int, float], None]
Moved = Callable[[Sequence[tuple[Heartbeat, HeartbeatResult]]], None]


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
        self._writer = Writer(
            dsn, application_name="molecule-grpc-heartbeat", statement=beats.HEARTBEAT
        )
        self._presence = Writer(dsn, application_name="molecule-grpc-presence")
        self._queue: GroupCommit[Heartbeat, HeartbeatResult] = GroupCommit(
            "heartbeat",
            self._flush,
            key=lambda each: each.workspace_id,
            linger=settings.process.group_commit_linger_ms / 1000,
            observe=observe,
            after_flush=moved,
        )

    async def __aenter__(self) -> Self:
        await self._writer.open()
        await self._queue.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._queue.stop()
        await self._writer.close()
        await self._presence.close()

    async def beat(self, each: Heartbeat) -> HeartbeatResult:
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

    async def _flush(self, batch: Sequence[Heartbeat]) -> Sequence[HeartbeatResult | NotFound]:
        async with self._writer.connection() as connection:
            return await beats.beat(connection, batch)


def read_beat(request: pb.HeartbeatRequest) -> Heartbeat:
    """What a request reports; what it leaves out is None."""
    given: dict[str, Any] = {field.name: value for field, value in request.ListFields()}
    metadata = given.get("runtime_metadata")
    capabilities = metadata.capabilities if metadata else {}
    return Heartbeat(
        workspace_id=parse_id(request.workspace_id, "workspace_id"),
        error_rate=given.get("error_rate"),
        sample_error=_clean(given.get("sample_error")),
        active_tasks=given.get("active_tasks"),
        uptime_seconds=given.get("uptime_seconds"),
        current_task=_clean(given.get("current_task")),
        monthly_spend=rules.reported_spend(given.get("monthly_spend")),
        wedged=request.runtime_state == "wedged",
        well=request.runtime_state in ("", "ok"),
        self_managed="status_mgmt" in capabilities and capabilities["status_mgmt"],
        idle_timeout_seconds=metadata.idle_timeout_seconds
        if metadata and metadata.HasField("idle_timeout_seconds")
        else None,
    )


def _clean(text: str | None) -> str | None:
    return None if text is None else clean(text)
