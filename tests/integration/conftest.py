"""What most tests of the delegation slice start from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from molecule_grpc.db.pool import Pool
from tests.integration.agents import Slice, hire, slice_of


@pytest.fixture
async def slice_(database_url: str, pool: Pool) -> AsyncIterator[Slice]:
    async with slice_of(database_url, pool) as opened:
        yield opened


@pytest.fixture
async def me(pool: Pool) -> UUID:
    (workspace_id,) = await hire(pool, 1)
    return workspace_id
