"""A workspace's own connection: what the registry hears of it, and a look at its inbox."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Self

from google.protobuf import json_format, struct_pb2
from moleculeai.delegation.v1 import delegation_service_pb2 as delegation_pb
from moleculeai.workspace.v1 import workspace_pb2
from moleculeai.workspace.v1 import workspace_service_pb2 as pb

from molecule_grpc.client.connection import DEFAULT_TIMEOUT, Connection
from molecule_grpc.client.inbox import Inbox

_MODE = workspace_pb2.Workspace.DeliveryMode


class Member:
    """One workspace among others. Used as an async context manager."""

    def __init__(
        self,
        url: str,
        workspace_id: str,
        token: str,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        root_certificates: bytes | None = None,
    ) -> None:
        self.workspace_id = workspace_id
        self.connection = Connection(
            url, token, timeout=timeout, root_certificates=root_certificates
        )
        self.current_task = ""
        self._started = time.monotonic()
        self._inboxes: set[Inbox] = set()

    async def __aenter__(self) -> Self:
        await self.connection.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        for inbox in tuple(self._inboxes):
            await inbox.close()
        await self.connection.__aexit__()

    async def register(
        self, card: Mapping[str, Any] | None = None, url: str | None = None
    ) -> pb.RegisterResponse:
        """Announce the agent: its A2A card, and where it listens. Without a URL it is polled.

        A token in the answer is used from here on.
        """
        request = pb.RegisterRequest(
            id=self.workspace_id,
            agent_card=json_format.ParseDict(dict(card or {}), struct_pb2.Value()),
            url=url or "",
            delivery_mode=_MODE.push if url else _MODE.poll,
        )
        # Without a token the answer may hold one, and is shown once.
        retry = bool(self.connection.token)
        answer = await self.connection.call(
            self.connection.workspaces.Register, request, retry=retry
        )
        if answer.auth_token:
            self.connection.token = answer.auth_token
        return answer

    async def heartbeat(self, **fields: Any) -> pb.HeartbeatResponse:
        """Give a sign of life. An open inbox does it by itself, every 20 s.

        Args:
            **fields: of HeartbeatRequest, such as `error_rate` or `current_task`.
        """
        request = self._beat()
        request.MergeFrom(pb.HeartbeatRequest(**fields))
        return await self.connection.call(self.connection.workspaces.Heartbeat, request, retry=True)

    async def peers(self, q: str = "") -> list[workspace_pb2.Peer]:
        """Workspaces that this one may talk to, whose name or role contains `q`."""
        request = pb.ListPeersRequest(workspace_id=self.workspace_id, q=q)
        answer = await self.connection.call(
            self.connection.workspaces.ListPeers, request, retry=True
        )
        return list(answer.peers)

    async def pull(
        self, *, after_seq: int | None = None, limit: int = 20, wait: int = 0
    ) -> delegation_pb.PullInboxResponse:
        """Look at undone items, without holding the inbox. `wait` is in seconds, 0 to 55."""
        request = delegation_pb.PullInboxRequest(
            workspace_id=self.workspace_id, after_seq=after_seq, limit=limit, wait_seconds=wait
        )
        stub = self.connection.delegations.PullInbox
        return await self.connection.call(
            stub, request, retry=True, timeout=wait + self.connection.timeout
        )

    async def ack(self, seqs: Sequence[int]) -> None:
        """Say that items are done, without holding the inbox; at most 1000."""
        request = delegation_pb.AckInboxRequest(workspace_id=self.workspace_id, seqs=seqs)
        await self.connection.call(self.connection.delegations.AckInbox, request, retry=True)

    def _beat(self) -> pb.HeartbeatRequest:
        return pb.HeartbeatRequest(
            workspace_id=self.workspace_id,
            active_tasks=sum(len(inbox.open_items) for inbox in self._inboxes),
            uptime_seconds=int(time.monotonic() - self._started),
            current_task=self.current_task,
        )
