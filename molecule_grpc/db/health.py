"""Whether the database answers, asked on a connection that no call can take."""

from __future__ import annotations

import asyncio
from typing import Final

from molecule_grpc.db.pool import Writer

_PATIENCE_SECONDS: Final = 2.0


class DatabaseHealth:
    """Asks the database; everybody who wants to know meanwhile gets the same answer."""

    def __init__(self, dsn: str) -> None:
        self._connection = Writer(dsn, application_name="molecule-grpc-health")
        self._asking: asyncio.Task[bool] | None = None

    async def answers(self) -> bool:
        """Whether the database answers within 2 s."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask(), name="database-health")
        return await asyncio.shield(self._asking)

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
        except Exception:  # noqa: BLE001  (any error means that the database does not answer)
            return False
        return True
