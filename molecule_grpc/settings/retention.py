"""How long everything stays that would grow for ever."""

from __future__ import annotations

from dataclasses import dataclass

from molecule_grpc.settings.values import COUNT, SECONDS, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionSettings:
    """Ages at which rows are deleted, in days unless the name says otherwise.

    Args:
        delegations: since a delegation's end.
        inbox_done: of an inbox item that is acked, or was set aside as a dead letter.
        inbox_unread: of an inbox item that nobody acked; its delegation fails then.
        queue: since the end of a message for an agent with a URL.
        events: of a kept event; an older resume token is refused.
        live_event_minutes: minutes for which an event that is not kept can be read.
        approvals: since the decision; of each workspace the last 1,000 at most.
        schedule_runs: since a time of a schedule; of each schedule the last 200 at most.
        revoked_tokens: since a token was revoked or expired; until then its holder is told so.
        sweep: seconds between two sweeps. A sweep goes on until nothing is due.
    """

    delegations: int = setting("MOLECULE_DELEGATION_RETENTION_DAYS", COUNT, 90)
    inbox_done: int = setting("MOLECULE_INBOX_RETENTION_DAYS", COUNT, 7)
    inbox_unread: int = setting("MOLECULE_INBOX_UNREAD_RETENTION_DAYS", COUNT, 30)
    queue: int = setting("MOLECULE_QUEUE_RETENTION_DAYS", COUNT, 7)
    events: int = setting("MOLECULE_EVENT_RETENTION_DAYS", COUNT, 30)
    live_event_minutes: int = setting("MOLECULE_LIVE_EVENT_RETENTION_MINUTES", COUNT, 10)
    approvals: int = setting("MOLECULE_APPROVAL_RETENTION_DAYS", COUNT, 90)
    schedule_runs: int = setting("MOLECULE_SCHEDULE_RUN_RETENTION_DAYS", COUNT, 30)
    revoked_tokens: int = setting("MOLECULE_REVOKED_TOKEN_RETENTION_DAYS", COUNT, 90)
    sweep: float = setting("MOLECULE_RETENTION_SWEEP_SECONDS", SECONDS, 60.0)
