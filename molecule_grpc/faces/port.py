"""The port of all faces: the use cases of the slices, on values.

The RPCs' own handlers call the same use cases, so every face behaves alike.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

from molecule_grpc.delegation.inbox.inbox import Inbox
from molecule_grpc.delegation.ledger.handover import Handovers
from molecule_grpc.delegation.ledger.moves import Moves
from molecule_grpc.delegation.ledger.views import LedgerViews
from molecule_grpc.delegation.record.activity import ActivityRecord
from molecule_grpc.delegation.wiring import DelegationSlice
from molecule_grpc.directory import Directory, Heartbeat, HeartbeatResult, Peer
from molecule_grpc.memory.memories import Memories
from molecule_grpc.memory.scoped import ScopedMemories
from molecule_grpc.memory.wiring import MemorySlice
from molecule_grpc.workspace.wiring import WorkspaceSlice


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """The use cases that faces share. Requests are validated by the face, once.

    Args:
        directory: who is there, and who may talk to whom.
        heartbeat: applies a workspace's heartbeat.
        peers: a workspace's first so many neighbours whose name or role contains a text.
        handovers: accepts delegations.
        moves: reports on delegations.
        views: reads the ledger.
        inbox: what a workspace must act on.
        activity: a workspace's record.
        memories: what agents remember.
        scoped_memories: the same for clients that know scopes.
    """

    directory: Directory
    heartbeat: Callable[[Heartbeat], Awaitable[HeartbeatResult]]
    peers: Callable[[UUID, str, int], Awaitable[list[Peer]]]
    handovers: Handovers
    moves: Moves
    views: LedgerViews
    inbox: Inbox
    activity: ActivityRecord
    memories: Memories
    scoped_memories: ScopedMemories


def platform_of(
    workspace: WorkspaceSlice, delegation: DelegationSlice, memory: MemorySlice
) -> Platform:
    """The use cases of these slices."""
    return Platform(
        directory=workspace.directory,
        heartbeat=workspace.heartbeat,
        peers=workspace.peers,
        handovers=delegation.ledger.handovers,
        moves=delegation.ledger.moves,
        views=delegation.ledger.views,
        inbox=delegation.inbox,
        activity=delegation.activity,
        memories=memory.memories,
        scoped_memories=memory.scoped,
    )
