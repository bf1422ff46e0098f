"""The pool under a Postgres that has stopped answering."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from molecule_grpc.db.pool import Fault, Pool, connect_pool, fault


async def test_a_frozen_backend_holds_nobody_for_long(database_url: str) -> None:
    """The driver asks Postgres to cancel, and waits for the backend to confirm: 5 s, not 35.

    Leaving a transaction waits for the same confirmation.
    """
    pool = await connect_pool(database_url, min_size=1, max_size=1)
    backend = await pool.fetchval("SELECT pg_backend_pid()")
    try:
        async with asyncio.timeout(20):
            with pytest.raises(Exception) as caught:  # noqa: PT011  (its kind is looked at)
                await _freeze_and_ask(pool, backend)
            assert fault(caught.value) is Fault.OUTAGE
            assert await pool.fetchval("SELECT pg_backend_pid()") != backend
    finally:
        os.kill(backend, signal.SIGCONT)
        await pool.close()


async def _freeze_and_ask(pool: Pool, backend: int) -> None:
    async with pool.acquire() as connection, connection.transaction():
        os.kill(backend, signal.SIGSTOP)
        await connection.fetchval("SELECT 1", timeout=0.1)
