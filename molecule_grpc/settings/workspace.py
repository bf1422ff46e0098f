"""Workspaces: after how much silence they count as away, and how long they may take to start."""

from __future__ import annotations

from dataclasses import dataclass

from molecule_grpc.settings.values import COUNT, LIMIT, SECONDS, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceSettings:
    """Liveness and sweeps, in seconds.

    Args:
        liveness_stale_after: silence after which an external workspace waits for its agent again.
        liveness_ttl: silence after which any other is offline.
        liveness_interval: pause between two sweeps.
        provision_timeout: how long any workspace may take until its agent registers; 0 for what its
            template says, else `provision_timeout_default`, or for hermes 1800.
        provision_timeout_default: the same for workspaces whose template says nothing.
        provision_timeout_interval: pause between two sweeps for workspaces that took too long.
        health_interval: pause between two comparisons of workspaces with what their engine runs.
        hibernation_interval: pause between two looks for idle workspaces.
        hibernation_stuck_after: a hibernation whose stop has not ended by then is stopped again.
        death_limit: a workload that ends so often within ten minutes is not started again.
        approval_seconds: a request for approval is denied after so long unless somebody decides.
        restart_backoff: pause before the second automatic restart; it doubles up to a minute.
    """

    liveness_stale_after: int = setting("REMOTE_LIVENESS_STALE_AFTER", COUNT, 90)
    liveness_ttl: int = setting("MOLECULE_LIVENESS_TTL_SECONDS", COUNT, 180)
    liveness_interval: float = setting("MOLECULE_LIVENESS_INTERVAL_S", SECONDS, 15.0)
    provision_timeout: int = setting("PROVISION_TIMEOUT_SECONDS", LIMIT, 0)
    provision_timeout_default: int = setting(
        "MOLECULE_PROVISION_TIMEOUT_DEFAULT_SECONDS", COUNT, 600
    )
    provision_timeout_interval: float = setting(
        "MOLECULE_PROVISION_TIMEOUT_INTERVAL_S", SECONDS, 30.0
    )
    health_interval: float = setting("MOLECULE_HEALTH_INTERVAL_S", SECONDS, 15.0)
    hibernation_interval: float = setting("MOLECULE_HIBERNATION_INTERVAL_S", SECONDS, 120.0)
    hibernation_stuck_after: float = setting("MOLECULE_HIBERNATION_STUCK_S", SECONDS, 300.0)
    death_limit: int = setting("MOLECULE_DEATH_LIMIT", COUNT, 5)
    approval_seconds: int = setting("MOLECULE_APPROVAL_SECONDS", COUNT, 600)
    restart_backoff: float = setting("MOLECULE_RESTART_BACKOFF_S", SECONDS, 1.0)
