"""The ledger's sweeper, and how long the record stays."""

from __future__ import annotations

from dataclasses import dataclass

from molecule_grpc.settings.values import COUNT, SECONDS, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class DelegationSettings:
    """Delegations and the record.

    Args:
        sweep_interval: seconds between two sweeps for what is overdue or silent.
        stuck_after: seconds of silence after the last heartbeat.
        activity_retention_days: age at which rows of the record go.
        activity_cleanup_hours: hours between two sweeps of old rows of the record and of inboxes.
    """

    sweep_interval: float = setting("DELEGATION_SWEEPER_INTERVAL_S", SECONDS, 300.0)
    stuck_after: float = setting("DELEGATION_STUCK_THRESHOLD_S", SECONDS, 600.0)
    activity_retention_days: int = setting("ACTIVITY_RETENTION_DAYS", COUNT, 7)
    activity_cleanup_hours: float = setting("ACTIVITY_CLEANUP_INTERVAL_HOURS", SECONDS, 0.25)
