"""Where the proxy asks: a Unix socket that one worker of the fleet serves at a time.

The worker that holds the lock of the directory serves; when it ends, however it ends, the kernel
gives the lock to another one within a quarter of a second. Until then the proxy refuses.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final
from uuid import UUID

import structlog
from aiohttp import web

from molecule_grpc.backends.egress.decisions import Decisions
from molecule_grpc.backends.egress.values import Attempt, Decision, Outcome

log = structlog.get_logger(__name__)

SOCKET: Final = "decider.sock"
_LOCK: Final = "decider.lock"
_TURN_SECONDS: Final = 0.25
_STATUSES: Final = {
    Outcome.ALLOWED: 200,
    Outcome.NOT_LISTED: 403,
    Outcome.NOT_PUBLIC: 403,
    Outcome.UNRESOLVABLE: 502,
    Outcome.UNKNOWN_CALLER: 407,
    Outcome.MALFORMED: 400,
    Outcome.BUSY: 503,
}
_FAILED: Final = Decision(Outcome.BUSY, "the proxy cannot decide now, try again")


class Door:
    """Answers the proxy.

    Args:
        directory: of the process that runs the proxy, private to this user.
    """

    def __init__(self, directory: Path, decisions: Decisions) -> None:
        self._directory = directory
        self._decisions = decisions

    async def serve(self) -> None:
        """Wait for the turn, then answer. Runs until cancelled."""
        async with _turn(self._directory / _LOCK):
            application = web.Application()
            application.router.add_post("/", self._answer)
            runner = web.AppRunner(application, access_log=None, handle_signals=False)
            await runner.setup()
            try:
                path = self._directory / SOCKET
                path.unlink(missing_ok=True)
                await web.UnixSite(runner, str(path)).start()
                await asyncio.Event().wait()
            finally:
                await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        asked = request.headers
        attempt = Attempt(
            organization_id=UUID(asked["x-organization"]),
            authority=asked.get("x-target", ""),
            tunnel=asked.get("x-verb") == "CONNECT",
            authorization=asked.get("authorization", ""),
        )
        try:
            decision = await self._decisions.decide(attempt)
        except Exception:
            log.exception("an attempt to reach a host was refused for want of a decision")
            decision = _FAILED
        shown = {"x-address": decision.address} if decision.address else {}
        return web.Response(
            status=_STATUSES[decision.outcome], text=decision.message, headers=shown
        )


@contextlib.asynccontextmanager
async def _turn(path: Path) -> AsyncIterator[None]:
    """Hold the lock of a file while inside; waits for it without a thread."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while not _taken(descriptor):  # noqa: ASYNC110 - another process's lock
            await asyncio.sleep(_TURN_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
