"""Waiting at a process's start until Postgres accepts connections."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import asyncpg

from molecule_grpc.db.pool import connect

DATABASE_WAIT_SECONDS: Final = 30.0
_CONNECT_AGAIN_SECONDS: Final = 0.1
# A refusal of a connection that ends by itself.
_NOT_YET: Final = (
    asyncpg.ClientCannotConnectError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    TimeoutError,
)


async def wait_for_database(dsn: str, seconds: float = DATABASE_WAIT_SECONDS) -> None:
    """Wait until Postgres takes connections: it may be starting, or have none left.

    Raises what `connect` raises: Postgres refuses for another reason, or the time is over.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            connection = await connect(dsn)
        except _NOT_YET:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(_CONNECT_AGAIN_SECONDS)
        else:
            await connection.close()
            return
