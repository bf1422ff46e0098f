"""Export and import: what is gone comes back, what was changed stays, odd elements fail alone."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from molecule_grpc.db.pool import Pool
from molecule_grpc.memory.exports import Exports
from molecule_grpc.memory.imports import Imported, Imports
from molecule_grpc.memory.values import Change
from tests.integration.memories import Bench, bench_of
from tests.integration.workspaces import ORGANIZATION, add, add_organization


@pytest.fixture
async def bench(pool: Pool, database_url: str) -> AsyncIterator[Bench]:
    async with bench_of(pool, database_url) as opened:
        yield opened


async def exported(pool: Pool, organization_id: UUID | None = ORGANIZATION) -> bytes:
    return b"".join([piece async for piece in Exports(pool).pieces(organization_id)])


async def imported(bench: Bench, whole: bytes) -> Imported:
    async def pieces() -> AsyncIterator[bytes]:
        yield whole

    return await Imports(bench.pool, bench.commits).run(ORGANIZATION, pieces())


async def test_an_import_takes_nothing_back_that_was_changed_since(bench: Bench) -> None:
    [author] = await add(bench.pool)
    gone = await bench.commit(author, "will be forgotten")
    kept = await bench.commit(author, "the old text")
    whole = await exported(bench.pool)
    await bench.changes.update(author, kept.id, Change(content="the new text"))
    await bench.changes.forget(author, gone.id)
    for imports in ((1, 1), (1, 1)):
        done = await imported(bench, whole)
        assert (done.imported, done.skipped, done.errors) == (*imports, 0)
        assert [skip.reason for skip in done.skips] == ["a memory with this id has another text"]
    row = await bench.row(kept.id)
    assert (row["content"], row["version"]) == ("the new text", 2)
    assert (await bench.row(gone.id))["content"] == "will be forgotten"
    assert await bench.count() == 2


@pytest.mark.parametrize(
    "odd",
    [
        {"workspace_name": []},
        {"workspace_name": {}},
        {"author_name": [[]]},
        {"scope": []},
        {"scope": {"a": 1}},
        {"content": 3},
        {"content": None},
        {"tags": [1]},
        {"tags": "x"},
        {"metadata": []},
        {"id": []},
        {"created_at": 3},
        {"created_at": "never"},
        {"namespace": ["x"]},
        {"kind": {}},
        {"memory_namespace": 3, "scope": "CUSTOM"},
    ],
    ids=json.dumps,
)
async def test_an_odd_element_fails_alone(bench: Bench, odd: dict[str, Any]) -> None:
    [author] = await add(bench.pool)
    right = {"content": "fine", "scope": "LOCAL", "workspace_name": str(author)}
    whole = json.dumps([right | {"content": "x"} | odd, right]).encode()
    done = await imported(bench, whole)
    assert done.total == 2
    assert done.imported >= 1
    contents = await bench.pool.fetch("SELECT content FROM memories")
    assert "fine" in {row[0] for row in contents}


async def test_an_export_of_all_reads_every_organisation_in_pages(bench: Bench) -> None:
    [one] = await add(bench.pool)
    [other] = await add(bench.pool, organization_id=await add_organization(bench.pool))
    for n in range(520):
        await bench.commit(one if n % 2 else other, f"row {n}")
    assert len(json.loads(await exported(bench.pool, None))) == 520
    assert len(json.loads(await exported(bench.pool))) == 260
