"""The endpoint: HTTP around the protocol, and how much of it a token may have."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from uuid import UUID

import mcp_types as mcp
import pydantic_core

from molecule_grpc.auth.authenticator import Authenticator
from molecule_grpc.auth.policy import OWN
from molecule_grpc.auth.tokens import digest
from molecule_grpc.db.disk import DiskSpace
from molecule_grpc.db.wakeups import Flag
from molecule_grpc.faces.mcp.limits import RateLimit
from molecule_grpc.faces.mcp.memories import MemoryTools
from molecule_grpc.faces.mcp.messages import Messages
from molecule_grpc.faces.mcp.protocol import Answer, Protocol, postponed, refusal
from molecule_grpc.faces.mcp.tasks import Tasks
from molecule_grpc.faces.mcp.tools import Caller
from molecule_grpc.faces.port import Platform
from molecule_grpc.kernel.errors import Exhausted
from molecule_grpc.kernel.text import broken_text
from molecule_grpc.server.call import Call
from molecule_grpc.server.status import CallFailure
from molecule_grpc.server.streams import StreamGuards, with_end

# Messages of a token in a minute, at one worker.
MESSAGES_PER_MINUTE = 120
BATCH_MESSAGES = 20
# The answers to a batch travel in one message: beyond this size its other messages are not served.
BATCH_BYTES = 2 * 1024 * 1024

_ORIGINAL_METHOD = "x-envoy-original-method"


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What a POST is answered with. The body is JSON, or empty."""

    status: int
    body: bytes


class Endpoint:
    """Serves agents that speak the Model Context Protocol.

    Args:
        speaks: whether agents may speak to the human.
        limited: whether a token may send only so many messages a minute.
    """

    def __init__(
        self,
        platform: Platform,
        authenticator: Authenticator,
        guards: StreamGuards,
        disk: DiskSpace,
        *,
        speaks: bool,
        limited: bool,
    ) -> None:
        messages = Messages(platform, self._admit)
        tools = [
            *Tasks(platform).tools(),
            *MemoryTools(platform).tools(),
            *messages.tools(speaks=speaks),
        ]
        self._protocol = Protocol(tools, disk)
        self._authenticator = authenticator
        self._guards = guards
        self._limit = RateLimit(MESSAGES_PER_MINUTE) if limited else None

    async def answer(self, workspace_id: UUID, data: bytes, call: Call) -> HttpAnswer:
        """Answer what was posted: one message, or a batch of them.

        Raises:
            Exhausted: the token has sent too many messages, and the caller speaks gRPC.
        """
        if call.metadata.get(_ORIGINAL_METHOD, "POST") != "POST":
            # The protocol asks for 405 from a server that starts no messages itself.
            call.headers["allow"] = "POST"
            return _answer(405, {"error": "send messages with POST"})
        posted = _read(data)
        messages = len(posted) if isinstance(posted, list) else 1
        if refused := self._over_limit(call, messages):
            return refused
        caller = Caller(workspace_id, call)
        if isinstance(posted, list):
            return await self._batch(posted, caller)
        if isinstance(posted, Answer):
            answer = posted
        else:
            answer = await self._protocol.answer(posted, call.metadata, caller)
        return _answer(answer.status, answer.body)

    def events(self, workspace_id: UUID, call: Call) -> AsyncGenerator[str, None]:
        """Server-sent events that tell an older client where to post, and stay open.

        The stream ends when the server stops, when it is old, or when its token is revoked.
        """
        return with_end(self._events(workspace_id, call), _end)

    async def _events(self, workspace_id: UUID, call: Call) -> AsyncGenerator[str, None]:
        with self._guards.watch(Flag(workspace_id), call) as guard:
            yield _event("endpoint", f"/workspaces/{workspace_id}/mcp")
            while True:
                guard.check()
                if guard.over:
                    raise guard.drained_error()
                if guard.beat_due():
                    yield ": ping\n\n"
                await guard.wait()

    async def _batch(self, posted: list[object], caller: Caller) -> HttpAnswer:
        """Answer messages one after the other, until the answers exceed `BATCH_BYTES`.

        Raises:
            Unauthenticated: the token was revoked while an earlier message was served.
        """
        answers: list[bytes] = []
        size = 0
        for raw in posted:
            await self._admit(caller.call)
            if size > BATCH_BYTES:
                answer = postponed(raw)
            else:
                answer = await self._protocol.answer(raw, caller.call.metadata, caller)
            if answer.body is not None:
                answers.append(_encoded(answer.body))
                size += len(answers[-1])
        if not answers:
            return _answer(202, None)
        return HttpAnswer(200, b"[" + b",".join(answers) + b"]")

    async def _admit(self, call: Call) -> None:
        """Raise unless the token of a call is still good."""
        await self._authenticator.identify(OWN, call.authorization, call.metadata)

    def _over_limit(self, call: Call, messages: int) -> HttpAnswer | None:
        """Count what a token sends; the answer when these messages were too many."""
        if self._limit is None or call.authorization is None:
            return None
        # The token as the authenticator reads it: no spelling of the header has windows of its own.
        token = call.authorization.partition(" ")[2].strip()
        state = self._limit.charge(digest(token), messages)
        call.headers |= state.headers
        if state.allowed:
            return None
        if not call.rest:
            raise Exhausted("too many requests", retry_after=state.reset_seconds)
        call.headers["retry-after"] = str(state.reset_seconds)
        body = {"error": "too many requests", "retry_after": state.reset_seconds}
        return _answer(429, body)


def _read(data: bytes) -> object | Answer:
    """The message or batch that was posted; the answer where the body is neither."""
    try:
        posted: object = pydantic_core.from_json(data, allow_inf_nan=False)
    except ValueError:
        return _unreadable(data)
    if isinstance(posted, list) and not 0 < len(posted) <= BATCH_MESSAGES:
        return refusal(mcp.INVALID_REQUEST, f"a batch holds 1 to {BATCH_MESSAGES} messages")
    return posted


def _unreadable(data: bytes) -> Answer:
    """Why a body cannot be read: its JSON is malformed, or a text in it is no text."""
    posted: object = None
    try:
        posted = json.loads(data)
        where = broken_text(posted)
    except (ValueError, RecursionError):
        where = None
    if where is None:
        return refusal(mcp.PARSE_ERROR, "the body is not JSON")
    return refusal(
        mcp.INVALID_REQUEST, f"{where} holds a lone surrogate, half of a character", posted
    )


def _answer(status: int, body: object) -> HttpAnswer:
    return HttpAnswer(status, b"" if body is None else _encoded(body))


def _encoded(body: object) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def _end(failure: CallFailure) -> str:
    end = {"code": failure.code, "reason": failure.reason, "message": failure.message}
    return _event("end", json.dumps(end, separators=(",", ":")))


def _event(name: str, data: str) -> str:
    return f"event: {name}\ndata: {data}\n\n"
