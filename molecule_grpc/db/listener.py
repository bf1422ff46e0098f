"""One LISTEN connection for the whole process, which is probed every 10 s."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping

import asyncpg
import structlog

from molecule_grpc.db.pool import connect

log = structlog.get_logger(__name__)

_FIRST_BACKOFF_SECONDS = 0.1
_PROBE_SECONDS = 10.0
_PROBE_TIMEOUT_SECONDS = 5.0
_MAX_BACKOFF_SECONDS = 5.0


class Listener:
    """Hears notifications, and reports when some may have been missed.

    Args:
        dsn: must reach Postgres itself, not a pooler in transaction mode.
        channels: by channel, the function that takes a payload. Must be quick and must not raise.
        missed: called after every connect: notifications before it may have been missed.
    """

    def __init__(
        self,
        dsn: str,
        channels: Mapping[str, Callable[[str], None]],
        missed: Callable[[], None],
    ) -> None:
        self._dsn = dsn
        self._channels = channels
        self._missed = missed
        self._backoff = _FIRST_BACKOFF_SECONDS

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            try:
                await self._listen()
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                if self._backoff == _FIRST_BACKOFF_SECONDS:  # it was connected until now
                    log.warning("listener lost its connection", error=type(error).__name__)
            await asyncio.sleep(self._backoff)
            self._backoff = min(self._backoff * 2, _MAX_BACKOFF_SECONDS)

    async def _listen(self) -> None:
        connection = await connect(self._dsn, application_name="molecule-grpc-listener")
        try:
            for channel, hear in self._channels.items():
                await connection.add_listener(
                    channel, lambda _conn, _pid, _channel, payload, hear=hear: hear(payload)
                )
            self._missed()
            self._backoff = _FIRST_BACKOFF_SECONDS
            # A broken network does not close the socket: only a query notices.
            while True:
                await asyncio.sleep(_PROBE_SECONDS)
                await connection.execute("SELECT 1", timeout=_PROBE_TIMEOUT_SECONDS)
        finally:
            with contextlib.suppress(Exception):
                connection.terminate()
