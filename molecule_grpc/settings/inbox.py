"""The inbox: how its streams are paced, and how much it holds."""

from __future__ import annotations

from dataclasses import dataclass

from molecule_grpc.settings.values import LIMIT, SECONDS, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxSettings:
    """Inboxes. Times are in seconds.

    Args:
        beat: quiet after which any long stream says that it is alive.
        safety_check: pause between two looks at the table for missed wake-ups.
        lease: how long a consumer is believed without a sign.
        max_age: age at which a stream asks its client to come back.
        max_items: undone items of one inbox; 0 for no limit.
        max_bytes: undone bytes of one inbox; 0 for no limit.
    """

    beat: float = setting("MOLECULE_INBOX_BEAT_SECONDS", SECONDS, 15.0)
    safety_check: float = setting("MOLECULE_INBOX_SAFETY_SECONDS", SECONDS, 5.0)
    lease: float = setting("MOLECULE_INBOX_LEASE_SECONDS", SECONDS, 30.0)
    max_age: float = setting("MOLECULE_INBOX_MAX_AGE_SECONDS", SECONDS, 3600.0)
    max_items: int = setting("MOLECULE_INBOX_MAX_ITEMS", LIMIT, 10_000)
    max_bytes: int = setting("MOLECULE_INBOX_MAX_BYTES", LIMIT, 256 * 1024 * 1024)
