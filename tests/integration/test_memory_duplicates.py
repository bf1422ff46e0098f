"""The same fact, told by many at once, is stored once."""

from __future__ import annotations

import asyncio
import random

from molecule_grpc.db.pool import Pool
from molecule_grpc.memory.values import Committed, Draft
from tests.integration.memories import bench_of, plant
from tests.integration.workspaces import add

_FACTS = 5_000
_AT_ONCE = 8


async def test_of_ten_thousand_statements_half_are_repeats(pool: Pool, database_url: str) -> None:
    """Four siblings tell their team 5,000 facts twice each, in any order, on two workers: 5,000
    rows, each statement answered with the row that has its text."""
    async with bench_of(pool, database_url) as one, bench_of(pool, database_url) as two:
        tree = await plant(pool)
        siblings = await add(pool, 4, organization_id=tree.organization, parent_id=tree.lead)
        statements = [f"fact {n} holds since version {n % 7}" for n in range(_FACTS)] * 2
        random.Random(3).shuffle(statements)
        gate = asyncio.Semaphore(_AT_ONCE)

        async def tell(number: int, texts: list[str]) -> list[Committed]:
            drafts = [Draft(content=text, namespace=f"team:{tree.lead}") for text in texts]
            async with gate:
                done = await (one, two)[number % 2].commits.commit_batch(
                    siblings[number % 4], drafts, operator=True
                )
            return [each for each in done if isinstance(each, Committed)]

        parts = [statements[n : n + 100] for n in range(0, len(statements), 100)]
        told = await asyncio.gather(*(tell(n, part) for n, part in enumerate(parts)))
        answers = [each for part in told for each in part]
        assert len(answers) == len(statements)
        rows = await pool.fetch("SELECT id, content FROM memories")
        assert len(rows) == _FACTS  # Three in a hundred more would do.
        by_id = {row["id"]: row["content"] for row in rows}
        assert [by_id[each.id] for each in answers] == statements
        assert sum(not each.unchanged for each in answers) == _FACTS


async def test_a_recalled_text_that_ten_agents_commit_in_turn_is_stored_once(
    pool: Pool, database_url: str
) -> None:
    """Ten agents commit a recalled text after they strip the header: the team keeps one row."""
    async with bench_of(pool, database_url) as bench:
        tree = await plant(pool)
        agents = await add(pool, 10, organization_id=tree.organization, parent_id=tree.lead)
        done = [
            await bench.commit(agent, "deploys are on Tuesday", namespace=f"team:{tree.lead}")
            for agent in agents
        ]
        assert {each.id for each in done} == {done[0].id}
        assert [each.unchanged for each in done] == [False, *[True] * 9]
        assert await bench.count() == 1
