"""Calls an agent at its URL, and says what became of the call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from uuid import UUID

import aiohttp
import structlog
from prometheus_client import Counter

from molecule_grpc.delegation.outbound import replies
from molecule_grpc.delegation.outbound.call_failures import (
    CONNECT_SECONDS,
    EXCERPT_CHARS,
    Progress,
    Silent,
    TooLarge,
    error_answer,
    failure_of,
    milliseconds,
    seconds,
)
from molecule_grpc.delegation.outbound.outcome import Delivered, Failed, NotSent, SendFailure
from molecule_grpc.directory import (
    ASLEEP,
    Containers,
    NoContainers,
    OnTokens,
    WorkspaceInfo,
    no_tokens,
)
from molecule_grpc.egress import CheckedUrl, Egress, Unresolvable, connector
from molecule_grpc.kernel.errors import Exhausted, Invalid
from molecule_grpc.settings.outbound import OutboundSettings

log = structlog.get_logger(__name__)

_DISPATCHED = Counter(
    "molecule_a2a_dispatch_total", "Messages sent to agents' URLs, by what became of them.",
    ["outcome"],
)  # fmt: skip
_OUTCOMES = {
    name: _DISPATCHED.labels(name) for name in ("delivered", "refused", *map(str, SendFailure))
}

_CHUNK_BYTES = 65_536
# Answers of up to 256 KiB are read without a limit on their number. Of larger ones 8 are read at a
# time, and each within 60 s: many agents with answers of 10 MiB cannot fill the memory.
_SMALL_BYTES = 262_144
_LARGE_AT_ONCE = 8
_LARGE_SECONDS = 60.0

Outcome = Delivered | NotSent | Failed
Sign = Callable[[UUID], Awaitable[float | None]]


class Dispatcher:
    """Sends JSON-RPC bodies to agents. Safe to use by any number of tasks at once.

    Args:
        egress: checks the URLs of agents.
        sign: seconds since a workspace last showed a sign of life by another way; None for never.
        containers: asked about an agent that does not answer, or sleeps.
        on_tokens: called with the tokens that an answer tells of. Must be quick.
    """

    def __init__(
        self,
        settings: OutboundSettings,
        egress: Egress,
        *,
        sign: Sign,
        containers: Containers | None = None,
        on_tokens: OnTokens = no_tokens,
    ) -> None:
        self._on_tokens = on_tokens
        self._egress = egress
        self._idle = settings.idle_timeout
        self._header_timeout = settings.header_timeout
        self._max_response = settings.max_response_bytes
        self._sign = sign
        self._containers = containers or NoContainers()
        self._large = asyncio.Semaphore(_LARGE_AT_ONCE)
        self._parsing = asyncio.Lock()

    async def dispatch(
        self,
        target: WorkspaceInfo,
        body: bytes,
        *,
        ceiling: float | None,
        headers: Mapping[str, str] | None = None,
    ) -> Outcome:
        """Send a body once. Never raises but when cancelled.

        Args:
            ceiling: the most seconds it may take; None for no bound but the idle timeout.
        """
        outcome = await self._away(target) or await self._send(target, body, ceiling, headers or {})
        if isinstance(outcome, Failed):
            if outcome.failure in (SendFailure.UNREACHABLE, SendFailure.BUSY) and await self._gone(
                target
            ):
                outcome = Failed(SendFailure.DEAD, "the agent's container does not run")
            _OUTCOMES[outcome.failure].inc()
            log.info("dispatch failed", workspace_id=str(target.id), failure=outcome.failure)
        else:
            if isinstance(outcome, Delivered) and outcome.reply.tokens is not None:
                self._on_tokens(target.id, *outcome.reply.tokens)
            _OUTCOMES["delivered" if isinstance(outcome, Delivered) else "refused"].inc()
        return outcome

    async def _away(self, target: WorkspaceInfo) -> NotSent | None:
        """Why no URL can be called now; None when one can."""
        if target.status in ASLEEP:
            await self._wake(target.id)
            return NotSent("WORKSPACE_WAKING", "the workspace is waking up", passing=True)
        if target.status == "provisioning" and not target.url:
            return NotSent("WORKSPACE_WAKING", "the workspace is starting", passing=True)
        if not target.url:
            return NotSent("URL_NOT_REGISTERED", "workspace has no URL", passing=True)
        return None

    async def _wake(self, workspace_id: UUID) -> None:
        try:
            await self._containers.wake(workspace_id)
        except Exception as error:  # noqa: BLE001  (the next message, or the next sweep, wakes it)
            log.warning("not woken", workspace_id=str(workspace_id), error=type(error).__name__)

    async def _gone(self, target: WorkspaceInfo) -> bool:
        """Whether the agent's container is known not to run; unknown for external agents."""
        if target.runtime == "external":
            return False
        try:
            return await self._containers.is_dead(target.id)
        except Exception:
            log.exception("cannot tell whether an agent runs", workspace_id=str(target.id))
            return False

    async def _send(
        self, target: WorkspaceInfo, body: bytes, ceiling: float | None, headers: Mapping[str, str]
    ) -> Outcome:
        try:
            checked = await self._egress.check(
                target.url,
                organization=target.organization_id,
                engine_url=target.engine_url,
            )
        except Exhausted as full:
            # No name server was asked: nothing is known of the agent.
            return Failed(SendFailure.BUSY, full.message)
        except Unresolvable as error:
            return Failed(SendFailure.UNREACHABLE, error.message)
        except Invalid:
            return NotSent("URL_NOT_ROUTABLE", "workspace URL is not publicly routable")
        progress = Progress()
        started = time.monotonic()
        call = asyncio.ensure_future(self._post(checked, body, headers, progress))
        try:
            data = await self._watched(call, target, progress, ceiling)
        except Exception as error:  # noqa: BLE001  (an agent may provoke any of them)
            return failure_of(error, progress, started)
        finally:
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
        return await self._answer(data, progress, started)

    async def _post(
        self,
        checked: CheckedUrl,
        body: bytes,
        headers: Mapping[str, str],
        progress: Progress,
    ) -> bytes:
        sent = {
            **headers,
            "Content-Type": "application/json",
            "Accept": "application/json",
            # A compressed answer of the permitted size could unpack to gigabytes.
            "Accept-Encoding": "identity",
        }
        session = aiohttp.ClientSession(
            connector=connector(checked),
            timeout=aiohttp.ClientTimeout(
                total=None, connect=CONNECT_SECONDS, sock_connect=CONNECT_SECONDS
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            read_bufsize=_CHUNK_BYTES,
        )
        async with session:
            # Leaving the session closes the connection, which cuts off an answer not yet read.
            async with asyncio.timeout(self._header_timeout):
                response = await session.post(
                    checked.url, data=body, headers=sent, allow_redirects=False
                )
            try:
                progress.status = response.status
                progress.retry_after = seconds(response.headers.get("Retry-After", ""))
                return await self._read(response, progress)
            finally:
                response.close()

    async def _read(self, response: aiohttp.ClientResponse, progress: Progress) -> bytes:
        if (response.content_length or 0) > self._max_response:
            raise TooLarge
        data = bytearray()
        try:
            async with AsyncExitStack() as stack:
                async for chunk in response.content.iter_any():
                    progress.heard = time.monotonic()
                    if len(data) <= _SMALL_BYTES < len(data) + len(chunk):
                        await stack.enter_async_context(self._large)
                        await stack.enter_async_context(asyncio.timeout(_LARGE_SECONDS))
                    data += chunk
                    if len(data) > self._max_response:
                        raise TooLarge
                return bytes(data)
        finally:
            # An error's traceback would keep the data until the next garbage collection.
            data.clear()

    async def _watched(
        self,
        call: asyncio.Future[bytes],
        target: WorkspaceInfo,
        progress: Progress,
        ceiling: float | None,
    ) -> bytes:
        """The call's result. Raises `Silent` when time is up, or without a sign of life."""
        idle = target.idle_timeout or self._idle
        end = None if ceiling is None else time.monotonic() + ceiling
        while True:
            now = time.monotonic()
            quiet_until = progress.heard + idle
            until = quiet_until if end is None else min(quiet_until, end)
            done, _ = await asyncio.wait({call}, timeout=max(0.0, until - now))
            if done:
                return call.result()
            if end is not None and time.monotonic() >= end:
                raise Silent(f"no answer within {ceiling:.0f} s")
            if time.monotonic() >= progress.heard + idle:
                await self._look_for_life(target.id, progress, idle)

    async def _look_for_life(self, workspace_id: UUID, progress: Progress, idle: float) -> None:
        """Take the agent's last heartbeat, message or row of its record as a sign of life.

        Raises:
            Silent: the last sign is older than the idle timeout.
        """
        try:
            ago = await self._sign(workspace_id)
        except Exception:  # noqa: BLE001  (not knowing is not a reason to give up on an agent)
            ago = 0.0
        if ago is None or ago >= idle:
            raise Silent(f"no sign of life for {idle:.0f} s")
        progress.heard = time.monotonic() - ago

    async def _answer(self, data: bytes, progress: Progress, started: float) -> Outcome:
        assert progress.status is not None
        if len(data) <= _SMALL_BYTES:
            reply = replies.read(data)
        else:
            async with self._parsing:
                reply = await asyncio.to_thread(replies.read, data)
        if progress.status < 200:
            return Failed(SendFailure.UNREACHABLE, f"the agent answered {progress.status}")
        if reply is None and progress.status < 300:
            return Failed(SendFailure.UNREADABLE, "the agent's answer is not JSON")
        if reply is None:
            return error_answer(progress, started, data[: 4 * EXCERPT_CHARS])
        return Delivered(progress.status, data, reply, milliseconds(started), progress.retry_after)
