"""The ledger on a real database: what each call leaves in it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest

from molecule_grpc.auth.tokens import digest
from molecule_grpc.db.pool import Pool, connect
from molecule_grpc.delegation.inbox.store.reads import InboxQuery
from molecule_grpc.delegation.ledger.handover import HandedOver, Handover
from molecule_grpc.delegation.ledger.moves import draft_move
from molecule_grpc.delegation.ledger.rules import Status
from molecule_grpc.delegation.ledger.store import keys
from molecule_grpc.delegation.ledger.store import move as ledger_moves
from molecule_grpc.delegation.ledger.store import views as ledger_views
from molecule_grpc.delegation.record.activity import ActivityQuery
from molecule_grpc.faces.mcp.items import Senders
from molecule_grpc.kernel.errors import Aborted, Exhausted, Invalid, NotFound, Unauthenticated
from molecule_grpc.kernel.ids import new_id
from molecule_grpc.kernel.page_tokens import PageTokens
from molecule_grpc.workspace.tree.directory import Directory
from molecule_grpc.workspace.tree.pairs import Pairs
from tests.integration.agents import (
    ORGANIZATION,
    Slice,
    draft,
    hire,
    message,
    slice_of,
    someone_waits,
)
from tests.waiting import PATIENCE


@pytest.fixture
async def pair(pool: Pool) -> tuple[UUID, UUID]:
    """A caller and a callee."""
    caller, callee = await hire(pool, 2)
    return caller, callee


@contextlib.asynccontextmanager
async def another_worker(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection for transactions that stay open."""
    opened = await connect(dsn)
    try:
        yield opened
    finally:
        await opened.close()


async def test_life_of_a_delegation(slice_: Slice, pair: tuple[UUID, UUID]) -> None:
    """D4, D12: queued, in progress, completed, with the text kept."""
    caller, callee = pair
    name = await slice_.delegate(caller, callee, "count to three")
    assert (await slice_.row(name))["status"] == "queued"
    assert (await slice_.beat(callee, name)).applied
    beaten = await slice_.row(name)
    assert beaten["status"] == "in_progress"
    assert beaten["last_heartbeat"] is not None
    answer = await slice_.update(callee, name, "completed", "one two three")
    assert answer.applied
    row = await slice_.row(name)
    assert (row["status"], row["result_preview"], row["result"]) == (
        "completed",
        "one two three",
        "one two three",
    )


async def test_task_reaches_the_callee_as_one_item(slice_: Slice, pair: tuple[UUID, UUID]) -> None:
    caller, callee = pair
    name = await slice_.delegate(caller, callee, "count to three")
    (item,) = await slice_.items(callee)
    assert (item["seq"], item["method"], item["message_id"]) == (1, "delegate", name)
    assert item["source_id"] == caller
    body = json.loads(item["request_body"])
    assert body["params"]["message"]["parts"] == [{"kind": "text", "text": "count to three"}]
    assert body["params"]["message"]["metadata"] == {"delegation_id": name}


async def test_used_id_is_a_no_op(slice_: Slice, pair: tuple[UUID, UUID]) -> None:
    """D1: an insert with a used id changes nothing."""
    caller, callee = pair
    await slice_.record(caller, callee, "mine", "first")
    before = await slice_.row("mine")
    await slice_.record(caller, callee, "mine", "second")
    assert await slice_.row("mine") == before
    assert len(await slice_.record_of(caller)) == 1


async def test_schema_refuses_an_unknown_status(slice_: Slice, pair: tuple[UUID, UUID]) -> None:
    """D1: the vocabulary is in the schema."""
    caller, callee = pair
    name = await slice_.delegate(caller, callee)
    with pytest.raises(asyncpg.CheckViolationError):
        await slice_.pool.execute(
            "UPDATE delegations SET status = 'received' WHERE delegation_id = $1", name
        )


async def test_history_outlives_the_workspaces(slice_: Slice, pair: tuple[UUID, UUID]) -> None:
    """D1: deleting a workspace leaves its delegations."""
    caller, callee = pair
    name = await slice_.delegate(caller, callee)
    await slice_.pool.execute("DELETE FROM workspaces WHERE id = ANY($1)", list(pair))
    assert (await slice_.row(name))["caller_id"] == caller


async def test_outcome_for_a_deleted_caller_still_reaches_the_ledger(
    slice_: Slice, pair: tuple[UUID, UUID]
) -> None:
    """D1: nobody is left to tell, and that is no error."""
    caller, callee = pair
    name = await slice_.delegate(caller, callee)
    await slice_.pool.execute("DELETE FROM workspaces WHERE id = $1", caller)
    assert (await slice_.update(callee, name, "completed", "done")).applied
    assert (await slice_.row(name))["result"] == "done"
    assert await slice_.items(caller) == []


async def test_key_is_the_callers_own(pool: Pool, slice_: Slice) -> None:
    """D2: one caller, one key, one row; two callers, two rows."""
    one, two, callee = await hire(pool, 3)
    first = await slice_.delegate(one, callee, key="k")
    assert await slice_.delegate(one, callee, key="k") == first
    assert await slice_.delegate(two, callee, key="k") != first
    assert await pool.fetchval("SELECT count(*) FROM delegations") == 2
    assert len(await slice_.items(callee)) == 2


async def test_racing_requests_with_one_key_make_one_delegation(
    database_url: str, pool: Pool, slice_: Slice, pair: tuple[UUID, UUID]
) -> None:
    """D2: also when two workers take them at the same time."""
    caller, callee = pair
    async with slice_of(database_url, pool) as other:
        names = await asyncio.gather(
            *(worker.delegate(caller, callee, key="k") for worker in [slice_, other] * 10)
        )
    assert len(set(names)) == 1
    assert len(await slice_.items(callee)) == 1


async def test_key_with_other_content_is_refused(slice_: Slice, pair: tuple[UUID, UUID]) -> None:
    caller, callee = pair
    first = await slice_.delegate(caller, callee, "a", key="k")
    with pytest.raises(Aborted) as refused:
        await slice_.delegate(caller, callee, "b", key="k")
    assert refused.value.reason == "IDEMPOTENCY_MISMATCH"
    assert refused.value.metadata == {"delegation_id": first}


async def test_key_of_a_failed_delegation_is_free_and_its_row_stays(
    slice_: Slice, pair: tuple[UUID, UUID]
) -> None:
    caller, callee = pair
    first = await slice_.delegate(caller, callee, key="k")
    await slice_.update(callee, first, "failed", error="no")
    second = await slice_.delegate(caller, callee, "another task", key="k")
    assert second != first
    assert (await slice_.row(first))["idempotency_key"] is None
    assert (await slice_.row(second))["idempotency_key"] == "k"


async def test_key_of_a_live_delegation_is_not_freed(
    slice_: Slice, pair: tuple[UUID, UUID]
) -> None:
    """A key freed and taken again is not freed by a caller that saw the first failure."""
    caller, callee = pair
    name = await slice_.delegate(caller, callee, key="k")
    async with slice_.pool.acquire() as conn:
        await keys.free_key(conn, draft(caller, callee, idempotency_key="k"))
    assert (await slice_.row(name))["idempotency_key"] == "k"


async def test_key_expires_after_a_day(slice_: Slice, pair: tuple[UUID, UUID]) -> None:
    caller, callee = pair
    first = await slice_.delegate(caller, callee, key="k")
    await slice_.pool.execute(
        "UPDATE delegations SET created_at = created_at - interval '24 hours 1 second'"
    )
    assert await slice_.delegate(caller, callee, key="k") != first


async def test_default_deadline_is_six_hours(slice_: Slice, pair: tuple[UUID, UUID]) -> None:
    """D3: through the RPC, and for a row that is inserted without one."""
    caller, callee = pair
    asked = await slice_.row(await slice_.delegate(caller, callee))
    await slice_.pool.execute(
        """
        INSERT INTO delegations (delegation_id, caller_id, callee_id, organization_id, task_preview)
        VALUES ('bare', $1, $2, $3, 't')
        """,
        caller,
        callee,
        ORGANIZATION,
    )
    bare = await slice_.row("bare")
    assert bare["deadline"] - bare["created_at"] == timedelta(hours=6)
    assert asked["deadline"] - asked["created_at"] == timedelta(hours=6)


@pytest.mark.parametrize(
    ("status", "text", "error"),
    [("completed", "text", ""), ("failed", "", "reason"), ("completed", "", "")],
)
async def test_same_report_again_changes_no_column(
    slice_: Slice, pair: tuple[UUID, UUID], status: str, text: str, error: str
) -> None:
    """D5: it succeeds, says so, and nothing moves."""
    caller, callee = pair
    name = await slice_.delegate(caller, callee)
    await slice_.update(callee, name, status, text, error)
    before = await slice_.row(name), await slice_.record_of(caller)
    again = await slice_.update(callee, name, status, text, error)
    assert again.applied
    assert again.status == status
    assert (await slice_.row(name), await slice_.record_of(caller)) == before


async def test_text_after_an_empty_completion_is_not_taken(
    slice_: Slice, pair: tuple[UUID, UUID]
) -> None:
    """D5, I-LG-4: the first final report wins, even one without text."""
    caller, callee = pair
    name = await slice_.delegate(caller, callee)
    await slice_.update(callee, name, "completed")
    before = await slice_.row(name)
    assert not (await slice_.update(callee, name, "completed", "the text")).applied
    assert await slice_.row(name) == before
    assert not before["result_preview"]


async def test_internal_move_of_an_unknown_id_writes_nothing(slice_: Slice) -> None:
    """D6: the platform's own move succeeds silently; the public report does not."""
    (stranger,) = await hire(slice_.pool, 1)
    outcome = await slice_.writes.move(draft_move("nowhere", stranger, Status.COMPLETED, text="x"))
    assert (outcome.moved, outcome.found, outcome.late) == (False, False, False)
    with pytest.raises(NotFound):
        await slice_.update(stranger, "nowhere", "completed", "x")
    assert await slice_.pool.fetchval("SELECT count(*) FROM activity_logs") == 0


async def test_id_of_nothing_but_nul_is_refused(slice_: Slice, pair: tuple[UUID, UUID]) -> None:
    """D7: an empty id is an error, and no SQL runs."""
    caller, callee = pair
    with pytest.raises(Invalid):
        await slice_.record(caller, callee, "\x00")
    with pytest.raises(Invalid):
        await slice_.update(callee, "\x00", "completed", "x")


async def test_schema_refuses_an_empty_id(slice_: Slice, pair: tuple[UUID, UUID]) -> None:
    """D7: whoever forgets the check meets the schema."""
    caller, callee = pair
    with pytest.raises(asyncpg.CheckViolationError):
        await slice_.writes.accept(draft(caller, callee, delegation_id=""))


async def test_beat_moves_a_live_row_and_leaves_a_final_one(
    slice_: Slice, pair: tuple[UUID, UUID]
) -> None:
    """D8: by caller or callee, once more and once more."""
    caller, callee = pair
    name = await slice_.delegate(caller, callee)
    await slice_.beat(callee, name)
    first = (await slice_.row(name))["last_heartbeat"]
    await slice_.beat(caller, name)
    assert (await slice_.row(name))["last_heartbeat"] > first
    await slice_.update(callee, name, "completed", "x")
    before = await slice_.row(name)
    beat = await slice_.beat(callee, name)
    assert (beat.applied, beat.status) == (False, "completed")
    assert await slice_.row(name) == before


async def test_beats_of_a_workspace_ignore_what_is_not_its_own(pool: Pool, slice_: Slice) -> None:
    """D8: a workspace heartbeat beats its rows only."""
    caller, callee, stranger = await hire(pool, 3)
    name = await slice_.delegate(caller, callee)
    await slice_.ledger.moves.on_heartbeat(stranger, [name, "unknown"])
    assert (await slice_.row(name))["last_heartbeat"] is None
    await slice_.ledger.moves.on_heartbeat(callee, [name, "unknown", name])
    assert (await slice_.row(name))["status"] == "in_progress"


@pytest.mark.parametrize("character", ["a", "é", "€", "😀"])
@pytest.mark.parametrize("pad", [0, 1, 2, 3])
async def test_previews_end_on_a_character(
    slice_: Slice, pair: tuple[UUID, UUID], character: str, pad: int
) -> None:
    """D9: task, result and error hold at most 4096 bytes, and the row is always stored."""
    caller, callee = pair
    text = "x" * pad + character * 5000
    done = await slice_.delegate(caller, callee, text)
    failed = await slice_.delegate(caller, callee, text)
    await slice_.update(callee, done, "completed", text)
    await slice_.update(callee, failed, "failed", error=text)
    row, other = await slice_.row(done), await slice_.row(failed)
    for kept in (row["task_preview"], row["result_preview"], other["error_detail"]):
        size = len(character.encode())
        assert text.startswith(kept)
        assert 4096 - size < len(kept.encode()) <= 4096
    assert row["result"] == text


async def test_text_that_postgres_refuses_is_repaired(
    slice_: Slice, pair: tuple[UUID, UUID]
) -> None:
    """D9: NUL is dropped; the row is stored."""
    caller, callee = pair
    name = await slice_.delegate(caller, callee, "ta\x00sk")
    await slice_.update(callee, name, "completed", "re\x00sult 😀")
    row = await slice_.row(name)
    assert (row["task_preview"], row["result"]) == ("task", "result 😀")
    (item,) = await slice_.items(caller)
    assert json.loads(item["response_body"])["text"] == "result 😀"


async def test_record_is_dispatched_at_once(slice_: Slice, pair: tuple[UUID, UUID]) -> None:
    """D13: one row, and nothing for the callee's inbox: the agent handed it over itself."""
    caller, callee = pair
    await slice_.record(caller, callee, "own")
    assert (await slice_.row("own"))["status"] == "dispatched"
    assert await slice_.items(callee) == []
    (row,) = await slice_.record_of(caller)
    assert (row["activity_type"], row["method"], row["status"]) == (
        "delegation",
        "delegate",
        "dispatched",
    )


async def test_id_of_another_caller_is_refused(pool: Pool, slice_: Slice) -> None:
    one, two, callee = await hire(pool, 3)
    await slice_.record(one, callee, "taken")
    with pytest.raises(Aborted) as refused:
        await slice_.record(two, callee, "taken")
    assert refused.value.reason == "DELEGATION_ID_TAKEN"


async def elsewhere(pool: Pool) -> tuple[UUID, UUID]:
    """Two workspaces of another organisation."""
    organization_id = new_id()
    await pool.execute(
        "INSERT INTO organizations (id, slug, name) VALUES ($1, 'elsewhere', '')", organization_id
    )
    one, two = hired = await hire(pool, 2)
    await pool.execute(
        "UPDATE workspaces SET organization_id = $1 WHERE id = ANY($2)", organization_id, hired
    )
    return one, two


async def test_each_organisation_has_ids_of_its_own(
    pool: Pool, slice_: Slice, pair: tuple[UUID, UUID]
) -> None:
    """P6: the same id tells nothing of another's, and whatever is done to one leaves the other."""
    pairs = [pair, await elsewhere(pool)]
    await asyncio.gather(*(slice_.record(*each, "same") for each in pairs))

    async def statuses() -> list[str]:
        found = [await ledger_views.get(pool, caller, "same") for caller, _ in pairs]
        return [row.status for row in found if row is not None]

    assert await statuses() == ["dispatched", "dispatched"]
    await slice_.beat(pairs[0][1], "same")
    assert await statuses() == ["in_progress", "dispatched"]
    await pool.execute("UPDATE delegations SET deadline = now() - interval '1 s'")
    [one, two] = await ledger_views.lapsed(pool, beat_before=None, limit=9)
    assert {one.caller_id, two.caller_id} == {caller for caller, _ in pairs}
    ends = draft_move("same", pairs[1][0], Status.FAILED, error="x", reason="deadline")
    assert (await slice_.writes.move(ends._replace(overdue=True))).moved
    assert await statuses() == ["in_progress", "failed"]
    await slice_.update(pairs[0][1], "same", "completed", "mine")
    assert await statuses() == ["completed", "failed"]
    for (caller, _), text in zip(pairs, ["mine", "x"], strict=True):
        [item] = await slice_.items(caller)
        assert json.loads(item["response_body"])["text"] == text


async def test_callers_of_one_id_in_one_flush_have_one_winner(pool: Pool, slice_: Slice) -> None:
    """The losers are told, and have no row in their record."""
    *callers, callee = await hire(pool, 9)
    taken = await asyncio.gather(
        *(
            slice_.writes.accept(draft(one, callee, delegation_id="taken", item_id=None))
            for one in callers
        )
    )
    (winner,) = [one for one, fresh in zip(callers, taken, strict=True) if fresh]
    assert (await slice_.row("taken"))["caller_id"] == winner
    rows = await pool.fetch("SELECT workspace_id FROM activity_logs")
    assert [row["workspace_id"] for row in rows] == [winner]


@pytest.mark.parametrize(
    ("status", "said", "word"), [("completed", "the text", "ok"), ("failed", "why", "error")]
)
async def test_outcome_reaches_the_callers_inbox_once(
    slice_: Slice, pair: tuple[UUID, UUID], status: str, said: str, word: str
) -> None:
    """D14: whole text, delegation id and callee, ok or error."""
    caller, callee = pair
    name = await slice_.delegate(caller, callee)
    for _ in range(2):
        await slice_.update(callee, name, status, said, said)
    (item,) = await slice_.items(caller)
    assert (item["activity_type"], item["method"]) == ("a2a_receive", "delegate_result")
    assert (item["activity_status"], item["late"]) == (word, False)
    assert (item["delegation_id"], item["source_id"]) == (name, callee)
    assert (item["record_source"], item["target_id"]) == (caller, callee)
    assert json.loads(item["request_body"]) == {"delegation_id": name}
    body = json.loads(item["response_body"])
    assert (body["delegation_id"], body["text"]) == (name, said)


async def test_inbox_carries_the_whole_text(slice_: Slice, pair: tuple[UUID, UUID]) -> None:
    """D14, I-RP-4: the preview is short, the delivery is not."""
    caller, callee = pair
    name = await slice_.delegate(caller, callee)
    text = "é" * 200_000
    await slice_.update(callee, name, "completed", text)
    (item,) = await slice_.items(caller)
    assert json.loads(item["response_body"])["text"] == text


@pytest.mark.parametrize("reason", ["stuck", "deadline"])
async def test_late_result_changes_nothing_and_is_delivered_once(
    slice_: Slice, pair: tuple[UUID, UUID], reason: str
) -> None:
    """D14: finished work is not lost because the ledger had given up."""
    caller, callee = pair
    name = await slice_.delegate(caller, callee)
    to = Status.STUCK if reason == "stuck" else Status.FAILED
    await slice_.writes.move(
        draft_move(name, caller, to, error="gave up", reason=None if reason == "stuck" else reason)
    )
    before = await slice_.row(name)
    for _ in range(2):
        assert not (await slice_.update(callee, name, "completed", "at last")).applied
    assert await slice_.row(name) == before
    first, late = await slice_.items(caller)
    assert (first["late"], late["late"]) == (False, True)
    assert json.loads(late["response_body"])["text"] == "at last"


async def test_late_results_that_race_are_delivered_once(
    database_url: str, pool: Pool, slice_: Slice, pair: tuple[UUID, UUID]
) -> None:
    caller, callee = pair
    name = await slice_.delegate(caller, callee)
    await slice_.writes.move(draft_move(name, caller, Status.STUCK, error="silent"))
    async with slice_of(database_url, pool) as other:
        await asyncio.gather(
            *(w.update(callee, name, "completed", "at last") for w in [slice_, other] * 5)
        )
    assert [item["late"] for item in await slice_.items(caller)] == [False, True]


async def test_report_that_waited_for_the_sweeper_is_late(
    database_url: str, slice_: Slice, pair: tuple[UUID, UUID]
) -> None:
    """It found the delegation live, and closed when its turn came."""
    caller, callee = pair
    name = await slice_.delegate(caller, callee)
    swept = draft_move(name, caller, Status.STUCK, error="silent")
    async with another_worker(database_url) as other:
        async with other.transaction():
            await ledger_moves.move(other, [swept])
            report = asyncio.create_task(slice_.update(callee, name, "completed", "at last"))
            await someone_waits(slice_.pool)
        answer = await report
    assert (answer.applied, answer.status) == (False, "stuck")
    assert [item["late"] for item in await slice_.items(caller)] == [False, True]


async def test_beat_that_waited_for_an_end_changes_nothing(
    database_url: str, slice_: Slice, pair: tuple[UUID, UUID]
) -> None:
    """A beat announces nothing that could collide: only the lock of the row tells it of the end."""
    caller, callee = pair
    name = await slice_.delegate(caller, callee)
    end = draft_move(name, callee, Status.COMPLETED, text="done")
    async with another_worker(database_url) as other:
        async with other.transaction():
            await ledger_moves.move(other, [end])
            beat = asyncio.create_task(slice_.beat(callee, name))
            await someone_waits(slice_.pool)
        before = await slice_.row(name)
        answer = await beat
    assert (answer.applied, answer.status) == (False, "completed")
    assert before["status"] == "completed"
    assert await slice_.row(name) == before


async def test_failure_told_twice_uses_up_one_attempt(
    slice_: Slice, pair: tuple[UUID, UUID]
) -> None:
    """A repeat is what the ledger holds; what else fails before the next attempt is no news."""
    caller, callee = pair
    name = await slice_.delegate(caller, callee)
    await slice_.pool.execute("UPDATE delegations SET max_attempts = 3")
    await slice_.update(callee, name, "failed", error="no")
    before = await slice_.row(name)
    for error, applied in (("no", True), ("something else", False)):
        answer = await slice_.update(callee, name, "failed", error=error)
        assert (answer.status, answer.applied) == ("queued", applied)
    assert await slice_.row(name) == before
    await slice_.pool.execute("UPDATE delegations SET attempt_due = now()")
    await slice_.update(callee, name, "failed", error="no")
    assert (await slice_.row(name))["retry_count"] == 2
    assert len(await slice_.items(callee, "delegate")) == 3


async def test_next_attempt_is_not_silent_for_the_one_before(
    slice_: Slice, pair: tuple[UUID, UUID]
) -> None:
    """It may come later than an agent may be silent."""
    caller, callee = pair
    name = await slice_.delegate(caller, callee)
    await slice_.pool.execute("UPDATE delegations SET max_attempts = 2")
    await slice_.beat(callee, name)
    await slice_.update(callee, name, "failed", error="no")
    later = datetime.now(UTC) + timedelta(hours=1)
    assert await ledger_views.lapsed(slice_.pool, beat_before=later, limit=9) == []


async def test_failures_that_race_use_up_one_attempt(
    database_url: str, slice_: Slice, pair: tuple[UUID, UUID]
) -> None:
    """The second failure finds the row that the first one left."""
    caller, callee = pair
    name = await slice_.delegate(caller, callee)
    await slice_.pool.execute("UPDATE delegations SET max_attempts = 2")
    failure = draft_move(name, callee, Status.FAILED, error="no", reason="agent_error")
    async with another_worker(database_url) as other:
        async with other.transaction():
            (first,) = await ledger_moves.move(other, [failure])
            second = asyncio.create_task(slice_.update(callee, name, "failed", error="no"))
            await someone_waits(slice_.pool)
        assert (await second).applied
    assert (first.moved, first.retried) == (True, True)
    row = await slice_.row(name)
    assert (row["status"], row["retry_count"]) == ("queued", 1)
    assert len(await slice_.items(callee, "delegate")) == 2


async def test_failure_that_is_final_takes_no_late_result(
    slice_: Slice, pair: tuple[UUID, UUID]
) -> None:
    """An agent that said failed and then completed contradicts itself: the first report wins."""
    caller, callee = pair
    name = await slice_.delegate(caller, callee)
    await slice_.update(callee, name, "failed", error="no")
    assert not (await slice_.update(callee, name, "completed", "yes")).applied
    assert len(await slice_.items(caller)) == 1


async def test_stranger_sees_and_moves_nothing(pool: Pool, slice_: Slice) -> None:
    caller, callee, stranger = await hire(pool, 3)
    name = await slice_.delegate(caller, callee)
    before = await slice_.row(name)
    with pytest.raises(NotFound):
        await slice_.update(stranger, name, "completed", "mine now")
    with pytest.raises(NotFound):
        await slice_.beat(stranger, name)
    assert await slice_.row(name) == before


async def test_record_and_ledger_tell_one_story(pool: Pool, slice_: Slice) -> None:
    """D10, D23: after delegate, record, update the newest activity row has the ledger's status."""
    caller, callee = await hire(pool, 2)
    done = await slice_.delegate(caller, callee)
    await slice_.record(caller, callee, "own")
    await slice_.update(callee, done, "completed", "x")
    await slice_.update(caller, "own", "failed", error="e")
    told = await pool.fetch(
        """
        SELECT DISTINCT ON (response_body->>'delegation_id')
               response_body->>'delegation_id' AS name, status
        FROM activity_logs WHERE activity_type = 'delegation'
        ORDER BY response_body->>'delegation_id', record_seq DESC
        """
    )
    assert {row["name"]: row["status"] for row in told} == {done: "completed", "own": "failed"}


async def test_words_of_the_record_never_reach_the_ledger(
    slice_: Slice, pair: tuple[UUID, UUID]
) -> None:
    """D11: the record says pending where the ledger says queued."""
    caller, callee = pair
    name = await slice_.delegate(caller, callee)
    (row,) = await slice_.record_of(caller)
    assert row["status"] == "pending"
    assert (await slice_.row(name))["status"] == "queued"


async def test_full_inbox_refuses_the_sender_and_takes_nothing(
    database_url: str, pool: Pool, pair: tuple[UUID, UUID]
) -> None:
    caller, callee = pair
    async with slice_of(database_url, pool, inbox_max_items=3) as slice_:
        for _ in range(3):
            await slice_.delegate(caller, callee)
        with pytest.raises(Exhausted) as refused:
            await slice_.delegate(caller, callee)
        assert refused.value.reason == "INBOX_FULL"
        assert await pool.fetchval("SELECT count(*) FROM delegations") == 3
        assert len(await slice_.items(callee)) == 3


async def test_items_done_out_of_order_do_not_fill_an_inbox(
    database_url: str, pool: Pool, pair: tuple[UUID, UUID]
) -> None:
    _, callee = pair
    async with slice_of(database_url, pool, inbox_max_items=3) as slice_:
        for _ in range(3):
            await slice_.records.append(message(callee))
        await pool.execute("UPDATE inbox_items SET done_at = now(), outcome = 'done' WHERE seq = 2")
        appended = await slice_.records.append(message(callee))
        assert appended.seq == 4


async def test_result_reaches_a_full_inbox(
    database_url: str, pool: Pool, pair: tuple[UUID, UUID]
) -> None:
    """A limit for senders must not lose an outcome."""
    caller, callee = pair
    async with slice_of(database_url, pool, inbox_max_items=1) as slice_:
        await slice_.records.append(message(caller))
        name = await slice_.delegate(caller, callee)
        assert (await slice_.update(callee, name, "completed", "x")).applied
        assert len(await slice_.items(caller)) == 2


async def test_pages_hold_every_delegation_once(slice_: Slice, pool: Pool) -> None:
    """Newest first, both directions, also when many share one instant."""
    me, other = await hire(pool, 2)
    sent = [await slice_.delegate(me, other) for _ in range(7)]
    received = [await slice_.delegate(other, me) for _ in range(6)]
    await pool.execute(
        "UPDATE delegations SET created_at = '2026-01-01' WHERE delegation_id = ANY($1)",
        [*sent[:4], *received[:4]],
    )
    seen: list[str] = []
    before = None
    while rows := await ledger_views.list_rows(
        pool, me, ledger_views.DelegationQuery(limit=3, before=before)
    ):
        seen += [row.delegation_id for row in rows]
        before = rows[-1].created_at, rows[-1].delegation_id
    assert sorted(seen) == sorted(sent + received)
    assert len(seen) == len(set(seen))


async def test_list_filters_combine(slice_: Slice, pool: Pool) -> None:
    me, other = await hire(pool, 2)
    sent = [await slice_.delegate(me, other) for _ in range(3)]
    received = await slice_.delegate(other, me)
    await slice_.update(other, sent[1], "completed", "x")
    page = ledger_views.DelegationQuery(limit=10, status="completed", direction="sent")
    assert [row.delegation_id for row in await ledger_views.list_rows(pool, me, page)] == [sent[1]]
    page = ledger_views.DelegationQuery(limit=10, direction="received")
    assert [row.delegation_id for row in await ledger_views.list_rows(pool, me, page)] == [received]
    page = ledger_views.DelegationQuery(limit=10, status="stuck")
    assert await ledger_views.list_rows(pool, me, page) == []


# Callers who wait for the end.


async def waiting_on(
    slice_: Slice, pair: tuple[UUID, UUID], authorization: str | None = None
) -> asyncio.Task[HandedOver]:
    """A call that hands a task over and waits for its end, once it waits."""
    handover = Handover(*pair, "task", wait_seconds=60)
    call = asyncio.create_task(
        slice_.ledger.handovers.delegate(handover, authorization=authorization)
    )
    async with asyncio.timeout(PATIENCE):
        while not len(slice_.core.streams):
            await asyncio.sleep(0.01)
    return call


async def test_wait_ends_with_the_delegation(slice_: Slice, pair: tuple[UUID, UUID]) -> None:
    call = await waiting_on(slice_, pair)
    [item] = await slice_.items(pair[1])
    await slice_.update(pair[1], item["delegation_id"], "completed", "done")
    done = await asyncio.wait_for(call, 10)
    assert done.delegation is not None
    assert (done.earlier, done.delegation.status, done.delegation.result) == (
        False,
        "completed",
        "done",
    )


async def test_revoked_token_ends_a_wait(slice_: Slice, pair: tuple[UUID, UUID]) -> None:
    """The task stays in the ledger; its caller's token is worth nothing any more."""
    call = await waiting_on(slice_, pair, "Bearer a-token")
    slice_.core.authenticator.forget(digest("a-token").hex())
    with pytest.raises(Unauthenticated):
        await asyncio.wait_for(call, 10)
    assert len(await slice_.items(pair[1])) == 1
    assert not len(slice_.core.streams)


async def test_drain_ends_a_wait_with_the_state_as_it_is(
    slice_: Slice, pair: tuple[UUID, UUID]
) -> None:
    call = await waiting_on(slice_, pair)
    slice_.core.streams.drain()
    done = await asyncio.wait_for(call, 10)
    assert done.delegation is not None
    assert done.delegation.status == "queued"


async def test_wait_ends_before_the_caller_gives_up(slice_: Slice, pair: tuple[UUID, UUID]) -> None:
    """Half a second is left for the answer."""
    handover = Handover(*pair, "task", wait_seconds=60, remaining=0.8)
    done = await asyncio.wait_for(
        slice_.ledger.handovers.delegate(handover, authorization=None), 10
    )
    assert done.delegation is not None
    assert done.delegation.status == "queued"


async def test_pages_have_tokens_that_only_we_can_make(slice_: Slice, pool: Pool) -> None:
    """A page that ends with the last delegation has none."""
    me, other = await hire(pool, 2)
    names = [await slice_.delegate(me, other) for _ in range(4)]
    first = await slice_.ledger.views.list(me, limit=2)
    last = await slice_.ledger.views.list(me, limit=2, page_token=first.next_page_token)
    assert [row.delegation_id for row in [*first.rows, *last.rows]] == names[::-1]
    assert (last.next_page_token, first.rows[0].result) == ("", None)
    forged = first.next_page_token.replace(first.next_page_token[:4], "AAAA", 1)
    with pytest.raises(Invalid):
        await slice_.ledger.views.list(me, page_token=forged)


async def test_page_ends_before_a_client_with_default_limits_refuses_it(
    slice_: Slice, pool: Pool
) -> None:
    """Previews of 4 KiB each: 500 rows would exceed the 4 MiB that a stock gRPC client reads."""
    me, other = await hire(pool, 2)
    await slice_.delegate(me, other, "x" * 5000)
    await pool.execute(
        """
        INSERT INTO delegations (delegation_id, caller_id, callee_id, organization_id,
                                 task_preview, status, error_detail)
        SELECT 'copy ' || n, caller_id, callee_id, organization_id, task_preview, 'failed',
               task_preview
        FROM delegations, generate_series(1, 499) n
        """
    )
    page = await slice_.ledger.views.list(me, limit=500)
    assert 300 < len(page.rows) < 500
    rest = await slice_.ledger.views.list(me, limit=500, page_token=page.next_page_token)
    assert len(page.rows) + len(rest.rows) == 500
    assert rest.next_page_token == ""


async def test_operators_read_the_ledger_of_one_organisation_or_of_all(
    pool: Pool, slice_: Slice, pair: tuple[UUID, UUID]
) -> None:
    caller, callee = pair
    done = await slice_.delegate(caller, callee)
    open_ = await slice_.delegate(caller, callee)
    await slice_.update(callee, done, "completed", "x")
    await slice_.record(*await elsewhere(pool), "theirs")
    views = slice_.ledger.views
    assert [
        row.delegation_id for row in (await views.list_entries("completed", None, limit=9)).entries
    ] == [done]
    live = [
        row.delegation_id
        for row in (await views.list_entries("in_flight", ORGANIZATION, limit=9)).entries
    ]
    assert live == [open_]
    assert len((await views.list_entries("in_flight", None, limit=9)).entries) == 2
    assert await views.count_by_status(ORGANIZATION) == {"completed": 1, "queued": 1}
    assert await views.count_by_status(None) == {"completed": 1, "queued": 1, "dispatched": 1}


async def test_delegations_that_share_nothing_commit_together(slice_: Slice, pool: Pool) -> None:
    """Every draft of a batch has its own rows, in its own inbox."""
    agents = await hire(pool, 6)
    pairs = [(a, b) for a in agents for b in agents if a != b]
    names = await asyncio.gather(*(slice_.delegate(a, b, f"{a} {b}") for a, b in pairs))
    for (caller, callee), name in zip(pairs, names, strict=True):
        row = await slice_.row(name)
        assert (row["caller_id"], row["callee_id"]) == (caller, callee)
    for callee in agents:
        items = await slice_.items(callee)
        assert [item["seq"] for item in items] == [1, 2, 3, 4, 5]
        assert {item["source_id"] for item in items} == set(agents) - {callee}


async def test_next_organisation_of_a_purged_id_has_nothing_of_the_first_one(
    database_url: str, slice_: Slice, pool: Pool
) -> None:
    """The ledger stays where it is, and no name of the second one is shown to the first."""
    caller, callee = await hire(pool, 2)
    name = await slice_.delegate(caller, callee)
    await slice_.records.append(message(caller, source_id=callee, sender_id=callee))
    next_organization = new_id()
    await pool.execute(
        "INSERT INTO organizations (id, slug, name) VALUES ($1, $2, 'next')",
        next_organization,
        next_organization.hex,
    )
    await pool.execute("DELETE FROM workspaces WHERE id = $1", callee)
    await pool.execute(
        "INSERT INTO workspaces (id, name, organization_id, tier, status)"
        " VALUES ($1, 'confidential', $2, 3, 'online')",
        callee,
        next_organization,
    )
    for refused in (
        slice_.update(callee, name, "completed", text="mine"),
        slice_.beat(callee, name),
        slice_.ledger.views.get(callee, name),
    ):
        with pytest.raises(NotFound):
            await refused
    listed = await slice_.ledger.views.list(
        callee, limit=10, status=None, direction=None, page_token=""
    )
    assert listed.rows == []
    assert (await slice_.row(name))["status"] == "queued"
    slice_.wakeups.wake([caller])  # read again instead of from the cache
    page = await slice_.reads.look(InboxQuery(caller, 0, 10))
    assert [item.source_name for item in page.items] == [None]
    rows = (await slice_.activity.list(ActivityQuery(caller))).rows
    assert {row.peer_name for row in rows if row.source_id == callee} == {None}
    senders = Senders(Directory(pool, PageTokens(b"0" * 32), Pairs(database_url)).lookup)
    assert await senders.find(callee, viewer=caller) is None
    assert await senders.find(caller, viewer=caller) is not None
    # Its first organisation ends the delegation as before.
    assert (await slice_.update(caller, name, "failed", error="gone")).applied
