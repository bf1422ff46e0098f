"""`Rows`, by which other tests say that a call changed nothing, sees every kind of change."""

from __future__ import annotations

import uuid

import asyncpg
import pytest

from tests.e2e.rows import Rows

pytestmark = pytest.mark.e2e


async def test_each_kind_of_change_is_seen(
    still_database: asyncpg.Connection[asyncpg.Record], rows: Rows
) -> None:
    slug = f"seen-{uuid.uuid4().hex}"
    for change in (
        "INSERT INTO organizations (id, slug, name) VALUES (gen_random_uuid(), $1, 'first')",
        "UPDATE organizations SET name = 'second' WHERE slug = $1",
        "DELETE FROM organizations WHERE slug = $1",
    ):
        before = await rows.look()
        await still_database.execute(change, slug)
        assert await rows.changed_since(before) == ["organizations"], change


async def test_a_row_that_is_written_anew_with_the_same_values_is_no_change(
    still_database: asyncpg.Connection[asyncpg.Record], rows: Rows
) -> None:
    before = await rows.look()
    await still_database.execute("UPDATE organizations SET name = name")
    assert await rows.changed_since(before) == []
