"""Whether the database answers, asked on a connection that no call can take."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import structlog

from molecule_grpc.db.pool import Fault, Writer, fault

log = structlog.get_logger(__name__)

_PATIENCE_SECONDS: Final = 2.0


class DatabaseHealth:
    """Asks the database; everybody who wants to know meanwhile gets the same answer.

    The loss of the database is one line of the log, and its return another.
    """

    def __init__(self, dsn: str) -> None:
        self._connection = Writer(dsn, application_name="molecule-grpc-health")
        self._asking: asyncio.Task[bool] | None = None
        self._away_since: float | None = None

    async def answers(self) -> bool:
        """Whether the database answers within 2 s."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask(), name="database-health")
        return await asyncio.shield(self._asking)

    async def explains(self, error: BaseException) -> bool:
        """Whether an error comes of a database that does not answer: its loss is logged already."""
        return fault(error) is Fault.OUTAGE and not await self.answers()

    async def close(self) -> None:
        """Close the connection."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        await self._connection.close()

    async def _ask(self) -> bool:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self._connection.fetch("SELECT 1")
        except Exception as error:  # noqa: BLE001  (any error means: the database does not answer)
            self._lost(error)
            return False
        self._back()
        return True

    def _lost(self, error: Exception) -> None:
        if self._away_since is None:
            self._away_since = time.monotonic()
            log.error("the database is away", error=type(error).__name__)

    def _back(self) -> None:
        if self._away_since is not None:
            seconds = round(time.monotonic() - self._away_since, 1)
            self._away_since = None
            log.warning("the database is back", seconds=seconds)
