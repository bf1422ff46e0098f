"""The names of events: the one list that writers, tests and documentation share."""

from __future__ import annotations

import enum


class EventType(enum.StrEnum):
    """What happened. The value travels on the wire."""

    WORKSPACE_PROVISIONING = "WORKSPACE_PROVISIONING"
    WORKSPACE_PROVISION_FAILED = "WORKSPACE_PROVISION_FAILED"
    WORKSPACE_AWAITING_AGENT = "WORKSPACE_AWAITING_AGENT"
    WORKSPACE_ONLINE = "WORKSPACE_ONLINE"
    WORKSPACE_OFFLINE = "WORKSPACE_OFFLINE"
    WORKSPACE_DEGRADED = "WORKSPACE_DEGRADED"
    WORKSPACE_REMOVED = "WORKSPACE_REMOVED"
    WORKSPACE_MOVED = "WORKSPACE_MOVED"
    AGENT_CARD_UPDATED = "AGENT_CARD_UPDATED"
    EXTERNAL_CREDENTIALS_ROTATED = "EXTERNAL_CREDENTIALS_ROTATED"
    DELEGATION_SENT = "DELEGATION_SENT"
    DELEGATION_STATUS = "DELEGATION_STATUS"
    DELEGATION_COMPLETE = "DELEGATION_COMPLETE"
    DELEGATION_FAILED = "DELEGATION_FAILED"
    DELEGATION_STUCK = "DELEGATION_STUCK"

    # Only for whoever looks at the moment.
    TASK_UPDATED = "TASK_UPDATED"
    WORKSPACE_HEARTBEAT = "WORKSPACE_HEARTBEAT"
    ACTIVITY_LOGGED = "ACTIVITY_LOGGED"
    A2A_RESPONSE = "A2A_RESPONSE"
    AGENT_MESSAGE = "AGENT_MESSAGE"

    @property
    def kept(self) -> bool:
        """Whether it is stored for good, so that a reader can resume exactly."""
        return self not in _LIVE


_LIVE = frozenset(
    {
        EventType.TASK_UPDATED,
        EventType.WORKSPACE_HEARTBEAT,
        EventType.ACTIVITY_LOGGED,
        EventType.A2A_RESPONSE,
        EventType.AGENT_MESSAGE,
    }
)
