"""Workspaces: after how much silence they count as away."""

from __future__ import annotations

from dataclasses import dataclass

from molecule_grpc.settings.values import COUNT, SECONDS, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceSettings:
    """Liveness, in seconds.

    Args:
        liveness_stale_after: silence after which an external workspace waits for its agent again.
        liveness_ttl: silence after which any other is offline.
        liveness_interval: pause between two sweeps.
    """

    liveness_stale_after: int = setting("REMOTE_LIVENESS_STALE_AFTER", COUNT, 90)
    liveness_ttl: int = setting("MOLECULE_LIVENESS_TTL_SECONDS", COUNT, 180)
    liveness_interval: float = setting("MOLECULE_LIVENESS_INTERVAL_S", SECONDS, 15.0)
