"""Files below /configs: delivered by the first start that succeeds, and not again."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from molecule_grpc.db.pool import Pool
from molecule_grpc.kernel.errors import Invalid
from molecule_grpc.kernel.payer import ORGANIZATION as OF
from molecule_grpc.quotas import Quota, QuotaExceeded
from molecule_grpc.templates.start_files import MAX_BYTES, MAX_FILES, StartFiles
from tests.integration.workspaces import ORGANIZATION, add

FILES = {"config.yaml": b"name: a\n", "plugins/p/run.py": b"\x00binary"}


def start_files(pool: Pool, limit: int = 0) -> StartFiles:
    return StartFiles(pool, Quota("bytes of start files", OF, limit))


async def put(pool: Pool, files: StartFiles, workspace_id: UUID, content: dict[str, bytes]) -> None:
    async with pool.acquire() as conn, conn.transaction():
        await files.put(conn, ORGANIZATION, workspace_id, content)


async def delivered(pool: Pool, files: StartFiles, workspace_id: UUID, read: datetime) -> None:
    async with pool.acquire() as conn, conn.transaction():
        await files.delivered(conn, workspace_id, "docker", read)


async def now(pool: Pool) -> datetime:
    found: datetime = await pool.fetchval("SELECT clock_timestamp()")
    return found


async def test_a_volume_gets_files_once_and_what_replaces_them_once_more(pool: Pool) -> None:
    files = start_files(pool)
    [workspace] = await add(pool, runtime="langgraph")
    await put(pool, files, workspace, FILES)
    read = await now(pool)
    assert await files.of_start(workspace, "docker") == FILES
    await delivered(pool, files, workspace, read)
    assert await files.of_start(workspace, "docker") == {}
    # Machines without volumes, and another engine, begin with nothing.
    assert await files.of_start(workspace, "") == FILES
    assert await files.of_start(workspace, "kubernetes") == FILES
    await put(pool, files, workspace, {"config.yaml": b"name: b\n"})
    assert await files.of_start(workspace, "docker") == {"config.yaml": b"name: b\n"}


async def test_files_replaced_during_a_start_are_delivered_by_the_next(pool: Pool) -> None:
    files = start_files(pool)
    [workspace] = await add(pool, runtime="langgraph")
    await put(pool, files, workspace, FILES)
    read = await now(pool)
    await put(pool, files, workspace, {"new": b"1"})
    await delivered(pool, files, workspace, read)
    assert await files.of_start(workspace, "docker") == {"new": b"1"}


async def test_an_organisation_keeps_so_many_bytes_and_no_more(pool: Pool) -> None:
    files = start_files(pool, limit=10)
    one, other = await add(pool, 2, runtime="langgraph")
    await put(pool, files, one, {"a": b"12345678"})
    with pytest.raises(QuotaExceeded):
        await put(pool, files, other, {"a": b"123"})
    await put(pool, files, other, {"a": b"12"})
    # What is replaced does not count.
    await put(pool, files, one, {"a": b"87654321"})


async def test_removed_workspaces_keep_no_files(pool: Pool) -> None:
    files = start_files(pool)
    [workspace] = await add(pool, runtime="langgraph")
    await put(pool, files, workspace, FILES)
    async with pool.acquire() as conn, conn.transaction():
        await files.forget(conn, [workspace])
    assert await files.of_start(workspace, "") == {}
    assert await pool.fetchval("SELECT count(*) FROM start_file_sets") == 0


@pytest.mark.parametrize(
    "refused",
    [
        {"/etc/passwd": b""}, {"../up": b""}, {"a/../b": b""}, {"a//b": b""}, {"./a": b""},
        {"": b""}, {"a\x00": b""}, {"a\\b": b""}, {"a/": b""}, {"a" * 513: b""},
        {"big": b"0" * (MAX_BYTES + 1)}, {str(n): b"" for n in range(MAX_FILES + 1)},
    ],
)  # fmt: skip
async def test_what_cannot_be_written_is_refused(pool: Pool, refused: dict[str, bytes]) -> None:
    files = start_files(pool)
    [workspace] = await add(pool, runtime="langgraph")
    with pytest.raises(Invalid):
        await put(pool, files, workspace, refused)


async def test_a_delivery_of_nothing_is_no_news(pool: Pool) -> None:
    files = start_files(pool)
    [workspace] = await add(pool, runtime="langgraph")
    await delivered(pool, files, workspace, datetime.now(UTC))
    assert await files.of_start(workspace, "docker") == {}
