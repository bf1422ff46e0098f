"""A workspace's status: its ten states, every permitted move between them, the event of each.

The tables are data. The guards in SQL come from them (`store/moves.py`), and so does the picture in
docs/states.md (`tools/states_doc.py`).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from molecule_grpc.events.names import EventType


class Status(enum.StrEnum):
    """As stored and as on the wire."""

    PROVISIONING = "provisioning"
    AWAITING_AGENT = "awaiting_agent"
    ONLINE = "online"
    DEGRADED = "degraded"
    OFFLINE = "offline"
    HIBERNATING = "hibernating"
    HIBERNATED = "hibernated"
    PAUSED = "paused"
    FAILED = "failed"
    REMOVED = "removed"


# The event of a workspace's arrival in a state.
EVENTS: Final[Mapping[Status, EventType]] = {
    Status.PROVISIONING: EventType.WORKSPACE_PROVISIONING,
    Status.AWAITING_AGENT: EventType.WORKSPACE_AWAITING_AGENT,
    Status.ONLINE: EventType.WORKSPACE_ONLINE,
    Status.DEGRADED: EventType.WORKSPACE_DEGRADED,
    Status.OFFLINE: EventType.WORKSPACE_OFFLINE,
    Status.HIBERNATING: EventType.WORKSPACE_HIBERNATING,
    Status.HIBERNATED: EventType.WORKSPACE_HIBERNATED,
    Status.PAUSED: EventType.WORKSPACE_PAUSED,
    Status.FAILED: EventType.WORKSPACE_PROVISION_FAILED,
    Status.REMOVED: EventType.WORKSPACE_REMOVED,
}


@dataclass(frozen=True, slots=True)
class Move:
    """One cause that changes a status.

    Args:
        target: the state it leads to.
        sources: the states it may leave; from any other the move changes nothing.
        cause: what happens to the workspace, in the words of docs/states.md.
    """

    target: Status
    sources: frozenset[Status]
    cause: str


def _move(target: Status, cause: str, *sources: Status) -> Move:
    return Move(target, frozenset(sources), cause)


# Heartbeats and open streams. Neither ends a pause, a hibernation or a failure.
SEEN: Final = _move(
    Status.ONLINE, "sign of life", Status.PROVISIONING, Status.AWAITING_AGENT, Status.OFFLINE
)
WELL_AGAIN: Final = _move(Status.ONLINE, "healthy heartbeat", Status.DEGRADED)
UNWELL: Final = _move(Status.DEGRADED, "errors or wedged", Status.ONLINE)

# A registration also ends a failure. An operator's pause and a hibernation outlive it.
REGISTERED: Final = _move(
    Status.ONLINE,
    "register",
    Status.PROVISIONING,
    Status.AWAITING_AGENT,
    Status.DEGRADED,
    Status.OFFLINE,
    Status.FAILED,
)

# Silence: an external agent may come back by itself; any other agent is offline.
EXTERNAL_SILENT: Final = _move(
    Status.AWAITING_AGENT, "external agent silent", Status.ONLINE, Status.DEGRADED
)
SILENT: Final = _move(Status.OFFLINE, "silent", Status.ONLINE, Status.DEGRADED)

# What a backend finds out. A workload that ended is started again, unless it ends too often.
PROVISION_FAILED: Final = _move(Status.FAILED, "provisioning failed", Status.PROVISIONING)
DIED: Final = _move(
    Status.OFFLINE, "workload ended", Status.PROVISIONING, Status.ONLINE, Status.DEGRADED
)
CRASHED: Final = _move(
    Status.FAILED,
    "workload ended too often",
    Status.PROVISIONING,
    Status.ONLINE,
    Status.DEGRADED,
    Status.OFFLINE,
)

# Verbs that start a workload. Restarting a provisioning workspace moves nothing.
RESTARTED: Final = _move(
    Status.PROVISIONING,
    "restart",
    *(each for each in Status if each not in (Status.PROVISIONING, Status.REMOVED)),
)
# After a death, or when what the agent was started with has changed.
AUTO_RESTARTED: Final = _move(
    Status.PROVISIONING,
    "automatic restart",
    Status.ONLINE,
    Status.DEGRADED,
    Status.OFFLINE,
    Status.FAILED,
)
RESUMED: Final = _move(Status.PROVISIONING, "resume", Status.PAUSED)
RESUMED_EXTERNAL: Final = _move(
    Status.AWAITING_AGENT, "resume of an external workspace", Status.PAUSED
)
WOKEN: Final = _move(Status.PROVISIONING, "wake", Status.HIBERNATING, Status.HIBERNATED)

# Verbs that stop one.
PAUSED: Final = _move(
    Status.PAUSED,
    "pause",
    *(each for each in Status if each not in (Status.PAUSED, Status.REMOVED)),
)
HIBERNATE: Final = _move(Status.HIBERNATING, "hibernate", Status.ONLINE, Status.DEGRADED)
STOPPED: Final = _move(Status.HIBERNATED, "stopped", Status.HIBERNATING)

REMOVED: Final = _move(
    Status.REMOVED, "remove", *(each for each in Status if each is not Status.REMOVED)
)

MOVES: Final = (
    SEEN,
    WELL_AGAIN,
    UNWELL,
    REGISTERED,
    EXTERNAL_SILENT,
    SILENT,
    PROVISION_FAILED,
    DIED,
    CRASHED,
    RESTARTED,
    AUTO_RESTARTED,
    RESUMED,
    RESUMED_EXTERNAL,
    WOKEN,
    HIBERNATE,
    STOPPED,
    PAUSED,
    REMOVED,
)

# How a new row may begin.
INITIAL: Final = frozenset(
    {Status.PROVISIONING, Status.AWAITING_AGENT, Status.ONLINE, Status.FAILED}
)


def _permitted(moves: Iterable[Move]) -> dict[Status, frozenset[Status]]:
    return {
        target: frozenset().union(*(each.sources for each in moves if each.target is target))
        for target in Status
    }


# By target, the states that some move to it may leave.
PERMITTED: Final[Mapping[Status, frozenset[Status]]] = _permitted(MOVES)
