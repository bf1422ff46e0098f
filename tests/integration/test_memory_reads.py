"""Reading memories: histories, the report on a namespace, and what sweeps leave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.kernel.errors import Exhausted, Invalid, NotFound
from molecule_grpc.memory import drafting
from molecule_grpc.memory.items import item
from molecule_grpc.memory.store import commits, places
from molecule_grpc.memory.values import Change, Draft, Finding, Similar
from tests.integration.memories import Alike, Bench, Tree, bench_of, plant
from tests.waiting import until


@pytest.fixture
async def bench(pool: Pool, database_url: str) -> AsyncIterator[Bench]:
    async with bench_of(pool, database_url) as opened:
        yield opened


@pytest.fixture
async def tree(pool: Pool) -> Tree:
    return await plant(pool)


async def test_an_expired_memory_is_gone_for_every_read(
    bench: Bench, tree: Tree, pool: Pool
) -> None:
    made = await bench.commit(tree.a, "soon gone")
    await bench.changes.update(tree.a, made.id, Change(content="soon gone, edited"))
    await pool.execute("UPDATE memories SET expires_at = now()")
    for call in (bench.reads.get, bench.reads.history, bench.changes.forget, bench.commits.undo):
        with pytest.raises(NotFound):
            await call(tree.a, made.id)
    with pytest.raises(NotFound):
        await bench.changes.update(tree.a, made.id, Change(pinned=True))
    assert (await bench.reads.hygiene(tree.a)).memories == 0


async def test_a_sweep_deletes_what_has_expired(bench: Bench, tree: Tree, pool: Pool) -> None:
    gone = await bench.commit(tree.a, "gone")
    await bench.changes.update(tree.a, gone.id, Change(content="gone, edited"))
    stays = await bench.commit(tree.a, "stays", expires_at=datetime.now(UTC) + timedelta(hours=1))
    await pool.execute("UPDATE memories SET expires_at = now() WHERE id = $1", gone.id)
    await bench.upkeep.sweep()
    assert await pool.fetchval("SELECT array_agg(id) FROM memories") == [stays.id]
    assert await pool.fetchval("SELECT count(*) FROM memory_versions") == 0
    await bench.require_true_counters()


async def test_a_lie_that_expires_does_not_hide_the_truth(
    bench: Bench, tree: Tree, pool: Pool
) -> None:
    """A text of a quarantined author supersedes nothing, also once deleted as expired."""
    team = f"team:{tree.lead}"
    truth = await bench.commit(tree.b, "the truth", namespace=team)
    ends = datetime.now(UTC) + timedelta(hours=1)
    draft = Draft(content="a lie for an hour", expires_at=ends)
    lie = await bench.commits.supersede(tree.a, truth.id, draft)
    await bench.grants.quarantine(None, tree.a, "poisoned", "operator")
    await pool.execute("UPDATE memories SET expires_at = now() WHERE id = $1", lie.id)
    await bench.upkeep.sweep()
    assert (await bench.reads.get(tree.b, truth.id)).superseded_by is None
    assert (await bench.reads.hygiene(tree.b, team)).memories == 1
    await bench.require_true_counters()


async def test_a_purge_takes_what_hangs_on_the_workspace(
    bench: Bench, tree: Tree, pool: Pool
) -> None:
    """Own memories, led team and grants go; texts in a team of others keep the author's id."""
    await bench.commit(tree.a, "private")
    said = await bench.commit(tree.a, "to the team", namespace=f"team:{tree.lead}")
    await bench.grants.set(
        None, f"workspace:{tree.a}", tree.b, can_write=True, granted_by="operator"
    )
    async with pool.acquire() as conn, conn.transaction():
        await bench.upkeep.purge(conn, [tree.a])
        await conn.execute("DELETE FROM workspaces WHERE id = $1", tree.a)
    assert (await bench.namespaces.access(tree.b)).of(f"workspace:{tree.a}") is None
    row = await bench.reads.get(tree.b, said.id)
    assert (row.author_id, row.author_name) == (tree.a, None)
    await pool.execute("UPDATE memory_namespaces SET expires_at = expires_at - interval '1 hour'")
    await bench.upkeep.sweep()
    assert await pool.fetchval("SELECT array_agg(content) FROM memories") == ["to the team"]
    assert await pool.fetchval("SELECT array_agg(name) FROM memory_namespaces") == [
        f"team:{tree.lead}"
    ]
    await bench.grants.quarantine(tree.organization, tree.a, "late", "operator")
    with pytest.raises(NotFound):
        await bench.reads.get(tree.b, said.id)
    await bench.require_true_counters()


async def test_what_a_commit_under_way_adds_to_a_purged_workspace_goes(
    bench: Bench, tree: Tree, pool: Pool
) -> None:
    """The purge marks the namespace even where nothing was committed before."""
    async with pool.acquire() as conn, conn.transaction():
        await bench.upkeep.purge(conn, [tree.a])
    found = await pool.fetchval(
        "SELECT expires_at <= now() FROM memory_namespaces WHERE name = $1", f"workspace:{tree.a}"
    )
    assert found is True


async def test_recalls_are_noted_for_the_report(bench: Bench, tree: Tree, pool: Pool) -> None:
    used = await bench.commit(tree.a, "used")
    unused = await bench.commit(tree.a, "never used")
    other = await plant(pool)
    foreign = await bench.commit(other.a, "used elsewhere", id=used.id)
    assert foreign.id == used.id
    await pool.execute("UPDATE memories SET created_at = now() - interval '31 days'")
    await bench.reads.get(tree.a, used.id)
    await bench.upkeep.note()
    await bench.upkeep.note()
    finding = await only(bench, tree.a, "never_recalled")
    assert finding.memory_ids == [unused.id]
    assert (await only(bench, other.a, "never_recalled")).memory_ids == [used.id]


async def only(bench: Bench, reader: UUID, problem: str) -> Finding:
    report = await bench.reads.hygiene(reader)
    [finding] = [each for each in report.findings if each.problem == problem]
    assert finding.remedy
    return finding


async def test_the_report_names_what_to_mend(bench: Bench, tree: Tree, pool: Pool) -> None:
    twice = [
        (await bench.commit(tree.a, "the very same words", keep_duplicate=True)).id
        for _ in range(3)
    ]
    near = [
        (await bench.commit(tree.a, text)).id
        for text in ("The deploy runs on Mondays.", "the deploy runs on mondays")
    ]
    long = (await bench.commit(tree.a, "word " * 2_000)).id
    secret = (await bench.commit(tree.a, "key sk-abcdefghijklmnopqrstuvwx0123")).id
    over = (await bench.commit(tree.a, "until yesterday")).id
    await pool.execute(
        "UPDATE memories SET valid_from = now() - interval '2 days', valid_to = now()"
        " WHERE id = $1",
        over,
    )
    dead = (await bench.commit(tree.a, "from a delegation", delegation_id="gone")).id
    old = await bench.commit(tree.a, "old")
    await bench.commits.supersede(tree.a, old.id, Draft(content="new"))
    report = await bench.reads.hygiene(tree.a)
    assert report.namespace == f"workspace:{tree.a}"
    assert report.memories == 9
    assert report.redacted_share == pytest.approx(1 / 9)
    found = {each.problem: each for each in report.findings}
    assert set(found) == {
        "exact_duplicate",
        "near_duplicate",
        "longest",
        "redacted",
        "expired_validity",
        "dead_reference",
    }
    assert found["exact_duplicate"].memory_ids == twice
    assert found["exact_duplicate"].count == 3
    assert found["near_duplicate"].memory_ids == near
    assert found["longest"].memory_ids == [long]
    assert found["redacted"].memory_ids == [secret]
    assert found["expired_validity"].memory_ids == [over]
    assert found["dead_reference"].memory_ids == [dead]


async def test_the_report_names_the_noisiest_author(bench: Bench, tree: Tree) -> None:
    team = f"team:{tree.lead}"
    for n in range(20):
        await bench.commit(tree.a, f"chatter {n}", namespace=team)
    await bench.commit(tree.b, "one word", namespace=team)
    report = await bench.reads.hygiene(tree.b, team)
    [noisy] = [each for each in report.findings if each.problem == "noisiest_author"]
    assert noisy.count == 20
    assert str(tree.a) in noisy.detail


async def test_the_report_names_what_is_nearly_the_same(
    pool: Pool, database_url: str, tree: Tree
) -> None:
    async with bench_of(pool, database_url, similar=Alike(pool)) as bench:
        first = await bench.commit(tree.a, "port 80 is open")
        second = await bench.commit(tree.a, "port 443 is open")
        assert [each.id for each in second.similar] == [first.id]
        await bench.commit(tree.a, "unrelated words")
        await bench.commit(tree.b, "port of another namespace")
        finding = await only(bench, tree.a, "near_duplicate")
        assert finding.memory_ids == [first.id, second.id]


async def test_hints_never_fail_a_commit(pool: Pool, database_url: str, tree: Tree) -> None:
    class Broken:
        async def find(self, *_: object) -> list[Similar]:
            raise RuntimeError("no hints today")

        find_like = find

    class Slow:
        async def find(self, *_: object) -> list[Similar]:
            await asyncio.sleep(60)
            return []

        find_like = find

    for similar in (Broken(), Slow()):
        async with bench_of(pool, database_url, similar=similar) as bench:
            made = await bench.commit(tree.a, f"with {type(similar)}")
            assert not made.unchanged
            assert made.similar == ()


async def test_a_report_is_bounded(bench: Bench, tree: Tree) -> None:
    drafts = [
        Draft(content=f"text {n // 2}", keep_duplicate=True, tags=(str(n),)) for n in range(60)
    ]
    await bench.commits.commit_batch(tree.a, drafts)
    drafts = [Draft(content="everywhere", keep_duplicate=True) for _ in range(60)]
    await bench.commits.commit_batch(tree.a, drafts)
    report = await bench.reads.hygiene(tree.a)
    exact = [each for each in report.findings if each.problem == "exact_duplicate"]
    assert len(exact) == 20
    assert (exact[0].count, len(exact[0].memory_ids)) == (60, 50)


async def test_a_long_history_is_cut(bench: Bench, tree: Tree) -> None:
    made = await bench.commit(tree.a, "0" * 99_000)
    for n in range(1, 40):
        await bench.changes.update(tree.a, made.id, Change(content=f"{n:05}" * 19_800))
    texts, truncated = await bench.reads.history(tree.a, made.id)
    assert truncated
    assert sum(len(text.content) for text in texts) <= 3 * 1024 * 1024
    assert [text.version for text in texts] == list(range(1, len(texts) + 1))


async def test_a_history_hides_the_texts_of_a_distrusted_author(bench: Bench, tree: Tree) -> None:
    made = await bench.commit(tree.a, "from a", namespace=f"team:{tree.lead}")
    await bench.changes.update(tree.b, made.id, Change(content="from b"))
    await bench.grants.quarantine(None, tree.a, "", "operator")
    texts, _ = await bench.reads.history(tree.b, made.id)
    assert [text.content for text in texts] == ["from b"]


async def test_a_namespace_moves_with_all_that_it_holds(
    bench: Bench, tree: Tree, pool: Pool
) -> None:
    source, target = f"team:{tree.lead}", f"workspace:{tree.a}"
    made = await bench.commit(tree.a, "moving", namespace=source)
    await bench.changes.update(tree.a, made.id, Change(content="moving, edited"))
    await bench.commit(tree.a, "in both", namespace=source)
    await bench.commit(tree.a, "in both")
    assert await bench.grants.move(tree.organization, source, target) == 2
    assert (await bench.reads.get(tree.a, made.id)).namespace == target
    with pytest.raises(NotFound):
        await bench.reads.get(tree.b, made.id)
    assert len((await bench.reads.history(tree.a, made.id))[0]) == 2
    assert (await bench.commit(tree.a, "in both")).unchanged
    assert await pool.fetchval("SELECT array_agg(name) FROM memory_namespaces") == [target]
    await bench.require_true_counters()
    with pytest.raises(NotFound):
        await bench.grants.move(tree.organization, source, target)


async def test_a_namespace_moves_within_its_organization(bench: Bench, pool: Pool) -> None:
    ours, theirs = await plant(pool), await plant(pool)
    await bench.commit(ours.a, "ours")
    for target in (f"workspace:{theirs.a}", f"team:{uuid4()}", "org:x"):
        with pytest.raises(NotFound):
            await bench.grants.move(ours.organization, f"workspace:{ours.a}", target)
    with pytest.raises(NotFound):
        await bench.grants.move(theirs.organization, f"workspace:{ours.a}", "custom:x")
    for wrong in ("", "nonsense", f"workspace:{ours.a}"):
        with pytest.raises(Invalid):
            await bench.grants.move(ours.organization, f"workspace:{ours.a}", wrong)
    assert await bench.grants.move(ours.organization, f"workspace:{ours.a}", "custom:x") == 1


async def test_a_move_takes_no_commit_along(bench: Bench, tree: Tree, pool: Pool) -> None:
    """A commit to the source, under way when the move drops the empty source, is still there."""
    name = f"workspace:{tree.a}"
    await bench.commit(tree.a, "moved")
    await bench.grants.move(tree.organization, name, "custom:x")
    await bench.commit(tree.a, "first again")
    (
        await bench.changes.forget(
            tree.a, await pool.fetchval("SELECT id FROM memories WHERE content = 'first again'")
        )
    )
    async with pool.acquire() as conn:
        writing = conn.transaction()
        await writing.start()
        await store_one(conn, bench, tree.a, "under way")
        dropping = asyncio.create_task(places.drop_namespace(pool, tree.organization, name))
        await until(lambda: _blocked(pool), bool)
        await writing.commit()
    await dropping
    assert await pool.fetchval("SELECT count(*) FROM memories WHERE content = 'under way'") == 1
    await bench.require_true_counters()


async def store_one(conn: Connection, bench: Bench, author: UUID, content: str) -> None:
    prepared = drafting.prepare(author, Draft(content=content), datetime.now(UTC))
    [stored] = await commits.store(conn, [item(prepared, embed=False)], bench.rooms.quotas.limits)
    assert stored.verdict == "stored"


async def _blocked(pool: Pool) -> bool:
    found: bool = await pool.fetchval(
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        " AND datname = current_database())"
    )
    return found


async def test_a_large_namespace_moves_in_steps(bench: Bench, tree: Tree) -> None:
    for first in range(0, 1_200, 100):
        drafts = [Draft(content=f"text {n}") for n in range(first, first + 100)]
        await bench.commits.commit_batch(tree.a, drafts)
    assert await bench.grants.move(tree.organization, f"workspace:{tree.a}", "custom:x") == 1_200
    await bench.require_true_counters()
    assert await bench.grants.delete_namespace(tree.organization, "custom:x") == 1_200
    await bench.require_true_counters()


async def test_a_namespace_is_deleted_whole(bench: Bench, tree: Tree, pool: Pool) -> None:
    made = await bench.commit(tree.a, "x", namespace=f"team:{tree.lead}")
    await bench.commit(tree.a, "y")
    with pytest.raises(NotFound):
        await bench.grants.delete_namespace(None, f"team:{tree.lead}")
    assert await bench.grants.delete_namespace(tree.organization, f"team:{tree.lead}") == 1
    with pytest.raises(NotFound):
        await bench.reads.get(tree.b, made.id)
    with pytest.raises(NotFound):
        await bench.grants.delete_namespace(tree.organization, f"team:{tree.lead}")
    assert await pool.fetchval("SELECT array_agg(name) FROM memory_namespaces") == [
        f"workspace:{tree.a}"
    ]
    await bench.require_true_counters()


async def test_counts_for_operators(bench: Bench, pool: Pool) -> None:
    ours, theirs = await plant(pool), await plant(pool)
    for tree, texts in ((ours, 2), (theirs, 3)):
        for n in range(texts):
            await bench.commit(tree.a, f"four{n}"[:4] + str(n))
    await bench.grants.quarantine(None, theirs.b, "", "operator")
    mine = await bench.grants.stats(ours.organization)
    assert (mine.namespaces, mine.memories, mine.bytes) == (1, 2, 10)
    assert mine.quarantined_authors == 0
    assert [each.memories for each in mine.largest] == [2]
    everybody = await bench.grants.stats(None)
    assert (everybody.namespaces, everybody.memories) == (2, 5)
    assert everybody.quarantined_authors == 1
    uses = await bench.rooms.quota_uses(ours.organization, None)
    assert [each.used for each in uses] == [2, 10]


async def test_a_workspace_has_so_many_grants(bench: Bench, tree: Tree, pool: Pool) -> None:
    await pool.execute(
        "INSERT INTO memory_grants SELECT $1, 'custom:' || n, $2, false, 'x'"
        " FROM generate_series(1, 100) n",
        tree.organization,
        tree.a,
    )
    with pytest.raises(Exhausted):
        await bench.grants.set(None, "custom:more", tree.a, can_write=True, granted_by="x")
    assert (
        await bench.grants.set(None, "custom:1", tree.a, can_write=True, granted_by="x")
    ).can_write
    assert len((await bench.namespaces.access(tree.a)).namespaces) == 103
    page = await bench.grants.list(None, limit=60)
    rest = await bench.grants.list(
        None, after=(page[-1].namespace, page[-1].workspace_id), limit=60
    )
    assert len({each.namespace for each in (*page, *rest)}) == 100


async def test_versions_of_deleted_keys_are_never_used_again(
    bench: Bench, tree: Tree, pool: Pool
) -> None:
    await pool.execute(
        "INSERT INTO memory_values (workspace_id, key, value, version, expires_at, updated_at)"
        " VALUES ($1, 'deleted', NULL, 7, NULL, now() - interval '1 day'),"
        " ($1, 'expired', '1', 9, now() - interval '1 day', now() - interval '2 days'),"
        " ($1, 'fresh', NULL, 3, NULL, now()), ($1, 'alive', '1', 4, NULL, now())",
        tree.a,
    )
    await bench.upkeep.sweep()
    assert await pool.fetchval("SELECT array_agg(key ORDER BY key) FROM memory_values") == [
        "alive",
        "fresh",
    ]
    assert await pool.fetchval("SELECT version FROM memory_value_floors") == 9
