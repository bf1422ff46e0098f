"""The types of events: the one list that writers, readers, tests and docs/events.md share."""

from __future__ import annotations

import enum
from typing import Final, Self

_WORKSPACE: Final = ("name", "tier", "runtime", "status", "parent_id", "error")
_DELEGATION: Final = ("delegation_id", "target_id", "status", "response_preview", "error", "via")
_MEMORY: Final = ("memory_id", "namespace")


class Storage(enum.Enum):
    """How long an event of a type can be read."""

    KEPT = "kept"
    """Stored with the change that it tells of, for 30 days: a reader resumes without a gap."""
    LIVE = "live"
    """For readers of the moment: gone after ten minutes, and all at once when Postgres crashes."""


class EventType(enum.StrEnum):
    """A type of events. The value is its name, which travels on the wire and never changes.

    Args:
        name: the name on the wire.
        meaning: when such an event happens: a sentence.
        payload: every key that the payload may have. A key without a value is absent.
        storage: how long it can be read.
    """

    meaning: str
    payload: tuple[str, ...]
    storage: Storage

    def __new__(
        cls, name: str, meaning: str, payload: tuple[str, ...], storage: Storage = Storage.KEPT
    ) -> Self:
        """Make the member a string, its name on the wire, with the other fields beside it."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.meaning, member.payload, member.storage = meaning, payload, storage
        return member

    WORKSPACE_PROVISIONING = (
        "WORKSPACE_PROVISIONING",
        "A workspace was created, or started again, and its backend is at work.",
        _WORKSPACE,
    )
    WORKSPACE_PROVISION_FAILED = (
        "WORKSPACE_PROVISION_FAILED",
        "Provisioning ended without an agent; `error` says why, `missing` names variables to set.",
        (*_WORKSPACE, "missing"),
    )
    WORKSPACE_AWAITING_AGENT = (
        "WORKSPACE_AWAITING_AGENT",
        "A workspace of an external agent waits for it to register, or to come back.",
        _WORKSPACE,
    )
    WORKSPACE_ONLINE = (
        "WORKSPACE_ONLINE",
        "An agent registered, or its heartbeats are fresh and healthy again.",
        _WORKSPACE,
    )
    WORKSPACE_OFFLINE = (
        "WORKSPACE_OFFLINE",
        "An agent of a managed workspace sent no heartbeat for too long.",
        _WORKSPACE,
    )
    WORKSPACE_DEGRADED = (
        "WORKSPACE_DEGRADED",
        "An agent is alive but unhealthy; `error` is the newest error that it reported.",
        _WORKSPACE,
    )
    WORKSPACE_HIBERNATING = (
        "WORKSPACE_HIBERNATING",
        "An idle workspace was claimed for hibernation, and its stop is in progress.",
        _WORKSPACE,
    )
    WORKSPACE_HIBERNATED = (
        "WORKSPACE_HIBERNATED",
        "A workspace was stopped; its next message wakes it.",
        _WORKSPACE,
    )
    WORKSPACE_PAUSED = (
        "WORKSPACE_PAUSED",
        "An operator suspended a workspace.",
        _WORKSPACE,
    )
    WORKSPACE_REMOVED = (
        "WORKSPACE_REMOVED",
        "A workspace was deleted.",
        _WORKSPACE,
    )
    WORKSPACE_MOVED = (
        "WORKSPACE_MOVED",
        "A workspace got another parent, or none.",
        _WORKSPACE,
    )
    WORKSPACE_COLLAPSED = (
        "WORKSPACE_COLLAPSED",
        "Everything below a workspace was removed; `removed_children` has up to 100 of the names.",
        ("removed_children",),
    )
    AGENT_CARD_UPDATED = (
        "AGENT_CARD_UPDATED",
        "An agent published another card. GetWorkspace has the card itself.",
        _WORKSPACE,
    )
    AGENT_ASSIGNED = (
        "AGENT_ASSIGNED",
        "A workspace without an agent got one.",
        ("agent_id", "model"),
    )
    AGENT_REPLACED = (
        "AGENT_REPLACED",
        "A workspace got another agent.",
        ("agent_id", "model", "old_agent_id", "old_model", "reason"),
    )
    AGENT_REMOVED = (
        "AGENT_REMOVED",
        "A workspace has no agent any more.",
        ("agent_id", "model", "reason"),
    )
    AGENT_MOVED = (
        "AGENT_MOVED",
        "An agent went from one workspace to another. Each of the two has such an event.",
        ("agent_id", "model", "from_workspace_id", "to_workspace_id"),
    )
    EXTERNAL_CREDENTIALS_ROTATED = (
        "EXTERNAL_CREDENTIALS_ROTATED",
        "A workspace's tokens were replaced by a new one, which no event tells.",
        (),
    )
    DELEGATION_SENT = (
        "DELEGATION_SENT",
        "A delegation was accepted. `workspace_id` is the source, here and below.",
        ("delegation_id", "target_id", "task_preview"),
    )
    DELEGATION_STATUS = (
        "DELEGATION_STATUS",
        "A delegation was handed to its target, is in progress, or will be tried again.",
        _DELEGATION,
    )
    DELEGATION_COMPLETE = (
        "DELEGATION_COMPLETE",
        "A delegation succeeded; `response_preview` has up to 200 characters of the result.",
        _DELEGATION,
    )
    DELEGATION_FAILED = (
        "DELEGATION_FAILED",
        "A delegation failed for good, or its source cancelled it; `error` says why.",
        _DELEGATION,
    )
    DELEGATION_STUCK = (
        "DELEGATION_STUCK",
        "A delegation ended because nothing was heard of it for too long.",
        _DELEGATION,
    )
    MEMORY_COMMITTED = (
        "MEMORY_COMMITTED",
        "A workspace stored a memory. `workspace_id` is the author, here and below.",
        _MEMORY,
    )
    MEMORY_UPDATED = (
        "MEMORY_UPDATED",
        "A workspace changed a memory in place.",
        _MEMORY,
    )
    MEMORY_SUPERSEDED = (
        "MEMORY_SUPERSEDED",
        "Memory `superseded_by` replaced another one; without that id the other holds again.",
        (*_MEMORY, "superseded_by"),
    )
    MEMORY_FORGOTTEN = (
        "MEMORY_FORGOTTEN",
        "A workspace removed a memory for good.",
        _MEMORY,
    )
    CRON_EXECUTED = (
        "CRON_EXECUTED",
        "A schedule has fired: its prompt was handed over as a delegation.",
        ("schedule_id", "schedule_name", "delegation_id"),
    )
    CRON_SKIPPED = (
        "CRON_SKIPPED",
        "A schedule did not fire at its time, the first of some in a row; `reason` says why.",
        ("schedule_id", "schedule_name", "reason"),
    )
    APPROVAL_REQUESTED = (
        "APPROVAL_REQUESTED",
        "An agent asks people before it acts.",
        ("approval_id", "action", "reason", "task_id"),
    )
    APPROVAL_ESCALATED = (
        "APPROVAL_ESCALATED",
        "The same, told to the parent of the workspace that asks.",
        ("approval_id", "action", "reason", "task_id", "from_workspace_id"),
    )
    APPROVAL_DECIDED = (
        "APPROVAL_DECIDED",
        "A request for approval was approved or denied, by `timeout` where nobody decided in time.",
        ("approval_id", "action", "task_id", "status", "decided_by"),
    )
    TASK_UPDATED = (
        "TASK_UPDATED",
        "What an agent says it is doing has changed. Of several in half a second the newest tells.",
        ("current_task", "active_tasks"),
        Storage.LIVE,
    )
    WORKSPACE_HEARTBEAT = (
        "WORKSPACE_HEARTBEAT",
        "A heartbeat arrived. Of several in half a second the newest tells.",
        ("active_tasks", "uptime_seconds"),
        Storage.LIVE,
    )
    ACTIVITY_LOGGED = (
        "ACTIVITY_LOGGED",
        "A row was added to a workspace's record.",
        (
            "activity_type",
            "method",
            "summary",
            "status",
            "source_id",
            "target_id",
            "duration_ms",
        ),
        Storage.LIVE,
    )
    A2A_RESPONSE = (
        "A2A_RESPONSE",
        "An agent answered a message that a person had sent through the platform.",
        ("response_body", "method", "duration_ms"),
        Storage.LIVE,
    )
    AGENT_MESSAGE = (
        "AGENT_MESSAGE",
        "An agent said something to a person.",
        ("message", "workspace_id", "name", "attachments"),
        Storage.LIVE,
    )

    @property
    def kept(self) -> bool:
        """Whether it is stored for good, so that a reader can resume without a gap."""
        return self.storage is Storage.KEPT
