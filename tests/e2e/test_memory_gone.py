"""What was forgotten is nowhere: in no answer, export, table, index, statistic or log."""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest
from moleculeai.memory.v1 import memory_pb2
from moleculeai.memory.v1 import memory_service_pb2 as pb

from tests.conftest import LONG
from tests.e2e.parties import Agent, Organization, Party, Refused, found, wire_to
from tests.running import RunningServer

pytestmark = pytest.mark.slow

_FORGOTTEN = 1000 if LONG else 300
_BATCH = 50
_CLEAN = "VACUUM (FULL, ANALYZE) memories, memory_versions, memory_embeddings"
# A vector that no model makes, and its bytes as Postgres keeps them.
_VECTOR = [0.1234567, -0.7654321, 0.3141592, 0.2718281]
_VECTOR_BYTES = struct.pack("<4f", *_VECTOR)


def _words(count: int) -> list[str]:
    """Words that stand nowhere else: letters only, so that no index takes them apart."""
    draw = random.Random(7)
    return ["zq" + "".join(draw.choices("bcdfghjklmnprstv", k=10)) for _ in range(count)]


async def _commit(agent: Agent, texts: list[str], namespace: str) -> list[str]:
    ids = []
    for begin in range(0, len(texts), _BATCH):
        drafts = [
            memory_pb2.MemoryDraft(content=text, namespace=namespace)
            for text in texts[begin : begin + _BATCH]
        ]
        answer = await agent.rpc(
            pb.BatchCommitMemoriesRequest(workspace_id=agent.id, memories=drafts)
        )
        ids += [outcome.result.id for outcome in answer.outcomes]
    return ids


async def _forget(agent: Agent, ids: list[str]) -> None:
    """Forget each; one whose answer was lost is NOT_FOUND the second time."""

    async def one(memory_id: str) -> None:
        try:
            await agent.rpc(pb.ForgetMemoryRequest(workspace_id=agent.id, memory_id=memory_id))
        except Refused as refusal:
            if refusal.reason != "MEMORY_NOT_FOUND":
                raise

    for begin in range(0, len(ids), 16):
        await asyncio.gather(*map(one, ids[begin : begin + 16]))


async def _answers(agent: Agent, operator: Party, ids: list[str], words: list[str]) -> str:
    """All that the surfaces say where a forgotten text might be."""
    said = [(await operator.rest("GET", "/admin/memories/export")).text]
    for word in [*words[:20], ""]:
        request = pb.SearchMemoriesRequest(workspace_id=agent.id, q=word, limit=100, explain=True)
        said.append(str((await agent.rpc(request)).memories))
    for memory_id in ids[:20]:
        for lookup in (
            pb.GetMemoryRequest(workspace_id=agent.id, memory_id=memory_id),
            pb.GetMemoryHistoryRequest(workspace_id=agent.id, memory_id=memory_id),
        ):
            with pytest.raises(Refused, match="MEMORY_NOT_FOUND"):
                await agent.rpc(lookup)
    said.append(str(await agent.rpc(pb.GetMemoryHygieneRequest(workspace_id=agent.id))))
    said.append((await operator.rest("GET", "/events")).text)
    said.append((await agent.rest("GET", f"/workspaces/{agent.id}/session-search", q="zq")).text)
    return "\n".join(said)


async def _embed(database_url: str) -> None:
    """Give each memory a vector, as an embedder would."""
    database = await asyncpg.connect(database_url)
    try:
        assert await database.fetchval("SELECT memory_enable_vectors('test/4', 4)") is not None
        await database.execute(
            """
            INSERT INTO memory_embeddings
                (organization_id, memory_id, model, chunk, content_sha256, embedding)
            SELECT organization_id, id, 'test/4', 0, content_sha256,
                   CASE WHEN content LIKE 'others %' THEN '[1,2,3,4]' ELSE $1::real[]::vector END
            FROM memories
            """,
            _VECTOR,
        )
    finally:
        await database.close()


def _files_with(words: list[str], paths: list[Path], start: str = "zq") -> dict[str, int]:
    """Files that hold one of the words, which all begin alike, and how many of them."""
    encoded = [word.encode() for word in words]
    found = {}
    for path in paths:
        data = path.read_bytes()
        count = sum(word in data for word in encoded) if start.encode() in data else 0
        if count:
            found[str(path)] = count
    return found


async def _files(database: asyncpg.Connection[asyncpg.Record]) -> list[Path]:
    """The files of the database, and those that all databases share, but not the log of writes.

    None if the server is on another machine.
    """
    home = Path(await database.fetchval("SHOW data_directory"))
    number = await database.fetchval(
        "SELECT oid FROM pg_database WHERE datname = current_database()"
    )
    folders = [home / "base" / str(number), home / "global", home / "pg_stat", home / "log"]
    return [path for folder in folders if folder.is_dir() for path in folder.iterdir()]


async def _tables_with(database: asyncpg.Connection[asyncpg.Record]) -> list[str]:
    """Tables with a row that says one of the words."""
    names = await database.fetch(
        """SELECT c.oid::regclass::text AS name FROM pg_class c
           WHERE c.relkind IN ('r', 'm', 'p') AND c.relnamespace = 'public'::regnamespace"""
    )
    found = []
    for row in names:
        query = f"SELECT EXISTS (SELECT FROM {row['name']} t WHERE t::text ~ 'zq[b-v]{{10}}')"
        if await database.fetchval(query):
            found.append(row["name"])
    return found


async def test_forgotten_memories_are_nowhere(
    own_server: Callable[..., RunningServer], database_url: str
) -> None:
    """A thousand, some updated and some superseded before; the server is killed in the middle, and
    five hundred others stay. Their bytes are in no row and no answer at once, and in no file but
    the log of writes once the tables are rewritten; those of the others are there."""
    server = own_server(WORKERS="2", MOLECULE_MEMORY_COMMITS_PER_MINUTE="0")
    words = _words(_FORGOTTEN)
    async with wire_to(server) as wire:
        operator = wire.party(server.admin_token)
        organization: Organization = await found(wire, operator)
        agent = await organization.hire("author")
        texts = [f"{word} is not to be known " + word * (n % 400) for n, word in enumerate(words)]
        ids = await _commit(agent, texts, f"org:{agent.id}")
        await _commit(agent, ["others " + "y" * 40 + str(n) for n in range(500)], "")
        extra = await _change(agent, ids, words)
        await _embed(database_url)
        first = asyncio.create_task(_forget(agent, ids))
        await asyncio.sleep(0.3)
        server.kill()
        await asyncio.gather(first, return_exceptions=True)
    server.start()
    async with wire_to(server) as wire:
        agent = Agent(wire, agent.headers, agent.id, agent.token)
        operator = wire.party(server.admin_token)
        await _forget(agent, [*ids, *extra])
        said = await _answers(agent, operator, ids, words)
        assert "zq" not in said
    database = await asyncpg.connect(database_url)
    try:
        assert await _tables_with(database) == []
        assert await database.fetchval("SELECT count(*) FROM memories") == 500
        kept = await database.fetchval("SELECT count(*) FROM memory_embeddings")
        assert kept == 500
        # A plain VACUUM leaves bytes in pages that hold other rows, too.
        await database.execute(_CLEAN)
        await database.execute("CHECKPOINT")
        files = await _files(database)
        assert _files_with(words, files) == {}
        assert not [path for path in files if _VECTOR_BYTES in path.read_bytes()]
        assert not files or _files_with(["y" * 40], files, "yyy") != {}
    finally:
        await database.close()
    assert _files_with(words, [server.log]) == {}


async def _change(agent: Agent, ids: list[str], words: list[str]) -> list[str]:
    """Update thirty and supersede thirty; the ids of the replacements."""
    replacements = []
    for n, memory_id in enumerate(ids[:60]):
        text = f"{words[n]} again, in other words"
        if n % 2:
            await agent.rpc(
                pb.UpdateMemoryRequest(workspace_id=agent.id, memory_id=memory_id, content=text)
            )
            continue
        done = await agent.rpc(
            pb.SupersedeMemoryRequest(
                workspace_id=agent.id,
                memory_id=memory_id,
                memory=memory_pb2.MemoryDraft(content=text),
            )
        )
        replacements.append(done.id)
    return replacements
