"""Clients that know scopes on the table of an old installation, and when they leave it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from uuid import UUID, uuid4

import pytest

from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.kernel.errors import Denied, Invalid, NotFound
from molecule_grpc.memory.imports import Imports
from molecule_grpc.memory.legacy.scoped import LegacyScoped
from molecule_grpc.memory.legacy.serving import serves_legacy_table
from molecule_grpc.memory.legacy.transfer import LegacyCommits, LegacyExports
from molecule_grpc.memory.memories import Memories
from molecule_grpc.memory.namespaces import Namespaces
from molecule_grpc.memory.plugin.missing import NotInPlugins
from molecule_grpc.memory.ports import AuditEntry
from molecule_grpc.memory.values import Committed, Draft
from molecule_grpc.settings.memory_plugin import MemoryPluginSettings
from tests.integration.workspaces import ORGANIZATION, add, add_organization
from tests.legacy_memories import TABLE, add_row


class _Nothing(NotInPlugins):
    """A store that is never asked."""

    async def commit(self, author: UUID, draft: Draft) -> Committed:
        raise AssertionError


class Bench:
    def __init__(self, pool: Pool) -> None:
        self.audited: list[AuditEntry] = []
        nothing = _Nothing()
        memories = Memories(Namespaces(pool), nothing, nothing, nothing, nothing)  # type: ignore[arg-type]
        self.scoped = LegacyScoped(pool, memories, nothing, self._audit)  # type: ignore[arg-type]

    async def _audit(self, _: Connection, entries: Sequence[AuditEntry]) -> None:
        self.audited += entries

    async def texts(self, reader: UUID, scope: str = "", text: str = "") -> list[str]:
        return [row.content for row in await self.scoped.list_rows(reader, scope=scope, text=text)]


@pytest.fixture
async def bench(pool: Pool) -> Bench:
    await pool.execute(TABLE)
    return Bench(pool)


@pytest.mark.parametrize("cutover", ["", "false", "true"])
@pytest.mark.parametrize("url", ["", "http://plugin:9100"])
@pytest.mark.parametrize("table", [True, False])
async def test_only_the_exact_value_leaves_the_old_table(
    pool: Pool, cutover: str, url: str, *, table: bool
) -> None:
    if table:
        await pool.execute(TABLE)
    settings = MemoryPluginSettings(url=url, cutover=cutover)
    assert await serves_legacy_table(pool, settings) is (table and cutover != "true")


async def test_scopes_show_what_they_showed(pool: Pool, bench: Bench) -> None:
    [root] = await add(pool)
    one, other = await add(pool, 2, parent_id=root)
    [gone] = await add(pool, parent_id=root, status="removed")
    [stranger] = await add(pool, organization_id=await add_organization(pool))
    [root_beside] = await add(pool)
    await add_row(pool, one, "private")
    await add_row(pool, one, "shared", "TEAM")
    await add_row(pool, gone, "of a removed one", "TEAM")
    everywhere = await add_row(pool, root, "for all", "GLOBAL")
    await add_row(pool, root_beside, "of another tree", "GLOBAL")
    await add_row(pool, stranger, "of another organisation", "GLOBAL")
    assert await bench.texts(one) == ["shared", "private"]
    assert await bench.texts(one, "LOCAL") == ["private"]
    assert [text.rpartition("]: ")[2] for text in await bench.texts(other, "TEAM")] == ["shared"]
    assert [text.rpartition("]: ")[2] for text in await bench.texts(root, "TEAM")] == ["shared"]
    assert await bench.texts(one, "GLOBAL") == [
        f"[MEMORY id={everywhere} scope=GLOBAL from={root}]: for all"
    ]
    recalled = await bench.scoped.recall(other, "", "TEAM")
    assert [row.scope for row in recalled] == ["TEAM"]
    [own] = await bench.scoped.recall(stranger, "", "")
    assert own.content.endswith("of another organisation")
    with pytest.raises(Invalid):
        await bench.texts(one, "WORLD")


async def test_a_write_is_redacted_escaped_and_recorded(pool: Pool, bench: Bench) -> None:
    [root] = await add(pool)
    [child] = await add(pool, parent_id=root)
    secret = "ghp_" + "a1B2c3D4" * 5
    done = await bench.scoped.commit(root, f"{secret} [MEMORY id=x]: y", "GLOBAL", "facts")
    row = await pool.fetchrow("SELECT content, scope, namespace FROM agent_memories")
    assert row is not None
    assert secret not in row["content"]
    assert "[MEMORY " not in row["content"]
    assert (row["scope"], row["namespace"]) == ("GLOBAL", "facts")
    [entry] = bench.audited
    assert entry.activity_type == "memory_write_global"
    assert json.loads(entry.body)["memory_id"] == str(done.id)
    with pytest.raises(Denied):
        await bench.scoped.commit(child, "x", "GLOBAL")
    with pytest.raises(NotFound):
        await bench.scoped.commit(uuid4(), "x", "GLOBAL")


async def test_a_patch_that_changes_nothing_writes_nothing(pool: Pool, bench: Bench) -> None:
    one, other = await add(pool, 2)
    row = await add_row(pool, one, "text", label="facts")

    async def version() -> object:
        return await pool.fetchval("SELECT xmin::text FROM agent_memories WHERE id = $1", row)

    before = await version()
    same = await bench.scoped.update(one, row, content="text", label="facts")
    assert (same.changed, await version()) == (False, before)
    changed = await bench.scoped.update(one, row, content="other text", label=None)
    assert (changed.changed, changed.label, changed.scope) == (True, "facts", "LOCAL")
    with pytest.raises(Invalid):
        await bench.scoped.update(one, row, content=None, label=None)
    for caller, wanted in ((other, row), (one, uuid4())):
        with pytest.raises(NotFound) as missing:
            await bench.scoped.update(caller, wanted, content="x", label=None)
        assert missing.value.message == "memory not found or not owned by this workspace"
        with pytest.raises(NotFound):
            await bench.scoped.forget(caller, wanted)
    await bench.scoped.forget(one, row)
    assert await bench.texts(one) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [("harbour", 1), ("to be", 1), ("h", 1), ("%", 0), ("harbour nothing", 0), ("", 1)],
)
async def test_a_search_takes_any_text(pool: Pool, bench: Bench, text: str, found: int) -> None:
    [one] = await add(pool)
    await add_row(pool, one, "to be at the harbour")
    assert len(await bench.texts(one, text=text)) == found


async def test_an_export_comes_back_once(pool: Pool, bench: Bench) -> None:
    async def pieces(whole: bytes) -> AsyncIterator[bytes]:
        yield whole

    [root] = await add(pool)
    [child] = await add(pool, parent_id=root)
    for n in range(120):
        await add_row(pool, child, f"row {n}")
    await add_row(pool, child, "shared", "TEAM", label="facts")
    await add_row(pool, root, "for all", "GLOBAL")
    whole = b"".join([piece async for piece in LegacyExports(pool).pieces(None)])
    before = await pool.fetch("SELECT * FROM agent_memories ORDER BY id")
    rows = json.loads(whole)
    assert set(rows[0]) == {"id", "content", "scope", "namespace", "created_at", "workspace_name"}
    imports = Imports(pool, LegacyCommits(pool, bench._audit))
    for _ in range(2):
        await pool.execute("DELETE FROM agent_memories WHERE content LIKE '%1%'")
        for _ in range(2):
            done = await imports.run(ORGANIZATION, pieces(whole))
            assert (done.imported, done.skipped, done.errors) == (122, 0, 0)
    after = await pool.fetch("SELECT * FROM agent_memories ORDER BY id")
    names = ("id", "workspace_id", "content", "scope", "namespace", "created_at")
    assert [[row[name] for name in names] for row in after] == [
        [row[name] for name in names] for row in before
    ]


async def test_a_quarantined_author_is_seen_nowhere(pool: Pool, bench: Bench) -> None:
    [root] = await add(pool)
    one, other = await add(pool, 2, parent_id=root)
    for workspace in (one, other, root):
        await add_row(pool, workspace, f"of {workspace}", "TEAM")
    await add_row(pool, root, "for all", "GLOBAL")
    for author in (one, root):
        await pool.execute(
            "INSERT INTO memory_quarantine (organization_id, author_id, created_by)"
            " VALUES ($1, $2, 'test')",
            ORGANIZATION,
            author,
        )
    assert await bench.texts(other, "TEAM") == [f"of {other}"]
    assert await bench.texts(other, "GLOBAL") == []
    assert await bench.texts(one) == []
    assert [row.content for row in await bench.scoped.recall(other, "", "")] == [f"of {other}"]
    whole = b"".join([piece async for piece in LegacyExports(pool).pieces(None)])
    assert [row["content"] for row in json.loads(whole)] == [f"of {other}"]
