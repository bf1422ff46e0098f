"""A hot operation reads as many blocks of ten thousand rows as of a hundred.

`python -m benchmarks.growth` measures the same operations in time, up to a million rows.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import asyncpg
import pytest

from benchmarks.growth import OPERATIONS
from benchmarks.growth_rows import Rows, empty_tables, grow
from tests.conftest import execute, with_database
from tests.integration.test_plans import Watched

SIZES = (100, 10_000)
# An index of ten thousand rows is a level higher than one of a hundred, and pages are not full.
_MORE = 1.5
_SLACK_BLOCKS = 40

Grown = list[tuple[str, Rows]]


@pytest.fixture(scope="module")
async def grown(postgres: str, template: str) -> AsyncIterator[Grown]:
    """A database of each size."""
    made: Grown = []
    names = [f"growth_{uuid.uuid4().hex[:12]}" for _ in SIZES]
    for name, size in zip(names, SIZES, strict=True):
        await execute(postgres, f"CREATE DATABASE {name} TEMPLATE {template}")
        url = with_database(postgres, name)
        connection = await asyncpg.connect(url)
        rows = await empty_tables(url, connection)
        await grow(connection, rows, size)
        await connection.close()
        made.append((url, rows))
    yield made
    for name in names:
        await execute(postgres, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.parametrize("name", OPERATIONS)
async def test_an_operation_reads_no_more_of_larger_tables(grown: Grown, name: str) -> None:
    few, many = [await blocks_read(url, rows, name) for url, rows in grown]
    assert many <= _MORE * few + _SLACK_BLOCKS


async def blocks_read(url: str, rows: Rows, name: str) -> int:
    """Blocks of tables and indexes that the statements of an operation look at."""
    connection = await asyncpg.connect(url, server_settings={"jit": "off"})
    watched = Watched(connection)
    transaction = connection.transaction()
    await transaction.start()
    await OPERATIONS[name](watched, rows)
    await transaction.rollback()
    await connection.close()
    assert watched.plans
    return sum(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] for plan in watched.plans)
