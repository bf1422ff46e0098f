"""The endpoint: HTTP around the protocol, and how much of it a token may have."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from uuid import UUID

import mcp_types as mcp
import pydantic_core
from google.api import httpbody_pb2
from moleculeai.delegation.v1 import delegation_service_pb2 as pb

from molecule_grpc.auth.authenticator import Authenticator
from molecule_grpc.auth.policy import OWN
from molecule_grpc.auth.tokens import digest
from molecule_grpc.db.pool import translate
from molecule_grpc.db.wakeups import Flag
from molecule_grpc.faces.mcp.limits import RateLimit
from molecule_grpc.faces.mcp.messages import Messages
from molecule_grpc.faces.mcp.ports import Platform
from molecule_grpc.faces.mcp.protocol import Answer, Protocol, postponed, refusal
from molecule_grpc.faces.mcp.tasks import Tasks
from molecule_grpc.faces.mcp.tools import Caller
from molecule_grpc.kernel.errors import Exhausted, MoleculeError
from molecule_grpc.server.call import Call
from molecule_grpc.server.status import render
from molecule_grpc.server.streams import StreamGuards
from molecule_grpc.settings.settings import Settings

# Messages of a token in a minute.
MESSAGES_PER_MINUTE = 120
BATCH_MESSAGES = 20
# The answers to a batch travel in one message: beyond this size its other messages are not served.
BATCH_BYTES = 2 * 1024 * 1024

_ORIGINAL_METHOD = "x-envoy-original-method"


class Endpoint:
    """Serves agents that speak the Model Context Protocol."""

    def __init__(
        self,
        platform: Platform,
        authenticator: Authenticator,
        guards: StreamGuards,
        settings: Settings,
    ) -> None:
        messages = Messages(platform, self._admit)
        self._protocol = Protocol(
            [*Tasks(platform).tools(), *messages.tools(speaks=settings.faces.mcp_send_message)]
        )
        self._authenticator = authenticator
        self._guards = guards
        self._limit = None if settings.deployment.development else RateLimit(MESSAGES_PER_MINUTE)

    async def call(self, request: pb.CallMcpRequest, call: Call) -> httpbody_pb2.HttpBody:
        """Answer what was posted: one message, or a batch of them.

        Raises:
            Exhausted: the token has sent too many, and the caller reads statuses of gRPC.
        """
        if call.metadata.get(_ORIGINAL_METHOD, "POST") != "POST":
            # What the protocol wants to hear of a server that starts no messages itself.
            call.headers["allow"] = "POST"
            return _http(call, 405, {"error": "send messages with POST"})
        posted = _read(request.body.data)
        messages = len(posted) if isinstance(posted, list) else 1
        if refused := self._over_limit(call, messages):
            return refused
        caller = Caller(request.workspace_id, call)
        if isinstance(posted, Answer):
            answer = posted
        elif isinstance(posted, list):
            return await self._batch(posted, caller)
        else:
            answer = await self._protocol.answer(posted, call.metadata, caller)
        return _http(call, answer.status, answer.body)

    async def stream(
        self, request: pb.StreamMcpRequest, call: Call
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        """Tell where to post, and stay."""
        yield _event("endpoint", f"/workspaces/{request.workspace_id}/mcp")
        try:
            async for ping in self._pings(UUID(request.workspace_id), call):
                yield ping
        except Exception as error:
            known = error if isinstance(error, MoleculeError) else translate(error)
            if known is None:
                raise
            failure = render(known)
            end = {"code": failure.code, "reason": failure.reason, "message": failure.message}
            yield _event("end", json.dumps(end, separators=(",", ":")))
            raise known from error

    async def _pings(self, workspace_id: UUID, call: Call) -> AsyncIterator[httpbody_pb2.HttpBody]:
        """Signs of life until the server stops, the stream is old or its token is revoked."""
        with self._guards.watch(Flag(workspace_id), call) as guard:
            while True:
                guard.check()
                if guard.over:
                    raise guard.drained_error()
                if guard.beat_due():
                    yield _sse(": ping\n\n")
                await guard.wait()

    async def _batch(self, posted: list[object], caller: Caller) -> httpbody_pb2.HttpBody:
        """Answer messages one after the other, as long as the answers fit into one."""
        answers: list[bytes] = []
        size = 0
        for raw in posted:
            if size > BATCH_BYTES:
                answer = postponed(raw)
            else:
                answer = await self._protocol.answer(raw, caller.call.metadata, caller)
            if answer.body is not None:
                answers.append(_encoded(answer.body))
                size += len(answers[-1])
        if not answers:
            return _http(caller.call, 202, None)
        return _json(b"[" + b",".join(answers) + b"]")

    async def _admit(self, call: Call) -> None:
        """Raise unless the token of a call is still good."""
        await self._authenticator.identify(OWN, call.metadata.get("authorization"))

    def _over_limit(self, call: Call, messages: int) -> httpbody_pb2.HttpBody | None:
        """Count what a token sends; how it reads that these were too many."""
        authorization = call.metadata.get("authorization")
        if self._limit is None or authorization is None:
            return None
        # The token as the authenticator reads it: no spelling of the header has windows of its own.
        token = authorization.partition(" ")[2].strip()
        reading = self._limit.charge(digest(token), messages)
        call.headers |= reading.headers
        if reading.allowed:
            return None
        if not call.rest:
            raise Exhausted("too many requests", retry_after=reading.reset_seconds)
        call.headers["retry-after"] = str(reading.reset_seconds)
        body = {"error": "too many requests", "retry_after": reading.reset_seconds}
        return _http(call, 429, body)


def _read(data: bytes) -> object | Answer:
    """What was posted; the answer to it where it is neither a message nor a batch."""
    try:
        posted: object = pydantic_core.from_json(data, allow_inf_nan=False)
    except ValueError:
        return refusal(mcp.PARSE_ERROR, "the body is not JSON")
    if isinstance(posted, list) and not 0 < len(posted) <= BATCH_MESSAGES:
        return refusal(mcp.INVALID_REQUEST, f"a batch holds 1 to {BATCH_MESSAGES} messages")
    return posted


def _http(call: Call, status: int, body: object) -> httpbody_pb2.HttpBody:
    if status != 200:
        call.set_http_status(status)
    return _json(b"" if body is None else _encoded(body))


def _encoded(body: object) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def _json(data: bytes) -> httpbody_pb2.HttpBody:
    return httpbody_pb2.HttpBody(content_type="application/json", data=data)


def _sse(text: str) -> httpbody_pb2.HttpBody:
    return httpbody_pb2.HttpBody(content_type="text/event-stream", data=text.encode())


def _event(name: str, data: str) -> httpbody_pb2.HttpBody:
    return _sse(f"event: {name}\ndata: {data}\n\n")
