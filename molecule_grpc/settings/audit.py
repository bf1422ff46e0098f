"""The log of who did what."""

from __future__ import annotations

from dataclasses import dataclass

from molecule_grpc.settings.values import SECONDS, setting, whole

_LEAST_DAYS = 7  # Younger entries are kept from deletion by a trigger.


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSettings:
    """The audit log.

    Args:
        retention_days: age at which entries go.
        window_seconds: equal refusals within so many seconds are one entry with a count.
    """

    retention_days: int = setting("MOLECULE_AUDIT_RETENTION_DAYS", whole(_LEAST_DAYS, 3650), 365)
    window_seconds: float = setting("MOLECULE_AUDIT_WINDOW_SECONDS", SECONDS, 60.0)
