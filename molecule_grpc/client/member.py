"""A workspace on its own channel: registration, heartbeats, peers, and a look at the inbox."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Self

from google.protobuf import json_format, struct_pb2
from moleculeai.delegation.v1 import delegation_service_pb2 as delegation_pb
from moleculeai.workspace.v1 import workspace_pb2
from moleculeai.workspace.v1 import workspace_service_pb2 as pb

from molecule_grpc.client.connection import DEFAULT_TIMEOUT, ClientCertificate, Connection
from molecule_grpc.client.inbox import Inbox

_PAGE = 500
_MODE = workspace_pb2.Workspace.DeliveryMode


class Member:
    """One workspace among others; `Agent` is its whole interface."""

    def __init__(
        self,
        url: str,
        workspace_id: str,
        token: str,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        root_certificates: bytes | None = None,
        client_certificate: ClientCertificate | None = None,
    ) -> None:
        self.workspace_id = workspace_id
        self.connection = Connection(
            url,
            token,
            timeout=timeout,
            root_certificates=root_certificates,
            client_certificate=client_certificate,
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
        """Announce the agent. A token in the answer is used from here on.

        Args:
            card: the agent's A2A card, any JSON.
            url: where the agent listens, at most 2048 bytes; None for an agent that reads its
                inbox.

        Raises:
            InvalidArgument: URL_NOT_ALLOWED: the platform must not call this address.
            NotFound: WORKSPACE_REMOVED, or WORKSPACE_NOT_FOUND.
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
        """Give a sign of life. An open inbox does so by itself, every 20 s.

        Args:
            **fields: of HeartbeatRequest, such as `error_rate` (0 to 1) or `current_task` (at most
                8192 bytes).

        Raises:
            NotFound: the workspace is gone.
        """
        request = self._beat()
        request.MergeFrom(pb.HeartbeatRequest(**fields))
        return await self.connection.call(self.connection.workspaces.Heartbeat, request, retry=True)

    async def peers(self, q: str = "") -> list[workspace_pb2.Peer]:
        """The parent, children and siblings whose name or role contains `q`, in any case, by name.

        Read in pages of 500.
        """
        request = pb.ListPeersRequest(workspace_id=self.workspace_id, q=q, limit=_PAGE)
        pages = self.connection.pages(self.connection.workspaces.ListPeers, request)
        return [peer async for page in pages for peer in page.peers]

    async def pull(
        self,
        *,
        after_seq: int | None = None,
        generation: str = "",
        limit: int = 20,
        wait: int = 0,
    ) -> delegation_pb.PullInboxResponse:
        """Look at undone items, oldest first, without holding the inbox.

        Args:
            after_seq: only items after this number; None for all.
            generation: of the answer that `after_seq` comes from; empty is not checked.
            limit: most items, 1 to 100.
            wait: seconds to wait for the first item, 0 to 55.

        Raises:
            OutOfRange: CURSOR_PRUNED, CURSOR_AHEAD or CURSOR_UNKNOWN: begin without `after_seq`.
        """
        request = delegation_pb.PullInboxRequest(
            workspace_id=self.workspace_id,
            after_seq=after_seq,
            generation=generation,
            limit=limit,
            wait_seconds=wait,
        )
        stub = self.connection.delegations.PullInbox
        return await self.connection.call(
            stub, request, retry=True, timeout=wait + self.connection.timeout
        )

    async def ack(self, seqs: Sequence[int], *, generation: str = "") -> None:
        """Mark items as done, without holding the inbox.

        Args:
            seqs: numbers of the items, at most 1000.
            generation: of the answer that the items come from; empty is not checked.

        Raises:
            OutOfRange: CURSOR_AHEAD or CURSOR_UNKNOWN: the numbers are not of this inbox, which
                was restored from a backup.
        """
        request = delegation_pb.AckInboxRequest(
            workspace_id=self.workspace_id, seqs=seqs, generation=generation
        )
        await self.connection.call(self.connection.delegations.AckInbox, request, retry=True)

    def _beat(self) -> pb.HeartbeatRequest:
        return pb.HeartbeatRequest(
            workspace_id=self.workspace_id,
            active_tasks=sum(len(inbox.open_items) for inbox in self._inboxes),
            uptime_seconds=int(time.monotonic() - self._started),
            current_task=self.current_task,
        )
