"""An agent: all that a workspace does, over one gRPC channel."""

from __future__ import annotations

import json
import socket
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.api import httpbody_pb2
from moleculeai.delegation.v1 import delegation_pb2
from moleculeai.delegation.v1 import delegation_service_pb2 as pb

from molecule_grpc.client.files import DEFAULT_FOLDER, Files
from molecule_grpc.client.inbox import Inbox
from molecule_grpc.client.items import Item
from molecule_grpc.client.memory import Memory
from molecule_grpc.client.serve import Handler, Server
from molecule_grpc.client.source import Source

_REPLIES = uuid.UUID("6a6e0b7c-5d0f-4a52-9c3e-0d8f5a3f3c11")
_STATUS = delegation_pb2.Delegation.Status


class Agent(Source):
    """One workspace, as its agent. Used as an async context manager.

    Every call may raise any kind of `CallError`; each method names the kinds that are its own. A
    call that does no harm when repeated is tried again, with growing waits, until `timeout` seconds
    have passed (30 by default); `notify` is the exception.

    Args:
        url: `http://host:port`, `https://host`, `host:port` or `unix:/path`.
        workspace_id: UUID of the workspace.
        token: the workspace's own, or one that administers it; empty for an agent that registers
            and is given its token.
        timeout: seconds for a call with all its attempts.
        root_certificates: PEM of the authority that signed the platform's certificate; None for the
            system's.
        client_certificate: shown to a platform that asks its clients for one.

    Raises:
        ValueError: the URL is none of these.
    """

    def inbox(
        self,
        *,
        max_in_flight: int = 16,
        consumer_id: str | None = None,
        takeover: bool = False,
        heartbeat_every: float | None = 20.0,
    ) -> Inbox:
        """Hold the inbox: `async for item in agent.inbox()`.

        The inbox raises in the loop: see `Inbox`.

        Args:
            max_in_flight: most items received and not done, 1 to 256.
            consumer_id: names this consumer, at most 128 bytes; None for the program and host, so
                that a restarted program takes its old place at once.
            takeover: take the inbox from another consumer, once.
            heartbeat_every: seconds between the workspace's heartbeats; None sends none.
        """
        inbox = Inbox(
            self.connection,
            self.workspace_id,
            consumer_id=consumer_id or default_consumer(),
            max_in_flight=max_in_flight,
            takeover=takeover,
            heartbeat=self._beat if heartbeat_every else None,
            heartbeat_every=heartbeat_every or 0.0,
            on_close=self._inboxes.discard,
        )
        self._inboxes.add(inbox)
        return inbox

    @property
    def memory(self) -> Memory:
        """The agent's memories, and its keys with values."""
        return Memory(self.connection, self.workspace_id)

    def files(self, folder: Path = DEFAULT_FOLDER) -> Files:
        """Files that others send to this agent.

        Args:
            folder: where received files are written; made with mode 0700 if missing.
        """
        return Files(self.connection, self.workspace_id, folder)

    async def serve(
        self,
        handler: Handler,
        *,
        concurrency: int = 4,
        consumer_id: str | None = None,
        takeover: bool = False,
        beat_every: float = 20.0,
        files: Files | None = None,
    ) -> None:
        """Act on items as they come, until cancelled.

        A handler that returns acks its item. For a task, the text that the handler returns is the
        result (at most 1 MiB); None means that the handler has replied, or will. `TaskFailed` fails
        the task. Any other error gives the item back, to come again after 2 s, 4 s and so on, at
        most 300 s; the fifth failed delivery makes the item poison. A task that ends meanwhile,
        because its source cancels it or it is overdue, cancels its handler.

        Args:
            handler: called with each item.
            concurrency: most handlers at once, 1 to 256.
            consumer_id: as for `inbox`.
            takeover: as for `inbox`.
            beat_every: seconds between signs of work on each task.
            files: receives the files that come; handlers then see messages that name files by
                their local paths. Without `files`, handlers get the notices of files as items.

        Raises:
            InboxBusy: another consumer holds the inbox.
            Fenced: another consumer took the inbox over.
            Unauthenticated: the token is not valid, or not any more.
            NotFound: the workspace is gone.
        """
        inbox = self.inbox(max_in_flight=concurrency, consumer_id=consumer_id, takeover=takeover)
        await Server(self, inbox, handler, beat_every=beat_every, files=files).run(concurrency)

    async def send(
        self, target_id: str, text: str, *, metadata: Mapping[str, Any] | None = None
    ) -> Any:
        """Send a message to a workspace; the answer of the platform or of the agent as JSON.

        A retry of this call makes no second message.

        Args:
            target_id: UUID of the workspace; only parent, children and siblings may be written to.
            text: at most 1 MiB with what stands around it.
            metadata: JSON that travels with the message.

        Raises:
            PermissionDenied: NOT_RELATED.
            NotFound: WORKSPACE_NOT_FOUND.
            ResourceExhausted: INBOX_FULL or QUEUE_FULL.
            Unavailable: the agent cannot be reached.
        """
        return await self._send(target_id, text, str(uuid.uuid4()), metadata or {})

    async def notify(self, text: str) -> None:
        """Show a text to the human, at most 1 MiB.

        Not tried again on failure: the human may have read the text already.
        """
        request = pb.NotifyRequest(workspace_id=self.workspace_id, message=text)
        await self.connection.call(self.connection.delegations.Notify, request, retry=False)

    async def reply(self, item: Item, text: str, *, timeout: float | None = None) -> bool:
        """Answer an item: complete its delegation, write to the peer, or speak to the human.

        Args:
            item: from this agent's inbox.
            text: at most 1 MiB.
            timeout: seconds for all attempts together; `math.inf` for ever, None for 30.

        Returns:
            Whether the delegation took this result: it keeps the first one. True for messages.

        Raises:
            InvalidArgument: the text is too long.
            NotFound: the delegation is unknown, or this agent is no party of it.
        """
        if item.is_task:
            return await self._update(item, timeout, result=text)
        if item.from_human:
            await self.notify(text)
        else:
            # The same answer to the same item is one message, however often it is sent.
            message_id = str(uuid.uuid5(_REPLIES, f"{self.workspace_id} {item.message_id} {text}"))
            await self._send(item.source_id, text, message_id, {"in_reply_to": item.message_id})
        return True

    async def fail(self, item: Item, error: str, *, timeout: float | None = None) -> bool:
        """End the delegation of an item as failed; whether the delegation took this end.

        Args:
            item: a task from this agent's inbox.
            error: shown to the source, at most 1 MiB.
            timeout: seconds for all attempts together; `math.inf` for ever, None for 30.

        Raises:
            ValueError: the item is not a task.
            NotFound: the delegation is unknown, or this agent is no party of it.
        """
        if not item.is_task:
            raise ValueError(f"{item.method} is not a task")
        return await self._update(item, timeout, error=error or "failed")

    async def beat(
        self, delegation_id: str, note: str | None = None, percent: int | None = None
    ) -> str:
        """Give a sign of work on a delegation; its status now.

        Args:
            delegation_id: of a task of this agent.
            note: progress for watchers, at most 1000 bytes; None keeps the last note.
            percent: progress, 0 to 100; None keeps the last value.

        Raises:
            NotFound: the delegation is unknown, or this agent is no party of it.
        """
        request = pb.HeartbeatDelegationRequest(
            workspace_id=self.workspace_id, delegation_id=delegation_id, note=note, percent=percent
        )
        stub = self.connection.delegations.HeartbeatDelegation
        answer = await self.connection.call(stub, request, retry=True)
        return _STATUS.Name(answer.status)

    async def _send(
        self, target_id: str, text: str, message_id: str, metadata: Mapping[str, Any]
    ) -> Any:
        message = {
            "role": "user",
            "messageId": message_id,
            "parts": [{"kind": "text", "text": text}],
            "metadata": dict(metadata),
        }
        body = {
            "jsonrpc": "2.0",
            "id": message_id,
            "method": "message/send",
            "params": {"message": message},
        }
        request = pb.SendMessageRequest(
            workspace_id=target_id,
            source_id=self.workspace_id,
            body=httpbody_pb2.HttpBody(
                content_type="application/json", data=json.dumps(body).encode()
            ),
        )
        stub = self.connection.delegations.SendMessage
        answer = await self.connection.call(stub, request, retry=True)
        return json.loads(answer.data or b"null")

    async def _update(
        self, item: Item, timeout: float | None, *, result: str = "", error: str = ""
    ) -> bool:
        request = pb.UpdateDelegationRequest(
            workspace_id=self.workspace_id,
            delegation_id=item.delegation_id,
            status=_STATUS.failed if error else _STATUS.completed,
            error=error,
            response_preview=result,
        )
        stub = self.connection.delegations.UpdateDelegation
        return (await self.connection.call(stub, request, retry=True, timeout=timeout)).applied


def default_consumer() -> str:
    """The program and the host, as `program@host`: the same again after a restart."""
    program = Path(sys.argv[0]).stem or "python"
    return f"{program}@{socket.gethostname()}"[:128]
