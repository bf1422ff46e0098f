"""Whatever agents, operators and time do, each reader sees what the model says, and no more."""

from __future__ import annotations

import contextlib
from collections.abc import Coroutine, Iterator, Sequence
from datetime import datetime
from typing import Any, ClassVar, TypeVar
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from molecule_grpc.db.pool import Connection, Pool, connect_pool
from molecule_grpc.kernel.errors import (
    Aborted,
    Denied,
    Invalid,
    MoleculeError,
    NotFound,
)
from molecule_grpc.memory.opening import Rooms, open_memories
from molecule_grpc.memory.opening_search import open_search
from molecule_grpc.memory.ports import AuditEntry
from molecule_grpc.memory.search.searching import Search
from molecule_grpc.memory.search_values import Found, Query
from molecule_grpc.memory.values import Change, Draft
from tests.conftest import LONG
from tests.integration.cores import core_of
from tests.integration.memories import Bench, bench_of, plant
from tests.integration.memory_model import Memory, Model, Text
from tests.integration.workspaces import add, add_organization
from tests.loops import Loop
from tests.settings import settings_of

pytestmark = pytest.mark.slow

T = TypeVar("T")

_WORDS = ("amber", "basalt", "cobalt", "dolomite")
_TEXTS = st.builds(
    lambda words, n: f"{' '.join(words)} note {n}",
    st.lists(st.sampled_from(_WORDS), min_size=1, max_size=2, unique=True),
    st.integers(0, 2),
)
_ANY = st.integers(0, 10_000)


class World:
    """The store over one database, opened anew at will."""

    def __init__(self, loop: Loop, dsn: str) -> None:
        self.loop = loop
        self._dsn = dsn
        self._stack = contextlib.AsyncExitStack()
        self.pool: Pool
        self.rooms: Rooms
        self.search: Search

    async def open(self) -> None:
        """Start as a worker does."""
        self._stack = contextlib.AsyncExitStack()
        self.pool = await connect_pool(self._dsn, min_size=1, max_size=4)
        self._stack.push_async_callback(self.pool.close)
        chosen = settings_of(embedding_embedder="none")
        core = await self._stack.enter_async_context(core_of(self.pool, self._dsn, chosen))
        self.audited: list[AuditEntry] = []
        self.rooms = await self._stack.enter_async_context(open_memories(core, self._audit))
        parts = await self._stack.enter_async_context(open_search(core))
        self.search = parts.search

    async def _audit(self, conn: Connection, entries: Sequence[AuditEntry]) -> None:
        assert conn.is_in_transaction()
        self.audited.extend(entries)

    async def crash(self) -> None:
        """Lose every connection at once, and start again."""
        await self.pool.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await self.close()
        await self.open()

    async def close(self) -> None:
        """End as a worker does."""
        await self._stack.aclose()


@contextlib.contextmanager
def world_of(dsn: str) -> Iterator[World]:
    """Open the store; close it."""
    loop = Loop()
    world = World(loop, dsn)
    try:
        loop.run(world.open())
        yield world
    finally:
        loop.run(world.close())
        loop.close()


class Memories(RuleBasedStateMachine):
    """Two organisations whose workspaces commit, change, share, move and forget."""

    world: ClassVar[World]

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.step = 0
        # When each step was over, by the clock of the database.
        self.times: list[datetime] = []

    @initialize()
    def plant(self) -> None:
        """Ours has a root, two leads and two below the first; theirs a root and one below."""
        for name, shape in (("ours", (None, 0, 0, 1, 1)), ("theirs", (None, 0))):
            ids = self._run(self._planted(shape))
            for each, parent in zip(ids, shape, strict=True):
                self.model.organizations[each] = name
                self.model.parents[each] = None if parent is None else ids[parent]
        self.all = list(self.model.organizations)
        self._tick()
        for author in self.all:
            for namespace, writable in self.model.rights(author).items():
                if writable:
                    text = f"{_WORDS[len(self.model.memories) % len(_WORDS)]} of {author}"
                    done = self.world.rooms.commits.commit(
                        author, Draft(content=text, namespace=namespace)
                    )
                    self._learn(self._run(done).id, author, namespace, text)
        self._tick()

    async def _planted(self, shape: Sequence[int | None]) -> list[UUID]:
        organization = await add_organization(self.world.pool)
        ids = await add(self.world.pool, len(shape), organization_id=organization)
        for each, parent in zip(ids, shape, strict=True):
            if parent is not None:
                await self._set_parent(each, ids[parent])
        return ids

    @rule(who=_ANY, where=_ANY, text=_TEXTS)
    def commit_anywhere(self, who: int, where: int, text: str) -> None:
        self._commit(self._one(self.all, who), self._one(self._namespaces(), where), text)

    @rule(who=_ANY, where=_ANY, text=_TEXTS)
    def commit(self, who: int, where: int, text: str) -> None:
        author = self._one(self.all, who)
        self._commit(author, self._one(sorted(self.model.rights(author)), where), text)

    def _commit(self, author: UUID, namespace: str, text: str) -> None:
        draft = Draft(content=text, namespace=namespace)
        if not self.model.rights(author).get(namespace, False):
            self._fails(Denied, self.world.rooms.commits.commit(author, draft))
            return
        twins = [
            each.id
            for each in self.model.seen(author)
            if each.namespace == namespace and each.winner is None and each.text.content == text
        ]
        done = self._run(self.world.rooms.commits.commit(author, draft))
        if done.unchanged:
            assert done.id in twins
            return
        assert done.id not in self.model.memories
        assert not any(self.model.memories[twin].plain for twin in twins)
        self._learn(done.id, author, namespace, text)

    @rule(who=_ANY, which=_ANY, text=_TEXTS)
    def update(self, who: int, which: int, text: str) -> None:
        caller, memory = self._pair(who, which)
        call = self.world.rooms.changes.update
        change = Change(content=text)
        if memory is None or self._in_dispute(memory):
            return
        if self._refused(caller, memory, lambda m: call(caller, m, change)):
            return
        if memory.winner is not None:
            self._fails(Aborted, call(caller, memory.id, Change(content=text)))
            return
        done = self._run(call(caller, memory.id, Change(content=text)))
        assert done.changed == (text != memory.text.content)
        if done.changed:
            memory.texts[-1] = memory.text._replace(until=self.step)
            memory.texts.append(Text(text, caller, self.step, None))
            memory.plain = False

    @rule(who=_ANY, which=_ANY, text=_TEXTS)
    def supersede(self, who: int, which: int, text: str) -> None:
        caller, memory = self._pair(who, which)
        call = self.world.rooms.commits.supersede
        draft = Draft(content=text)
        if memory is None or self._in_dispute(memory):
            return
        if self._refused(caller, memory, lambda m: call(caller, m, draft)):
            return
        if memory.winner is not None:
            winner = self.model.memories.get(memory.winner)
            seen = winner in list(self.model.seen(caller))
            if winner is None or not seen or winner.text.content != text:
                self._fails(Aborted, call(caller, memory.id, Draft(content=text)))
                return
        done = self._run(call(caller, memory.id, Draft(content=text)))
        if memory.winner is not None or text == memory.text.content:
            assert done.unchanged
            return
        if not done.unchanged:
            self._learn(done.id, caller, memory.namespace, text)
        winner = self.model.memories[done.id]
        assert winner.text.content == text
        assert winner.winner is None
        memory.winner, memory.replaced, memory.plain = done.id, self.step, False

    @rule(who=_ANY, which=_ANY)
    def forget(self, who: int, which: int) -> None:
        caller, memory = self._pair(who, which)
        call = self.world.rooms.changes.forget
        if memory is None or self._refused(caller, memory, lambda m: call(caller, m)):
            return
        removed = self._run(call(caller, memory.id))
        assert removed == len(memory.texts)
        self._lose(memory)
        self._fails(NotFound, call(caller, memory.id))

    @rule(who=_ANY, which=_ANY, other=_ANY, text=_TEXTS)
    def consolidate(self, who: int, which: int, other: int, text: str) -> None:
        caller, one = self._pair(who, which)
        if one is None:
            return
        beside = [each for each in self.model.memories.values() if each is not one]
        beside.sort(key=lambda each: each.namespace != one.namespace)
        near = beside[: 1 + other % 4]
        if not near:
            return
        two = self._one(near, other)
        if self._in_dispute(one) or self._in_dispute(two):
            return
        ids, draft = [one.id, two.id], Draft(content=text)
        call = self.world.rooms.commits.consolidate(caller, ids, draft, dry_run=False)
        seen, rights = list(self.model.seen(caller)), self.model.rights(caller)
        if one not in seen or two not in seen:
            self._fails(NotFound, call)
        elif not (rights[one.namespace] and rights[two.namespace]):
            self._fails(Denied, call)
        elif one.namespace != two.namespace:
            self._fails(Invalid, call)
        elif one.winner is not None or two.winner is not None:
            self._repeat(call)
        else:
            done = self._run(call)
            assert done.result is not None
            assert sorted(done.superseded) == sorted(ids)
            self._learn(done.result.id, caller, one.namespace, text)
            self.model.memories[done.result.id].originals = frozenset(ids)
            self.model.memories[done.result.id].plain = False
            for each in (one, two):
                each.winner, each.replaced, each.plain = done.result.id, self.step, False

    @rule(who=_ANY, which=_ANY)
    def undo(self, who: int, which: int) -> None:
        caller, memory = self._pair(who, which)
        call = self.world.rooms.commits.undo
        if memory is None or self._in_dispute(memory):
            return
        if self._refused(caller, memory, lambda m: call(caller, m)):
            return
        if not memory.originals:
            self._fails(NotFound, call(caller, memory.id))
            return
        if memory.winner is not None:
            self._fails(Aborted, call(caller, memory.id))
            return
        restored = self._run(call(caller, memory.id))
        # What an original had replaced before stays replaced, by something that is gone.
        originals = [
            each
            for each in self.model.memories.values()
            if each.winner == memory.id and each.id in memory.originals
        ]
        for each in originals:
            each.winner, each.replaced = None, None
        assert set(restored) <= {each.id for each in originals}
        self._lose(memory)

    @rule(who=_ANY, where=_ANY, can_write=st.booleans())
    def grant(self, who: int, where: int, can_write: bool) -> None:
        holder, namespace = self._one(self.all, who), self._one(self._namespaces(), where)
        done = self.world.rooms.grants.set(
            None, namespace, holder, can_write=can_write, granted_by="test"
        )
        self._run(done)
        self.model.grants[namespace, holder] = can_write

    @rule(which=_ANY)
    def take_grant_back(self, which: int) -> None:
        if self.model.grants:
            namespace, holder = self._one(sorted(self.model.grants), which)
            self._run(self.world.rooms.grants.delete(None, namespace, holder))
            del self.model.grants[namespace, holder]

    @rule(who=_ANY)
    def hide_or_show(self, who: int) -> None:
        author = self._one(self.all, who)
        if author in self.model.hidden:
            self._run(self.world.rooms.grants.release(None, author))
        else:
            self._run(self.world.rooms.grants.quarantine(None, author, "", "test"))
        self.model.hidden ^= {author}

    @rule(who=_ANY, whose=_ANY)
    def move_workspace(self, who: int, whose: int) -> None:
        """Below anybody of the same tree who is not below it; a root stays."""
        child = self._one(self.all, who)
        if self.model.parents[child] is None:
            return
        home = self.model.organizations[child]
        places = [
            each
            for each, organization in self.model.organizations.items()
            if organization == home and not self._is_below(each, child)
        ]
        parent = self._one(places, whose)
        self._run(self._set_parent(child, parent))
        self.model.parents[child] = parent

    @rule(where=_ANY, whereto=_ANY)
    def move_namespace(self, where: int, whereto: int) -> None:
        source, target = self._one(self._namespaces(), where), self._one(self.all, whereto)
        organization, wanted = self.model.organizations[target], f"workspace:{target}"
        if source == wanted:
            return
        moving = [
            each
            for each in self.model.memories.values()
            if each.namespace == source and each.organization == organization
        ]
        home = self._run(self._home(target))
        call = self.world.rooms.grants.move(home, source, wanted)
        if not moving:
            self._fails(NotFound, call)
            return
        assert self._run(call) == len(moving)
        for each in moving:
            each.namespace, each.plain = wanted, False

    @rule(which=_ANY)
    def let_expire(self, which: int) -> None:
        memory = self._memory(which)
        if memory is not None:
            self._run(
                self.world.pool.execute(
                    "UPDATE memories SET expires_at = now() - interval '1 s' WHERE id = $1",
                    memory.id,
                )
            )
            memory.expired, memory.plain = True, False

    @rule()
    def sweep(self) -> None:
        """What has expired is deleted, and nobody can tell."""
        self._run(self.world.rooms.upkeep.sweep())
        for gone in [each for each in self.model.memories.values() if each.expired]:
            for each in self.model.memories.values():
                if each.winner != gone.id:
                    continue
                if gone.winner is not None:
                    each.winner = gone.winner
                elif gone.text.author in self.model.hidden:
                    each.winner, each.replaced = None, None
            del self.model.memories[gone.id]

    @rule()
    def crash(self) -> None:
        self._run(self.world.crash())

    @invariant()
    def everybody_sees_what_the_model_says(self) -> None:
        if not self.times:
            return
        for reader in self.all:
            access = self._run(self.world.rooms.namespaces.access(reader))
            assert {each.name: each.writable for each in access.namespaces} == self.model.rights(
                reader
            )
            assert self._shown(reader, Query(limit=100)) == self.model.holding(reader)
        reader = self.all[self.step % len(self.all)]
        self._words_are_found(reader)
        self._past_is_kept(reader)
        self._each_is_read_by_whom_it_should_be(reader)
        self._tick()

    def _words_are_found(self, reader: UUID) -> None:
        word = _WORDS[self.step % len(_WORDS)]
        holding = self.model.holding(reader)
        wanted = {id_: text for id_, text in holding.items() if word in text}
        assert self._shown(reader, Query(text=word, limit=100)) == wanted

    def _past_is_kept(self, reader: UUID) -> None:
        for step in {0, len(self.times) // 2, len(self.times) - 1}:
            then = self._shown(reader, Query(as_of=self.times[step], limit=100))
            assert then == self.model.held(reader, step)

    def _each_is_read_by_whom_it_should_be(self, reader: UUID) -> None:
        seen = {each.id for each in self.model.seen(reader)}
        for memory in list(self.model.memories.values())[-12:]:
            if memory.id in seen:
                row = self._run(self.world.rooms.reads.get(reader, memory.id))
                assert (row.content, row.author_id) == memory.text[:2]
                texts, _ = self._run(self.world.rooms.reads.history(reader, memory.id))
                mine = [each.content for each in texts if each.memory_id == memory.id]
                trusted = [t.content for t in memory.texts if t.author not in self.model.hidden]
                assert mine == trusted
                assert {each.memory_id for each in texts} <= seen
            else:
                self._fails(NotFound, self.world.rooms.reads.get(reader, memory.id))
                self._fails(NotFound, self.world.rooms.reads.history(reader, memory.id))

    def _shown(self, reader: UUID, query: Query) -> dict[UUID, str]:
        async def search() -> Found:
            access = await self.world.rooms.namespaces.access(reader)
            return await self.world.search.search(access, query)

        found = self._run(search())
        shown = {hit.row.id: hit.row.content for hit in found.hits}
        hidden = {id_ for hit in found.hits for id_ in hit.similar_ids}
        assert not hidden & set(shown)
        step = self.step if query.as_of is None else self.times.index(query.as_of)
        held = self.model.held(reader, step)
        return shown | {id_: held.get(id_, "not to be seen") for id_ in hidden}

    def _in_dispute(self, memory: Memory) -> bool:
        """Whether a hidden author replaced it: it holds, and whether it may be changed is open."""
        return memory.winner is not None and not self.model.gave_way(memory)

    def _refused(self, caller: UUID, memory: Memory, call: Any) -> bool:
        """Whether the caller may not change the memory; if so, the call must fail."""
        if memory not in list(self.model.seen(caller)):
            self._fails(NotFound, call(memory.id))
            return True
        if not self.model.rights(caller)[memory.namespace]:
            self._fails(Denied, call(memory.id))
            return True
        return False

    def _repeat(self, call: Coroutine[Any, Any, Any]) -> None:
        """A consolidation of what was replaced: the first result again, or a conflict."""
        with contextlib.suppress(Aborted):
            done = self._run(call)
            assert done.result.unchanged

    def _learn(self, id_: UUID, author: UUID, namespace: str, text: str) -> None:
        organization = self.model.organizations[author]
        texts = [Text(text, author, self.step, None)]
        self.model.memories[id_] = Memory(id_, organization, namespace, texts, self.step)

    def _lose(self, memory: Memory) -> None:
        """Forget `memory`; each memory that gave way to `memory` gives way to its successor."""
        for each in self.model.memories.values():
            if each.winner == memory.id and memory.winner is not None:
                each.winner = memory.winner
        del self.model.memories[memory.id]

    def _namespaces(self) -> list[str]:
        kinds = ("workspace", "team", "org")
        return ["custom:shared", *(f"{kind}:{each}" for kind in kinds for each in self.all)]

    def _memory(self, which: int) -> Memory | None:
        memories = list(self.model.memories.values())
        return self._one(memories, which) if memories else None

    def _pair(self, who: int, which: int) -> tuple[UUID, Memory | None]:
        """A memory, and three times in four somebody who may write it."""
        memory = self._memory(which)
        callers = self.all
        if memory is not None and who % 4:
            rights = [(each, self.model.rights(each)) for each in self.all]
            writers = [each for each, mine in rights if mine.get(memory.namespace, False)]
            home = memory.organization
            callers = [e for e in writers if self.model.organizations[e] == home] or self.all
        return self._one(callers, who // 4), memory

    def _is_below(self, workspace: UUID | None, above: UUID) -> bool:
        while workspace is not None:
            if workspace == above:
                return True
            workspace = self.model.parents[workspace]
        return False

    async def _set_parent(self, child: UUID, parent: UUID) -> None:
        await self.world.pool.execute(
            "UPDATE workspaces SET parent_id = $2 WHERE id = $1", child, parent
        )

    async def _home(self, workspace: UUID) -> UUID:
        home: UUID = await self.world.pool.fetchval(
            "SELECT organization_id FROM workspaces WHERE id = $1", workspace
        )
        return home

    def _tick(self) -> None:
        """The step is over."""
        clock = self.world.pool.fetchval("SELECT clock_timestamp()")
        self.times.append(self._run(clock))
        self.step += 1

    def _fails(self, how: type[MoleculeError], call: Coroutine[Any, Any, Any]) -> None:
        try:
            self._run(call)
        except how:
            return
        raise AssertionError(f"no {how.__name__}")

    @staticmethod
    def _one(options: Sequence[T], which: int) -> T:
        return options[which % len(options)]

    def _run(self, step: Coroutine[Any, Any, T]) -> T:
        return self.world.loop.run(step)


async def test_two_lies_in_a_row_hide_no_truth(pool: Pool, database_url: str) -> None:
    """A hidden author who replaced a memory twice has replaced it not at all."""
    async with bench_of(pool, database_url) as bench:
        tree = await plant(pool)
        team = f"team:{tree.lead}"
        truth = await bench.commit(tree.a, "the port is 80", namespace=team)
        lie = await bench.commits.supersede(tree.b, truth.id, Draft(content="the port is 81"))
        await bench.commits.supersede(tree.b, lie.id, Draft(content="the port is 82"))
        await bench.grants.quarantine(None, tree.b, "", "test")
        found = await holding(bench, tree.a)
        assert found == {"the port is 80"}


async def test_undo_brings_back_what_was_consolidated_and_nothing_older(
    pool: Pool, database_url: str
) -> None:
    """What an original had replaced stays replaced, also once that original is forgotten."""
    async with bench_of(pool, database_url) as bench:
        me = (await plant(pool)).a
        old = await bench.commit(me, "ten agents")
        newer = await bench.commits.supersede(me, old.id, Draft(content="eleven agents"))
        other = await bench.commit(me, "two hosts")
        both = Draft(content="eleven agents on two hosts")
        done = await bench.commits.consolidate(me, [newer.id, other.id], both)
        assert done.result is not None
        await bench.changes.forget(me, newer.id)
        assert await bench.commits.undo(me, done.result.id) == [other.id]
        assert await holding(bench, me) == {"two hosts"}


async def holding(bench: Bench, reader: UUID) -> set[str]:
    """What a search without a query shows."""
    async with open_search(bench.core) as parts:
        access = await bench.namespaces.access(reader)
        found = await parts.search.search(access, Query(limit=100))
        return {hit.row.content for hit in found.hits}


def test_every_reader_sees_what_the_model_says(database_url: str) -> None:
    """Commits, updates, supersedes, consolidations, undos, forgets, grants, hidden authors, moves
    of workspaces and of namespaces, expiries, sweeps and crashes, over two organisations."""
    with world_of(database_url) as world:
        Memories.world = world
        run_state_machine_as_test(
            Memories,
            settings=settings(
                max_examples=60 if LONG else 5,
                stateful_step_count=50 if LONG else 30,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                report_multiple_bugs=False,
                suppress_health_check=list(HealthCheck),
            ),
        )
