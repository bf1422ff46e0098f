"""Whoever holds a database connection does not wait for other machines."""

from __future__ import annotations

import asyncio

import pytest

from molecule_grpc import egress
from molecule_grpc.db.pool import Pool
from tests.settings import egress_of

_EGRESS = egress_of(egress.EgressRules(local=True))
_URL = "http://127.0.0.1:9"


async def test_no_name_is_resolved_and_no_agent_called_in_a_transaction(pool: Pool) -> None:
    checked = await _EGRESS.check(_URL)
    async with pool.acquire() as connection, connection.transaction():
        with pytest.raises(RuntimeError, match="name server while a database connection was held"):
            await _EGRESS.check(_URL)
        with pytest.raises(RuntimeError, match="agent while a database connection was held"):
            egress.connector(checked)
    await egress.connector(checked).close()


async def test_a_task_begun_in_a_transaction_may_call_after_it(pool: Pool) -> None:
    """A task inherits what its parent held, and goes on when the parent has given it back."""
    released = asyncio.Event()

    async def resolve() -> egress.CheckedUrl:
        await released.wait()
        return await _EGRESS.check(_URL)

    async with pool.acquire():
        async with pool.acquire():
            task = asyncio.create_task(resolve())
        with pytest.raises(RuntimeError):
            await _EGRESS.check(_URL)
    released.set()
    assert (await task).port == 9
