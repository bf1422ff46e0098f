"""The way of every call: authentication, access, validation, the handler, errors, metrics.

Nothing here knows the host. A host decodes a request, makes a `Call`, and gives both to `unary`,
`collect` or `stream`; an answer comes back as bytes, an error as a `CallFailure`, rendered for the
wire.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import structlog
from google.protobuf.message import Message

from molecule_grpc.auth.authenticator import Authenticator
from molecule_grpc.auth.policy import Policy
from molecule_grpc.auth.principal import Principal
from molecule_grpc.db.disk import DiskSpace
from molecule_grpc.db.pool import translate
from molecule_grpc.kernel.errors import Exhausted, Invalid, MoleculeError, Unavailable
from molecule_grpc.kernel.metered import call_meter, metered
from molecule_grpc.kernel.payer import STRANGERS_PAY, payer
from molecule_grpc.kernel.processor import Meter, ProcessorTurns
from molecule_grpc.kernel.sizes import MAX_ANSWER_BYTES
from molecule_grpc.server.audit import AuditLog
from molecule_grpc.server.call import Call
from molecule_grpc.server.methods import Method
from molecule_grpc.server.metrics import CallMetrics
from molecule_grpc.server.status import CallFailure, Code, render, render_bug
from molecule_grpc.server.validation import Validator

log = structlog.get_logger("molecule_grpc.call")


class Pipeline:
    """Serves calls of every method.

    Args:
        processor: decides whose calls may use the event loop now.
        max_answer_bytes: an answer, or a message of a stream, that is larger fails its call.
    """

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        validator: Validator,
        metrics: CallMetrics,
        audit: AuditLog,
        disk: DiskSpace,
        processor: ProcessorTurns,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
    ) -> None:
        self._authenticator = authenticator
        self._validator = validator
        self._metrics = metrics
        self._audit = audit
        self._disk = disk
        self._processor = processor
        self._max_answer_bytes = max_answer_bytes

    async def unary(self, method: Method, request: Message, call: Call) -> bytes:
        """Serve a unary call.

        Raises:
            CallFailure: the call ended without an answer.
        """
        started = time.perf_counter()
        code, reason = Code.CANCELLED, ""
        response: Message | None = None
        meter = self._processor.meter(STRANGERS_PAY)
        try:
            work = self._answer(method, request, request, call, meter)
            response, data = await metered(work, meter)
            code = Code.OK
            self._dress(method, call)
            return data
        except Exception as error:
            failure = self._failure(method, call, error)
            code, reason = failure.code, failure.reason
            raise failure from error
        finally:
            self._metrics.ended(method.path, code, time.perf_counter() - started)
            self._audit.ended(method.path, method.policy, request, call, code, reason, response)

    async def collect(self, method: Method, requests: AsyncIterator[Message], call: Call) -> bytes:
        """Serve a call with a stream of requests and one response. The first request is admitted.

        Raises:
            CallFailure: the call ended without an answer.
        """
        code, reason = Code.CANCELLED, ""
        first: Message | None = None
        meter = self._processor.meter(STRANGERS_PAY)
        try:
            first = await self._first(requests)
            source = self._checked(method, first, requests, meter)
            _, data = await metered(self._answer(method, first, source, call, meter), meter)
            code = Code.OK
            self._dress(method, call)
            return data
        except Exception as error:
            failure = self._failure(method, call, error)
            code, reason = failure.code, failure.reason
            raise failure from error
        finally:
            self._metrics.ended(method.path, code, None)
            self._audit.ended(method.path, method.policy, first, call, code, reason)

    async def stream(
        self, method: Method, requests: AsyncIterator[Message], call: Call
    ) -> AsyncGenerator[bytes, None]:
        """Serve a call that streams. The first request decides whether it is admitted.

        Raises:
            CallFailure: the call ended with an error.
        """
        code, reason = Code.CANCELLED, ""
        first: Message | None = None
        begun = False
        processor = self._processor
        meter = processor.meter(STRANGERS_PAY)
        try:
            first = await self._first(requests)
            await metered(self._admit(method, first, call, meter), meter)
            self._dress(method, call)
            source: Any = first
            if method.client_streaming:
                source = self._checked(method, first, requests, meter)
            # What the handler holds, such as an inbox, is free as soon as the call has ended.
            async with aclosing(method.handler(source, call)) as responses:
                while (response := await metered(anext(responses, None), meter)) is not None:
                    if not begun:
                        begun = True
                        self._audit.began(method.path, method.policy, first, call)
                    yield self._serialised(response)
                    if call.head:
                        break
                    if not processor.begins(meter):
                        await processor.message_turn(meter)
            code = Code.OK
        except Exception as error:
            failure = self._failure(method, call, error)
            code, reason = failure.code, failure.reason
            raise failure from error
        finally:
            self._metrics.ended(method.path, code, None)
            self._audit.ended(method.path, method.policy, first, call, code, reason, begun=begun)

    async def _first(self, requests: AsyncIterator[Message]) -> Message:
        first = await anext(requests, None)
        if first is None:
            raise Invalid("the stream ended before its first message")
        return first

    async def _answer(
        self, method: Method, first: Message, source: Any, call: Call, meter: Meter
    ) -> tuple[Message, bytes]:
        """Admit a call with one answer, and make the answer: the message, and its bytes."""
        await self._admit(method, first, call, meter)
        response: Message = await method.handler(source, call)
        return response, self._serialised(response)

    async def _admit(self, method: Method, request: Message, call: Call, meter: Meter) -> None:
        """Return when it is the turn of a call that may be made, or raise.

        Who may not make it learns nothing of the request.
        """
        authenticator, policy = self._authenticator, method.policy
        if policy.caller:
            _require_named_caller(policy, request, call)
        known = authenticator.recall(policy, call.authorization)
        call.principal = known or await self._identify(policy, call)
        who = call.principal.payer
        payer.set(who)
        if policy.workspace and not authenticator.is_own(policy, call.principal, request):
            workspace_id = await authenticator.require_access(policy, call.principal, request)
            if workspace_id is not None:
                who = who._replace(workspace=workspace_id)
                payer.set(who)
        call.admitted = True
        self._processor.charge(meter, who)
        if not self._processor.begins(meter):
            await self._processor.turn(meter)
        call_meter.set(meter)
        self._validator.check(request)
        if policy.stores:
            self._disk.require_room()

    async def _identify(self, policy: Policy, call: Call) -> Principal:
        """As whom the call is made, where that takes a lookup or a refusal."""
        authenticator = self._authenticator
        # Looking a token up is the strangers' work until its holder is known.
        payer.set(STRANGERS_PAY)
        holder = await authenticator.holder(policy, call.authorization, call.metadata)
        if holder is not None:
            call.principal = holder  # also where the next line refuses the call: for the audit log
        return await authenticator.admit(policy, holder, call.authorization, call.metadata)

    async def _checked(
        self, method: Method, first: Message, rest: AsyncIterator[Message], meter: Meter
    ) -> AsyncIterator[Message]:
        yield first
        async for request in rest:
            if not self._processor.begins(meter):
                await self._processor.message_turn(meter)
            self._validator.check(request)
            if method.policy.stores:
                self._disk.require_room()
            yield request

    def _serialised(self, response: Message) -> bytes:
        """The bytes of an answer. Raises for one that the host would drop, counted as OK."""
        data: bytes = response.SerializeToString()
        if len(data) > self._max_answer_bytes:
            raise Exhausted(
                f"the answer exceeds {self._max_answer_bytes} bytes",
                reason="ANSWER_TOO_LARGE",
                metadata={"max": str(self._max_answer_bytes)},
            )
        return data

    def _dress(self, method: Method, call: Call) -> None:
        if call.rest:
            for name, value in method.face_headers.items():
                call.headers.setdefault(name, value)
        elif call.headers:
            call.headers.pop("x-http-code", None)

    def _failure(self, method: Method, call: Call, error: Exception) -> CallFailure:
        if isinstance(error, CallFailure):
            return error
        if isinstance(error, MoleculeError):
            return self._expected(method, call, error, error.__cause__)
        if outage := translate(error):
            return self._expected(method, call, outage, error)
        if isinstance(error, TimeoutError):
            late = Unavailable("the server is too busy, try again", retry_after=1)
            return self._expected(method, call, late, error)
        incident = uuid.uuid4().hex[:12]
        log.error(
            "call failed",
            rpc=method.path,
            **call.names,
            incident=incident,
            exc_info=error,
        )
        return render_bug(incident)

    def _expected(
        self, method: Method, call: Call, error: MoleculeError, cause: BaseException | None
    ) -> CallFailure:
        failure = render(error)
        if failure.code is Code.UNAVAILABLE:
            log.warning(
                "call unavailable",
                rpc=method.path,
                **call.names,
                reason=error.reason,
                cause=type(cause).__name__ if cause else None,
            )
        return failure


def _require_named_caller(policy: Policy, request: Message, call: Call) -> None:
    """Raise unless a REST call says who asks, where that must be said. Tells nothing of anybody."""
    if call.rest and not (getattr(request, policy.caller) or call.caller):
        raise Invalid("X-Workspace-ID header is required", field=policy.caller)
