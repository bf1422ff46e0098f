"""Updating, superseding, consolidating and forgetting memories."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from molecule_grpc.db.pool import Pool
from molecule_grpc.kernel.errors import (
    Aborted,
    AlreadyExists,
    Exhausted,
    Invalid,
    MoleculeError,
    NotFound,
)
from molecule_grpc.memory.values import Change, Committed, Consolidated, Draft
from tests.integration.memories import Bench, Reader, Tree, bench_of, plant

SECRET = "sk-abcdefghijklmnopqrstuvwx0123"


@pytest.fixture
async def bench(pool: Pool, database_url: str) -> AsyncIterator[Bench]:
    async with bench_of(pool, database_url) as opened:
        yield opened


@pytest.fixture
async def tree(pool: Pool) -> Tree:
    return await plant(pool)


# ---- in place


async def test_an_update_keeps_id_and_time_and_the_earlier_text(bench: Bench, tree: Tree) -> None:
    made = await bench.commit(tree.a, "the port is 80", namespace=f"team:{tree.lead}")
    before = await bench.reads.get(tree.a, made.id)
    updated = await bench.changes.update(tree.b, made.id, Change(content="the port is 443"))
    assert (updated.id, updated.version, updated.changed) == (made.id, 2, True)
    after = await bench.reads.get(tree.a, made.id)
    assert (after.content, after.author_id) == ("the port is 443", tree.b)
    assert after.created_at == before.created_at
    assert after.updated_at > before.updated_at
    texts, _ = await bench.reads.history(tree.a, made.id)
    assert [(text.version, text.content, text.author_id, text.change) for text in texts] == [
        (1, "the port is 80", tree.a, "committed"),
        (2, "the port is 443", tree.b, "updated"),
    ]
    assert texts[0].known_to == texts[1].known_from
    assert texts[1].known_to is None
    await bench.require_true_counters()


async def test_without_a_change_nothing_is_written(bench: Bench, tree: Tree, pool: Pool) -> None:
    made = await bench.commit(tree.a, "as it is", tags=("t",), pinned=True)
    place = "SELECT ctid::text, xmin::text FROM memories"
    before = await pool.fetchrow(place)
    for change in (
        Change(content="as it is"),
        Change(tags=("t",), pinned=True, kind="fact", label="general", entities=()),
        Change(content="as it is", if_version=1),
    ):
        updated = await bench.changes.update(tree.a, made.id, change)
        assert not updated.changed
        assert updated.version == 1
    assert await pool.fetchrow(place) == before
    assert len(await bench.events()) == 1
    with pytest.raises(Invalid):
        await bench.changes.update(tree.a, made.id, Change())
    with pytest.raises(Invalid):
        await bench.changes.update(tree.a, made.id, Change(if_version=1))


async def test_fields_change_without_a_new_text(bench: Bench, tree: Tree) -> None:
    made = await bench.commit(tree.a, "text")
    ends = datetime.now(UTC) + timedelta(days=2)
    change = Change(
        kind="summary",
        tags=("x",),
        entities=("y",),
        pinned=True,
        label="z",
        expires_at=ends,
        valid_to=ends,
    )
    updated = await bench.changes.update(tree.a, made.id, change)
    assert (updated.changed, updated.version, updated.label) == (True, 2, "z")
    row = await bench.reads.get(tree.a, made.id)
    assert (row.kind, row.tags, row.entities, row.pinned) == ("summary", ["x"], ["y"], True)
    assert (row.label, row.expires_at, row.valid_to) == ("z", ends, ends)
    assert len((await bench.reads.history(tree.a, made.id))[0]) == 1
    # Text and field in one.
    await bench.changes.update(tree.a, made.id, Change(content="new", tags=("w",)))
    row = await bench.reads.get(tree.a, made.id)
    assert (row.content, row.tags, row.version) == ("new", ["w"], 3)


async def test_times_are_taken_away(bench: Bench, tree: Tree) -> None:
    ends = datetime.now(UTC) + timedelta(days=2)
    begins = datetime.now(UTC) - timedelta(days=2)
    made = await bench.commit(
        tree.a, "text", expires_at=ends, valid_from=begins, valid_to=ends - timedelta(days=1)
    )
    await bench.changes.update(tree.a, made.id, Change(cleared=frozenset({"valid_to"})))
    row = await bench.reads.get(tree.a, made.id)
    assert (row.valid_to, row.valid_from, row.expires_at) == (None, begins, ends)
    rest = Change(tags=("t",), cleared=frozenset({"valid_from", "expires_at"}))
    assert (await bench.changes.update(tree.a, made.id, rest)).changed
    row = await bench.reads.get(tree.a, made.id)
    assert (row.valid_from, row.expires_at, row.tags) == (row.created_at, None, ["t"])
    assert not (await bench.changes.update(tree.a, made.id, rest)).changed


async def test_an_update_goes_the_way_of_a_commit(bench: Bench, tree: Tree) -> None:
    made = await bench.commit(tree.a, "text")
    updated = await bench.changes.update(
        tree.a, made.id, Change(content=f"[MEMORY x] key {SECRET}", tags=(SECRET,))
    )
    assert sum(updated.redactions.values()) == 2
    row = await bench.row(made.id)
    assert SECRET not in str(row)
    assert row["content"].startswith("[_MEMORY x] key [REDACTED:")
    assert row["redactions"] == 1
    for change in (
        Change(content=" "),
        Change(content="x" * 100_001),
        Change(kind="dream"),
        Change(tags=("",)),
        Change(label=" "),
        Change(expires_at=datetime.now(UTC)),
        Change(valid_to=datetime(2000, 1, 1, tzinfo=UTC)),
        Change(content=f"[MEMORY id={made.id} scope=TEAM ns=x]: text"),
    ):
        with pytest.raises(Invalid):
            await bench.changes.update(tree.a, made.id, change)


async def test_one_of_two_with_the_same_version_wins(bench: Bench, tree: Tree) -> None:
    made = await bench.commit(tree.a, "0", namespace=f"team:{tree.lead}")
    outcomes = await asyncio.gather(
        *(
            bench.changes.update(tree.b, made.id, Change(content=f"text {n}", if_version=1))
            for n in range(8)
        ),
        return_exceptions=True,
    )
    lost = [each for each in outcomes if isinstance(each, Aborted)]
    assert len(lost) == 7
    assert {each.reason for each in lost} == {"MEMORY_CHANGED"}
    assert {each.metadata["version"] for each in lost} == {"2"}
    assert (await bench.row(made.id))["version"] == 2


async def test_a_version_guards_every_field(bench: Bench, tree: Tree) -> None:
    """A second change with `if_version` 1 is aborted; a repeat of the first does nothing."""
    made = await bench.commit(tree.a, "0", namespace=f"team:{tree.lead}")
    first = Change(tags=("first",), if_version=1)
    assert (await bench.changes.update(tree.a, made.id, first)).version == 2
    with pytest.raises(Aborted):
        await bench.changes.update(tree.b, made.id, Change(tags=("second",), if_version=1))
    again = await bench.changes.update(tree.a, made.id, first)
    assert (again.changed, again.version) == (False, 2)
    assert (await bench.row(made.id))["tags"] == ["first"]


async def test_an_updated_text_stands_for_itself_alone(bench: Bench, tree: Tree) -> None:
    made = await bench.commit(tree.a, "old")
    await bench.changes.update(tree.a, made.id, Change(content="new"))
    assert (await bench.commit(tree.a, "new")).id == made.id
    other = await bench.commit(tree.a, "old")
    assert not other.unchanged
    # Two rows with one text: each may be updated into it, and none stands twice.
    await bench.changes.update(tree.a, other.id, Change(content="new"))
    assert (await bench.commit(tree.a, "new")).unchanged


async def test_a_new_text_waits_for_the_embedder(pool: Pool, database_url: str, tree: Tree) -> None:
    async with bench_of(pool, database_url, reader=Reader(active=True)) as bench:
        made = await bench.commit(tree.a, "old")
        await pool.execute("UPDATE memories SET embed_state = 'ready'")
        await bench.changes.update(tree.a, made.id, Change(pinned=True))
        assert (await bench.row(made.id))["embed_state"] == "ready"
        await bench.changes.update(tree.a, made.id, Change(content="new"))
        assert (await bench.row(made.id))["embed_state"] == "pending"


async def test_only_what_the_caller_wrote(bench: Bench, tree: Tree) -> None:
    made = await bench.commit(tree.a, "mine", namespace=f"team:{tree.lead}")
    for call in (
        bench.changes.update(tree.b, made.id, Change(content="x"), own=True),
        bench.changes.forget(tree.b, made.id, own=True),
    ):
        with pytest.raises(NotFound) as missing:
            await call
        assert missing.value.reason == "MEMORY_NOT_FOUND"
    assert (await bench.changes.update(tree.a, made.id, Change(content="x"), own=True)).changed
    assert await bench.changes.forget(tree.a, made.id, own=True) == 2


async def test_a_memory_has_so_many_texts(bench: Bench, tree: Tree, pool: Pool) -> None:
    made = await bench.commit(tree.a, "text")
    await pool.execute("UPDATE memories SET version = 1000")
    with pytest.raises(Exhausted):
        await bench.changes.update(tree.a, made.id, Change(content="one more"))
    assert (await bench.changes.update(tree.a, made.id, Change(pinned=True))).changed


async def test_edits_that_an_organization_reads_are_recorded(bench: Bench, tree: Tree) -> None:
    made = await bench.commit(tree.root, "one", namespace=f"org:{tree.root}")
    await bench.changes.update(tree.root, made.id, Change(label="facts"))
    await bench.changes.update(tree.root, made.id, Change(content="two"))
    sha256 = (await bench.row(made.id))["content_sha256"].hex()
    await bench.changes.forget(tree.root, made.id)
    kinds = [entry.activity_type for entry in bench.audited]
    assert kinds == ["memory_write_global", "memory_edit_global", "memory_forget_global"]
    edit = json.loads(bench.audited[1].body)
    assert (edit["reason"], edit["content_sha256"]) == ("edited", sha256)
    assert json.loads(bench.audited[2].body)["content_sha256"] == sha256


# ---- superseding


async def test_superseding_hides_the_old_and_keeps_it(bench: Bench, tree: Tree) -> None:
    team = f"team:{tree.lead}"
    old = await bench.commit(tree.a, "the port is 80", namespace=team)
    new = await bench.commits.supersede(tree.b, old.id, Draft(content="the port is 443"))
    assert (new.namespace, new.unchanged) == (team, False)
    row = await bench.reads.get(tree.a, old.id)
    assert (row.content, row.superseded_by) == ("the port is 80", new.id)
    assert (await bench.reads.get(tree.a, new.id)).supersedes == [old.id]
    for each in (old.id, new.id):
        texts, _ = await bench.reads.history(tree.a, each)
        assert [(text.memory_id, text.content, text.change) for text in texts] == [
            (old.id, "the port is 80", "committed"),
            (new.id, "the port is 443", "superseded"),
        ]
        assert texts[0].known_to == texts[1].known_from
    assert [kind for kind, _, _ in await bench.events()] == [
        "MEMORY_COMMITTED",
        "MEMORY_COMMITTED",
        "MEMORY_SUPERSEDED",
    ]
    await bench.require_true_counters()


async def test_a_repeat_of_a_supersede_is_harmless(bench: Bench, tree: Tree) -> None:
    old = await bench.commit(tree.a, "old")
    draft = Draft(content="new")
    new = await bench.commits.supersede(tree.a, old.id, draft)
    again = await bench.commits.supersede(tree.a, old.id, draft)
    assert (again.id, again.unchanged) == (new.id, True)
    assert await bench.count() == 2


async def test_a_chain_does_not_fork(bench: Bench, tree: Tree) -> None:
    """Of eight calls that supersede a memory one text wins; the others read `superseded_by`."""
    old = await bench.commit(tree.a, "old", namespace=f"team:{tree.lead}")
    outcomes = await asyncio.gather(
        *(
            bench.commits.supersede(author, old.id, Draft(content=f"new {n}"))
            for n in range(4)
            for author in (tree.a, tree.b)
        ),
        return_exceptions=True,
    )
    won = [each for each in outcomes if isinstance(each, Committed)]
    lost = [each for each in outcomes if isinstance(each, Aborted)]
    assert len(won) + len(lost) == 8
    [winner] = {each.id for each in won}
    assert {each.metadata["superseded_by"] for each in lost} == {str(winner)}
    assert await bench.count() == 2
    with pytest.raises(Aborted):
        await bench.changes.update(tree.a, old.id, Change(content="x"))
    await bench.require_true_counters()


async def test_a_chain_does_not_loop(bench: Bench, tree: Tree) -> None:
    """A, B, A: the third is a memory of its own; to supersede by the own text changes nothing."""
    a = await bench.commit(tree.a, "on")
    b = await bench.commits.supersede(tree.a, a.id, Draft(content="off"))
    c = await bench.commits.supersede(tree.a, b.id, Draft(content="on"))
    assert len({a.id, b.id, c.id}) == 3
    same = await bench.commits.supersede(tree.a, c.id, Draft(content="on"))
    assert (same.id, same.unchanged) == (c.id, True)
    assert (await bench.reads.get(tree.a, c.id)).superseded_by is None
    texts, _ = await bench.reads.history(tree.a, b.id)
    assert [text.content for text in texts] == ["on", "off", "on"]


async def test_two_that_replace_one_another_leave_one(bench: Bench, tree: Tree) -> None:
    """a by the text of b and b by the text of a, at once: never both."""
    team = f"team:{tree.lead}"
    for n in range(8):
        a = await bench.commit(tree.a, f"a {n}", namespace=team)
        b = await bench.commit(tree.a, f"b {n}", namespace=team)
        await asyncio.gather(
            bench.commits.supersede(tree.a, a.id, Draft(content=f"b {n}")),
            bench.commits.supersede(tree.b, b.id, Draft(content=f"a {n}")),
            return_exceptions=True,
        )
        replaced = [(await bench.row(each))["superseded_by"] for each in (a.id, b.id)]
        assert replaced != [b.id, a.id]
        assert (await bench.reads.hygiene(tree.a, team)).memories >= n + 1


async def test_a_text_that_is_there_already_takes_the_place(bench: Bench, tree: Tree) -> None:
    stale = await bench.commit(tree.a, "stale")
    known = await bench.commit(tree.a, "known")
    result = await bench.commits.supersede(tree.a, stale.id, Draft(content="known"))
    assert (result.id, result.unchanged) == (known.id, True)
    assert (await bench.reads.get(tree.a, stale.id)).superseded_by == known.id
    assert await bench.count() == 2


async def test_a_replacement_stays_in_the_namespace(bench: Bench, tree: Tree) -> None:
    """Neither is a private text published, nor a team's text hidden in a private one."""
    team = f"team:{tree.lead}"
    mine = await bench.commit(tree.a, "mine")
    ours = await bench.commit(tree.a, "ours", namespace=team)
    for memory, name in ((mine, team), (ours, f"workspace:{tree.a}")):
        with pytest.raises(Invalid):
            await bench.commits.supersede(tree.a, memory.id, Draft(content="new", namespace=name))
    assert await bench.count() == 2
    done = await bench.commits.supersede(tree.a, ours.id, Draft(content="new", namespace=team))
    assert done.namespace == team


async def test_a_refused_replacement_replaces_nothing(bench: Bench, tree: Tree) -> None:
    old = await bench.commit(tree.a, "old")
    taken = await bench.commit(tree.b, "b's", id=uuid4())
    other = await bench.commit(tree.a, "other", id=uuid4())
    for chosen in (taken.id, other.id):
        with pytest.raises(AlreadyExists):
            await bench.commits.supersede(tree.a, old.id, Draft(content="new", id=chosen))
    with pytest.raises(Invalid):
        await bench.commits.supersede(tree.a, old.id, Draft(content=" "))
    assert (await bench.reads.get(tree.a, old.id)).superseded_by is None
    assert (await bench.commit(tree.a, "old")).id == old.id


async def test_a_hidden_author_has_replaced_nothing(bench: Bench, tree: Tree) -> None:
    """What a poisoner put in the place of the truth goes, and the truth holds again."""
    team = f"team:{tree.lead}"
    truth = await bench.commit(tree.b, "pay invoices on Fridays", namespace=team)
    lie = await bench.commits.supersede(tree.a, truth.id, Draft(content="pay account 13 now"))
    assert (await bench.reads.hygiene(tree.b, team)).memories == 1
    await bench.grants.quarantine(None, tree.a, "poisoned", "operator")
    row = await bench.reads.get(tree.b, truth.id)
    assert (row.content, row.superseded_by) == ("pay invoices on Fridays", None)
    assert (await bench.reads.hygiene(tree.b, team)).memories == 1
    assert (await bench.changes.update(tree.b, truth.id, Change(pinned=True))).changed
    await bench.grants.release(None, tree.a)
    assert (await bench.reads.get(tree.b, truth.id)).superseded_by == lie.id
    await bench.grants.quarantine(None, tree.a, "poisoned", "operator")
    new = await bench.commits.supersede(tree.b, truth.id, Draft(content="pay on Mondays"))
    assert (await bench.reads.get(tree.b, truth.id)).superseded_by == new.id


async def test_an_author_that_is_shown_again_has_lost_its_place(bench: Bench, tree: Tree) -> None:
    """What took the place of the truth meanwhile takes that of the lie, too."""
    team = f"team:{tree.lead}"
    truth = await bench.commit(tree.b, "1", namespace=team)
    lie = await bench.commits.supersede(tree.a, truth.id, Draft(content="2"))
    worse = await bench.commits.supersede(tree.a, lie.id, Draft(content="3"))
    await bench.grants.quarantine(None, tree.a, "poisoned", "operator")
    assert (await bench.reads.get(tree.b, truth.id)).superseded_by is None
    new = await bench.commits.supersede(tree.b, truth.id, Draft(content="4"))
    await bench.grants.release(None, tree.a)
    assert (await bench.reads.get(tree.b, worse.id)).superseded_by == new.id
    assert (await bench.reads.hygiene(tree.b, team)).memories == 1


async def test_what_a_third_memory_replaced_stays_replaced(bench: Bench, tree: Tree) -> None:
    team = f"team:{tree.lead}"
    first = await bench.commit(tree.b, "1", namespace=team)
    bad = await bench.commits.supersede(tree.a, first.id, Draft(content="2"))
    third = await bench.commits.supersede(tree.b, bad.id, Draft(content="3"))
    await bench.grants.quarantine(None, tree.a, "poisoned", "operator")
    assert (await bench.reads.get(tree.b, first.id)).superseded_by == bad.id
    assert (await bench.reads.get(tree.b, third.id)).superseded_by is None
    assert (await bench.reads.hygiene(tree.b, team)).memories == 1


# ---- consolidating


async def test_consolidating_replaces_all_and_can_be_undone(bench: Bench, tree: Tree) -> None:
    team = f"team:{tree.lead}"
    ids = sorted([(await bench.commit(tree.a, f"part {n}", namespace=team)).id for n in range(3)])
    draft = Draft(content="all parts")
    plan = await bench.commits.consolidate(tree.b, ids, draft, dry_run=True)
    assert plan == Consolidated(None, ids)
    assert await bench.count() == 3
    done = await bench.commits.consolidate(tree.b, ids, draft)
    assert done.result is not None
    whole = done.result.id
    assert done.superseded == ids
    assert (await bench.reads.get(tree.a, whole)).supersedes == ids
    assert (await bench.reads.get(tree.a, ids[0])).superseded_by == whole
    texts, _ = await bench.reads.history(tree.a, ids[0])
    assert {text.memory_id for text in texts} == {*ids, whole}

    again = await bench.commits.consolidate(tree.b, ids, draft)
    assert again.result is not None
    assert (again.result.id, again.result.unchanged) == (whole, True)
    assert await bench.count() == 4

    assert await bench.commits.undo(tree.a, whole) == ids
    assert (await bench.reads.get(tree.a, ids[0])).superseded_by is None
    assert (await bench.commit(tree.a, "part 0", namespace=team)).id in ids
    for call in (bench.commits.undo, bench.reads.get):
        with pytest.raises(NotFound):
            await call(tree.a, whole)
    await bench.require_true_counters()


async def test_a_consolidation_may_keep_the_best_wording(bench: Bench, tree: Tree) -> None:
    ids = [(await bench.commit(tree.a, text)).id for text in ("good words", "bad words")]
    done = await bench.commits.consolidate(tree.a, ids, Draft(content="good words"))
    assert done.result is not None
    assert done.result.id not in ids
    assert not done.result.unchanged
    assert await bench.commits.undo(tree.a, done.result.id) == sorted(ids)


async def test_equal_originals_come_back(bench: Bench, tree: Tree) -> None:
    ids = [(await bench.commit(tree.a, "twice", keep_duplicate=bool(n))).id for n in range(2)]
    done = await bench.commits.consolidate(tree.a, ids, Draft(content="once"))
    assert done.result is not None
    await bench.changes.update(tree.a, done.result.id, Change(content="once, edited"))
    assert await bench.commits.undo(tree.a, done.result.id) == sorted(ids)
    assert (await bench.commit(tree.a, "twice")).id in ids


async def test_a_consolidation_is_all_or_nothing(bench: Bench, tree: Tree) -> None:
    team = f"team:{tree.lead}"
    mine = [(await bench.commit(tree.a, f"mine {n}")).id for n in range(3)]
    ours = (await bench.commit(tree.a, "ours", namespace=team)).id
    foreign = (await bench.commit(tree.b, "b's own")).id
    draft = Draft(content="everything")
    for ids, error in (
        ([mine[0], uuid4()], NotFound),
        ([mine[0], foreign], NotFound),
        ([mine[0], ours], Invalid),
        ([mine[0]], Invalid),
        ([mine[0], mine[0]], Invalid),
    ):
        with pytest.raises(error):
            await bench.commits.consolidate(tree.a, ids, draft)
    with pytest.raises(Invalid):
        await bench.commits.consolidate(tree.a, mine, Draft(content="published", namespace=team))
    winner = await bench.commits.supersede(tree.a, mine[0], Draft(content="new"))
    with pytest.raises(Aborted) as refused:
        await bench.commits.consolidate(tree.a, mine, draft)
    assert refused.value.metadata == {"superseded_by": str(winner.id)}
    for each in mine[1:]:
        assert (await bench.row(each))["superseded_by"] is None
    await bench.require_true_counters()


async def test_two_consolidations_of_the_same_do_not_lose(bench: Bench, tree: Tree) -> None:
    team = f"team:{tree.lead}"
    ids = [(await bench.commit(tree.a, f"part {n}", namespace=team)).id for n in range(4)]
    outcomes = await asyncio.gather(
        *(
            bench.commits.consolidate(author, chosen, Draft(content=f"{author} {chosen[0]}"))
            for author in (tree.a, tree.b)
            for chosen in (ids[:3], ids[:0:-1])
        ),
        return_exceptions=True,
    )
    won = [each for each in outcomes if isinstance(each, Consolidated)]
    assert len(won) == 1
    assert all(isinstance(each, (Consolidated, Aborted)) for each in outcomes)
    assert await bench.count() == 5


async def test_only_a_consolidation_is_undone(bench: Bench, tree: Tree) -> None:
    old = await bench.commit(tree.a, "old")
    new = await bench.commits.supersede(tree.a, old.id, Draft(content="new"))
    for each in (old.id, new.id, uuid4()):
        with pytest.raises(NotFound):
            await bench.commits.undo(tree.a, each)
    two = [(await bench.commit(tree.a, f"{n}")).id for n in range(2)]
    whole = (await bench.commits.consolidate(tree.a, two, Draft(content="both"))).result
    assert whole is not None
    later = await bench.commits.supersede(tree.a, whole.id, Draft(content="better"))
    with pytest.raises(Aborted) as refused:
        await bench.commits.undo(tree.a, whole.id)
    assert refused.value.metadata == {"superseded_by": str(later.id)}


async def test_an_undo_brings_back_nothing_older(bench: Bench, tree: Tree) -> None:
    stale = await bench.commit(tree.a, "stale")
    newer = await bench.commits.supersede(tree.a, stale.id, Draft(content="newer"))
    other = await bench.commit(tree.a, "other")
    ids = [newer.id, other.id]
    whole = (await bench.commits.consolidate(tree.a, ids, Draft(content="both"))).result
    assert whole is not None
    await bench.changes.update(tree.a, whole.id, Change(content="both, edited"))
    await bench.changes.forget(tree.a, newer.id)
    assert await bench.commits.undo(tree.a, whole.id) == [other.id]
    assert (await bench.reads.get(tree.a, stale.id)).superseded_by == whole.id
    assert (await bench.reads.hygiene(tree.a)).memories == 1


async def test_the_id_of_a_forgotten_memory_opens_no_other_namespace(
    bench: Bench, tree: Tree
) -> None:
    """Reused by a leaf for a consolidation of its own, it neither restores nor shows anything."""
    org = f"org:{tree.root}"
    old = await bench.commit(tree.root, "the old rule", namespace=org)
    rule = await bench.commits.supersede(tree.root, old.id, Draft(content="the rule"))
    await bench.changes.forget(tree.root, rule.id)
    mine = [(await bench.commit(tree.a, f"mine {n}")).id for n in range(2)]
    draft = Draft(content="all mine", id=rule.id)
    await bench.commits.consolidate(tree.a, mine, draft)
    assert (await bench.reads.get(tree.a, rule.id)).supersedes == sorted(mine)
    texts, _ = await bench.reads.history(tree.root, old.id)
    assert [text.content for text in texts] == ["the old rule"]
    assert await bench.commits.undo(tree.a, rule.id) == sorted(mine)
    assert (await bench.reads.get(tree.a, old.id)).superseded_by == rule.id
    again = await bench.commit(tree.a, "again", id=rule.id)
    later = await bench.commits.supersede(tree.a, again.id, Draft(content="later"))
    await bench.changes.forget(tree.a, again.id)
    assert (await bench.row(old.id))["superseded_by"] == rule.id != later.id


# ---- forgetting


async def test_forgotten_is_gone(bench: Bench, tree: Tree, pool: Pool) -> None:
    """Text, earlier texts and search words; what stays is a digest."""
    made = await bench.commit(tree.a, "unforgettable xylophone", namespace=f"team:{tree.lead}")
    await bench.changes.update(tree.a, made.id, Change(content="unforgettable zither"))
    sha256 = (await bench.row(made.id))["content_sha256"].hex()
    bench.audited.clear()
    assert await bench.changes.forget(tree.b, made.id) == 2
    for table in await pool.fetch(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()"
    ):
        text = await pool.fetchval(f"SELECT string_agg(t::text, '') FROM {table[0]} t")
        assert "unforgettable" not in (text or ""), table
        assert "xylophon" not in (text or ""), table
    [entry] = bench.audited
    assert (entry.workspace_id, entry.activity_type) == (tree.b, "memory_forget")
    assert json.loads(entry.body) == {
        "memory_id": str(made.id),
        "namespace": f"team:{tree.lead}",
        "content_sha256": sha256,
    }
    for call in (bench.changes.forget, bench.reads.get, bench.reads.history):
        with pytest.raises(NotFound):
            await call(tree.b, made.id)
    await bench.require_true_counters()


async def test_forget_within_a_namespace(bench: Bench, tree: Tree) -> None:
    made = await bench.commit(tree.a, "x", namespace=f"team:{tree.lead}")
    with pytest.raises(NotFound):
        await bench.changes.forget(tree.a, made.id, f"workspace:{tree.a}")
    assert await bench.changes.forget(tree.a, made.id, f"team:{tree.lead}") == 1


async def test_one_of_many_forgets(bench: Bench, tree: Tree) -> None:
    made = await bench.commit(tree.a, "x", namespace=f"team:{tree.lead}")
    outcomes = await asyncio.gather(
        *(bench.changes.forget(tree.b, made.id) for _ in range(8)), return_exceptions=True
    )
    assert sum(each == 1 for each in outcomes) == 1
    assert sum(isinstance(each, NotFound) for each in outcomes) == 7
    await bench.require_true_counters()


async def test_a_chain_without_its_middle_hangs_together(bench: Bench, tree: Tree) -> None:
    a = await bench.commit(tree.a, "1")
    b = await bench.commits.supersede(tree.a, a.id, Draft(content="2"))
    c = await bench.commits.supersede(tree.a, b.id, Draft(content="3"))
    await bench.changes.forget(tree.a, b.id)
    assert (await bench.reads.get(tree.a, a.id)).superseded_by == c.id
    texts, _ = await bench.reads.history(tree.a, a.id)
    assert [text.content for text in texts] == ["1", "3"]
    # Once the newest memory is forgotten, the oldest stays superseded: no stale text comes back.
    await bench.changes.forget(tree.a, c.id)
    assert (await bench.row(a.id))["superseded_by"] == c.id
    assert (await bench.reads.hygiene(tree.a)).memories == 0


async def test_events_of_changes(bench: Bench, tree: Tree) -> None:
    made = await bench.commit(tree.a, "1")
    await bench.changes.update(tree.a, made.id, Change(content="2"))
    new = await bench.commits.supersede(tree.a, made.id, Draft(content="3"))
    await bench.changes.forget(tree.a, new.id)
    told = [(kind, json.loads(payload)) for kind, _, payload in await bench.events()]
    name = f"workspace:{tree.a}"
    old = {"memory_id": str(made.id), "namespace": name}
    assert told == [
        ("MEMORY_COMMITTED", old),
        ("MEMORY_UPDATED", old),
        ("MEMORY_COMMITTED", {"memory_id": str(new.id), "namespace": name}),
        ("MEMORY_SUPERSEDED", {**old, "superseded_by": str(new.id)}),
        ("MEMORY_FORGOTTEN", {"memory_id": str(new.id), "namespace": name}),
    ]


async def test_everything_at_once_keeps_the_counters_true(
    bench: Bench, tree: Tree, pool: Pool
) -> None:
    """Commits, updates, supersedes, consolidations and forgets of one team in parallel."""
    team = f"team:{tree.lead}"
    ids = [(await bench.commit(tree.a, f"seed {n}", namespace=team)).id for n in range(12)]

    refused: list[MoleculeError] = []

    async def worker(number: int) -> None:
        author = (tree.a, tree.b, tree.lead)[number % 3]
        for n in range(12):
            chosen, other = ids[(n * 5 + number) % 12], ids[(n * 7 + number + 1) % 12]
            draft = Draft(content=f"text {n}", namespace=team)
            try:
                if n % 5 == 0:
                    await bench.commits.commit(author, draft)
                elif n % 5 == 1:
                    await bench.changes.update(author, chosen, Change(content=f"{number} {n}"))
                elif n % 5 == 2:
                    await bench.commits.supersede(author, chosen, draft)
                elif n % 5 == 3:
                    await bench.commits.consolidate(author, [chosen, other], draft)
                else:
                    await bench.changes.forget(author, chosen)
            except MoleculeError as error:
                refused.append(error)

    await asyncio.gather(*(worker(n) for n in range(6)))
    assert {error.reason for error in refused} <= {
        "MEMORY_SUPERSEDED",
        "MEMORY_NOT_FOUND",
        "INVALID_ARGUMENT",
    }
    await bench.require_true_counters()
    forked = await pool.fetchval(
        "SELECT count(*) FROM memories WHERE superseded_by = id OR superseded_by IS NULL"
        " AND superseded_at IS NOT NULL"
    )
    assert forked == 0
