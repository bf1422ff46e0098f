"""What the slice needs of others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from google.protobuf.message import Message
from moleculeai.delegation.v1 import activity_pb2, delegation_pb2
from moleculeai.delegation.v1 import delegation_service_pb2 as pb
from moleculeai.workspace.v1 import workspace_service_pb2 as workspace_pb

from molecule_grpc.directory import WorkspaceInfo
from molecule_grpc.server.call import Call

Request = TypeVar("Request", bound=Message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """The use cases behind the tools: those of the RPCs, so that both behave alike.

    Args:
        check: raises `Invalid` unless a request keeps the rules of its proto.
        lookup: a workspace that is not removed; None when there is none.
    """

    check: Callable[[Message], None]
    lookup: Callable[[UUID], Awaitable[WorkspaceInfo | None]]
    heartbeat: Callable[[workspace_pb.HeartbeatRequest], Awaitable[workspace_pb.HeartbeatResponse]]
    list_peers: Callable[
        [workspace_pb.ListPeersRequest, Call], Awaitable[workspace_pb.ListPeersResponse]
    ]
    delegate: Callable[[pb.DelegateRequest, Call], Awaitable[pb.DelegateResponse]]
    update: Callable[[pb.UpdateDelegationRequest], Awaitable[pb.UpdateDelegationResponse]]
    get: Callable[[pb.GetDelegationRequest], Awaitable[delegation_pb2.Delegation]]
    pull: Callable[[pb.PullInboxRequest, Call], Awaitable[pb.PullInboxResponse]]
    ack: Callable[[pb.AckInboxRequest], Awaitable[pb.AckInboxResponse]]
    list_activity: Callable[[pb.ListActivityRequest], Awaitable[pb.ListActivityResponse]]
    get_activity: Callable[[pb.GetActivityRequest], Awaitable[activity_pb2.Activity]]
    notify: Callable[[pb.NotifyRequest], Awaitable[pb.NotifyResponse]]

    def checked(self, request: Request) -> Request:
        """The request itself, once it is checked."""
        self.check(request)
        return request
