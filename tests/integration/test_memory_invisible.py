"""What nobody may read changes nothing that anybody is told: no text, id, count, score or error."""

from __future__ import annotations

import contextlib
import dataclasses
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.kernel.errors import MoleculeError
from molecule_grpc.memory.opening import Rooms, open_memories
from molecule_grpc.memory.opening_search import SearchParts, open_search
from molecule_grpc.memory.ports import AuditEntry
from molecule_grpc.memory.search_values import Query
from molecule_grpc.memory.values import Change, Draft
from tests.conftest import LONG
from tests.integration.cores import core_of
from tests.integration.memories import plant
from tests.settings import settings_of

pytestmark = pytest.mark.slow

_WORDS = [f"{a}{b}" for a in ("ka", "lo", "mi", "nu", "pe") for b in ("rst", "nd", "lf", "mp")]
_BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)


class Slice:
    """The store and the search over one database."""

    def __init__(self, rooms: Rooms, search: SearchParts) -> None:
        self.rooms = rooms
        self.search = search

    async def ask(self, reader: UUID, query: Query) -> Any:
        access = await self.rooms.namespaces.access(reader)
        return await self.search.search.search(access, query)

    async def explain(self, reader: UUID, memory_id: UUID, query: Query) -> Any:
        access = await self.rooms.namespaces.access(reader)
        return await self.search.search.explain(access, memory_id, query)


@contextlib.asynccontextmanager
async def slice_of(pool: Pool, dsn: str) -> AsyncIterator[Slice]:
    async def audit(conn: Connection, _entries: list[AuditEntry]) -> None:
        assert conn.is_in_transaction()

    async with (
        core_of(pool, dsn, settings_of(embedding_embedder="none")) as core,
        open_search(core) as search,
        open_memories(core, audit, similar=search.similar) as rooms,  # type: ignore[arg-type]
    ):
        yield Slice(rooms, search)


def sentence(draw: random.Random) -> str:
    """Three to twelve words; the last of `_WORDS` is 20 times as frequent as the first."""
    words = draw.choices(_WORDS, weights=range(1, len(_WORDS) + 1), k=draw.randint(3, 12))
    return " ".join(words)


async def fill(
    slice_: Slice, author: UUID, namespace: str, count: int, draw: random.Random
) -> list[UUID]:
    """Memories with ids and times that do not depend on the run."""
    ids = [UUID(int=draw.getrandbits(128)) for _ in range(count)]
    for begin in range(0, count, 100):
        drafts = [
            Draft(
                content=f"{sentence(draw)} {id_.hex[:6]}",
                namespace=namespace,
                id=id_,
                tags=(draw.choice(_WORDS),),
                pinned=draw.random() < 0.1,
                created_at=_BEGINNING + timedelta(minutes=draw.randint(0, 10_000)),
            )
            for id_ in ids[begin : begin + 100]
        ]
        done = await slice_.rooms.commits.commit_batch(author, drafts, operator=True)
        assert not [each for each in done if isinstance(each, MoleculeError)]
    return ids


async def outcome(call: Any) -> str:
    """What a call answers, with its error's words, reason and data."""
    try:
        return repr(_still(await call))
    except MoleculeError as error:
        return repr((type(error).__name__, str(error), error.reason, error.metadata))


def _still(found: Any) -> Any:
    """An answer without what the clock says."""
    if dataclasses.is_dataclass(found) and not isinstance(found, type):
        fields = {
            each.name: _still(getattr(found, each.name)) for each in dataclasses.fields(found)
        }
        fields.pop("age_seconds", None)
        if "next_page_token" in fields:  # It says when the first page was read.
            fields["next_page_token"] = bool(fields["next_page_token"])
        return fields
    if isinstance(found, tuple | list):
        return [_still(each) for each in found]
    if isinstance(found, datetime) and found > _BEGINNING + timedelta(days=100):
        return "now"
    return found


async def pages(slice_: Slice, reader: UUID, query: Query) -> list[str]:
    """The first three pages."""
    found = []
    for _ in range(3):
        page = await slice_.ask(reader, query)
        found.append(repr(_still(page)))
        query = dataclasses.replace(query, page_token=page.next_page_token)
        if not page.next_page_token:
            break
    return found


async def everything(
    slice_: Slice, readers: list[UUID], known: list[UUID], strange: list[UUID]
) -> list[str]:
    """All that readers are told: about what they know, and about what is not theirs."""
    answers = []
    for reader in readers:
        access = await slice_.rooms.namespaces.access(reader)
        answers.append(repr(access))
        for text in ("", "karst mimp", "nulf", "pemp pelf minnd", "lond", "nothing-like-it", "a_b"):
            for more in ({}, {"tags": (_WORDS[3],)}, {"min_score": 0.2}, {"mode": "lexical"}):
                query = Query(text=text, explain=True, limit=10, **more)
                answers += await pages(slice_, reader, query)
        past = Query(text="karst", as_of=datetime(2100, 1, 1, tzinfo=UTC), explain=True)
        answers.append(await outcome(slice_.ask(reader, past)))
        for id_ in [*known[:5], *strange[:5]]:
            answers.append(await outcome(slice_.rooms.reads.get(reader, id_)))
            answers.append(await outcome(slice_.rooms.reads.history(reader, id_)))
            answers.append(await outcome(slice_.explain(reader, id_, Query(text="karst mimp"))))
        reports = [slice_.rooms.reads.hygiene(reader, each.name) for each in access.namespaces]
        answers += [await outcome(report) for report in reports]
    return answers


@pytest.mark.parametrize("seed", [1, 2, 3, 4] if LONG else [1])
async def test_foreign_rows_change_no_answer(pool: Pool, database_url: str, seed: int) -> None:
    """Every answer about 300 memories is the same bytes after 2,500 came that nobody of them reads:
    of another organisation, a sibling's private ones, a hidden author's, and expired ones."""
    draw = random.Random(seed)
    async with slice_of(pool, database_url) as slice_:
        ours, theirs = await plant(pool), await plant(pool)
        hermit, villain = ours.peer, ours.b
        readers = [ours.root, ours.lead, ours.a]
        known = await fill(slice_, ours.a, f"workspace:{ours.a}", 100, draw)
        known += await fill(slice_, ours.a, f"team:{ours.lead}", 100, draw)
        known += await fill(slice_, ours.root, f"org:{ours.root}", 100, draw)
        strange = [UUID(int=draw.getrandbits(128)) for _ in range(5)]
        await slice_.rooms.grants.quarantine(None, villain, "", "test")
        before = await everything(slice_, readers, known, strange)

        foreign = await fill(slice_, theirs.root, f"org:{theirs.root}", 1500, draw)
        # A foreign memory with the id of a memory of ours.
        clash = Draft(content="karst karst karst", namespace=f"workspace:{theirs.a}", id=known[0])
        await slice_.rooms.commits.commit(theirs.a, clash)
        private = await fill(slice_, hermit, f"workspace:{hermit}", 500, draw)
        hidden = await fill(slice_, villain, f"team:{ours.lead}", 400, draw)
        gone = await fill(slice_, ours.a, f"workspace:{ours.a}", 100, draw)
        await pool.execute(
            "UPDATE memories SET expires_at = now() - interval '1 s' WHERE id = ANY ($1)", gone
        )
        await pool.execute("ANALYZE")
        for others in (foreign, private, hidden, gone, strange):
            # What exists and cannot be read answers as what does not exist.
            after = await everything(slice_, readers, known, others)
            for answer, earlier in zip(after, before, strict=True):
                now = _named(answer, others, strange)
                assert now == earlier, _difference(now, earlier)


def _difference(now: str, earlier: str) -> str:
    place = next(n for n, (a, b) in enumerate(zip(now, earlier, strict=False)) if a != b)
    return f"{earlier[max(0, place - 200) : place + 80]}\n->\n{now[place : place + 80]}"


def _named(answer: str, ids: list[UUID], others: list[UUID]) -> str:
    """The answer as it would be about other ids."""
    for one, other in zip(ids, others, strict=False):
        answer = answer.replace(str(one), str(other))
    return answer


async def test_writing_where_nobody_may_tells_nothing(pool: Pool, database_url: str) -> None:
    """A foreign namespace, a sibling's and one of nobody refuse alike, full or empty; so do ids."""
    async with slice_of(pool, database_url) as slice_:
        ours, theirs = await plant(pool), await plant(pool)
        theirs_id = (await slice_.rooms.commits.commit(theirs.a, Draft(content="same words"))).id
        peers_id = (await slice_.rooms.commits.commit(ours.peer, Draft(content="same words"))).id
        nobody = UUID(int=5)
        refusals = set()
        for anchor in (theirs.a, ours.peer, nobody):
            for kind in ("workspace", "team", "org"):
                draft = Draft(content="same words", namespace=f"{kind}:{anchor}")
                answer = await outcome(slice_.rooms.commits.commit(ours.a, draft))
                refusals.add(answer.replace(draft.namespace, "it"))
        assert len(refusals) == 1
        for call in (
            lambda id_: slice_.rooms.changes.update(ours.a, id_, Change(content="other")),
            lambda id_: slice_.rooms.changes.forget(ours.a, id_),
            lambda id_: slice_.rooms.commits.supersede(ours.a, id_, Draft(content="other")),
            lambda id_: slice_.rooms.commits.undo(ours.a, id_),
            lambda id_: slice_.rooms.commits.consolidate(
                ours.a, [id_, UUID(int=9)], Draft(content="other"), dry_run=True
            ),
        ):
            answers = {await outcome(call(id_)) for id_ in (theirs_id, peers_id, nobody)}
            assert len(answers) == 1
        # An id that only another organisation uses is free.
        taken = Draft(content="mine", id=theirs_id)
        assert (await slice_.rooms.commits.commit(ours.a, taken)).id == theirs_id
        kept = await slice_.rooms.reads.get(theirs.a, theirs_id)
        assert kept.content == "same words"
