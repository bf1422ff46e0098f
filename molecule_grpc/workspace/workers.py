"""Background steps of the slice: idempotent, without input, on every worker at once."""

from __future__ import annotations

import structlog

from molecule_grpc.db.pool import Pool
from molecule_grpc.settings.workspace import WorkspaceSettings
from molecule_grpc.workspace.store import registry

log = structlog.get_logger(__name__)


async def sweep_liveness(pool: Pool, settings: WorkspaceSettings) -> int:
    """Move the workspaces that fell silent, and return how many.

    An external one waits for its agent again after `liveness_stale_after`; any other is offline
    after `liveness_ttl`. Only online and degraded ones are looked at.
    """
    moved = await registry.sweep_silent(pool, settings.liveness_stale_after, settings.liveness_ttl)
    if moved:
        log.info("workspaces fell silent", count=moved)
    return moved
