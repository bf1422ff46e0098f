"""Moves of a status on a real database: what the table permits, told by the same statement."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import AsyncIterator, Awaitable
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from moleculeai.workspace.v1 import workspace_service_pb2 as pb

from molecule_grpc.auth.principal import OPERATOR
from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.directory import Heartbeat
from molecule_grpc.events.names import EventType
from molecule_grpc.events.store import CHANNEL_ALL
from molecule_grpc.kernel.ids import new_id
from molecule_grpc.settings.workspace import WorkspaceSettings
from molecule_grpc.workspace.registry.liveness import sweep_liveness
from molecule_grpc.workspace.registry.store import heartbeats, registration
from molecule_grpc.workspace.status import (
    EVENTS,
    EXTERNAL_SILENT,
    MOVES,
    PAUSED,
    PROVISION_FAILED,
    RESTARTED,
    SEEN,
    UNWELL,
    Move,
    Status,
)
from molecule_grpc.workspace.store import moves, rows, workspaces
from tests.integration.workspaces import ORGANIZATION, Bench, add, bench_of, by

CARD = '{"name": "a"}'


async def events(pool: Pool) -> list[tuple[str, UUID, dict[str, Any]]]:
    rows = await pool.fetch(
        "SELECT event_type, workspace_id, payload::text FROM structure_events ORDER BY position"
    )
    return [(name, workspace_id, json.loads(payload)) for name, workspace_id, payload in rows]


async def names(pool: Pool) -> list[str]:
    return [name for name, _, _ in await events(pool)]


async def make(pool: Pool, move: Move, ids: list[UUID]) -> list[UUID]:
    async with pool.acquire() as conn:
        if move.target is Status.FAILED:
            return await moves.fail(conn, move, ids, "the image is missing")
        return await moves.move(conn, move, ids)


@pytest.mark.parametrize("move", MOVES, ids=lambda move: f"{move.target}: {move.cause}")
async def test_a_move_leaves_the_permitted_states_only_and_tells_it(pool: Pool, move: Move) -> None:
    """Every move of the table, tried on workspaces in all ten states at once."""
    ids = {status: (await add(pool, status=status))[0] for status in Status}
    expected = {ids[status] for status in move.sources}
    assert set(await make(pool, move, list(ids.values()))) == expected
    found = await pool.fetch("SELECT id, status FROM workspaces")
    rows = {row["id"]: row["status"] for row in found}
    assert rows == {one: move.target if one in expected else status for status, one in ids.items()}
    told = await events(pool)
    assert {(name, one) for name, one, _ in told} == {(EVENTS[move.target], o) for o in expected}
    assert len(told) == len(expected)
    assert await make(pool, move, list(ids.values())) == []
    assert len(await events(pool)) == len(told)


async def test_an_event_holds_what_the_workspace_is_and_no_nulls(pool: Pool) -> None:
    [root] = await add(pool, status="online", tier=2, runtime="external", last_sample_error="old")
    [child] = await add(pool, status="online", tier=4, runtime="hermes", parent_id=root)
    await make(pool, PAUSED, [root, child])
    assert {one: payload for _, one, payload in await events(pool)} == {
        root: {"name": str(root), "tier": 2, "runtime": "external", "status": "paused"},
        child: {
            "name": str(child),
            "tier": 4,
            "runtime": "hermes",
            "status": "paused",
            "parent_id": str(root),
        },
    }


async def test_failed_and_degraded_events_say_what_is_wrong(pool: Pool) -> None:
    [failing] = await add(pool, status="provisioning")
    [wedged] = await add(pool, status="online", last_sample_error="the engine hangs")
    await make(pool, PROVISION_FAILED, [failing])
    await make(pool, UNWELL, [wedged])
    (_, _, failed), (_, _, degraded) = await events(pool)
    assert (failed["status"], failed["error"]) == ("failed", "the image is missing")
    assert (degraded["status"], degraded["error"]) == ("degraded", "the engine hangs")


async def test_a_failure_cannot_be_stored_without_a_reason(pool: Pool) -> None:
    """By `move` not at all, by `fail` not with an empty one; and the table refuses it as well."""
    [workspace] = await add(pool, status="provisioning")
    async with pool.acquire() as conn:
        with pytest.raises(ValueError, match="reason"):
            await moves.move(conn, PROVISION_FAILED, [workspace])
        for move, reason in ((PROVISION_FAILED, " "), (PAUSED, "because")):
            with pytest.raises(ValueError, match="reason"):
                await moves.fail(conn, move, [workspace], reason)
        with pytest.raises(asyncpg.CheckViolationError):
            await conn.execute(
                moves.move_statement(PROVISION_FAILED),
                [workspace],
                EVENTS[Status.FAILED],
            )
    assert await pool.fetchval("SELECT status FROM workspaces") == "provisioning"
    assert await events(pool) == []


async def test_of_racing_moves_one_wins_and_tells_it(pool: Pool) -> None:
    ids = await add(pool, 20, status="paused")
    moved = await asyncio.gather(*(make(pool, RESTARTED, ids) for _ in range(4)))
    assert sorted(one for each in moved for one in each) == sorted(ids)
    assert await names(pool) == [EventType.WORKSPACE_PROVISIONING] * 20


async def test_heartbeats_and_presence_tell_a_change_and_nothing_else(pool: Pool) -> None:
    [asleep], [awake] = await add(pool, status="offline"), await add(pool, status="online")
    batch = [Heartbeat(asleep), Heartbeat(awake)]
    async with pool.acquire() as conn:
        await heartbeats.beat(conn, batch)
        await heartbeats.beat(conn, batch)
        assert not await heartbeats.touch(conn, [asleep, awake])
        assert [(name, one) for name, one, _ in await events(pool)] == [
            (EventType.WORKSPACE_ONLINE, asleep)
        ]
        await moves.move(conn, EXTERNAL_SILENT, [awake])
        assert await heartbeats.touch(conn, [asleep, awake])
    assert (await names(pool))[1:] == [
        EventType.WORKSPACE_AWAITING_AGENT,
        EventType.WORKSPACE_ONLINE,
    ]


async def test_a_registration_tells_the_status_or_else_the_card(pool: Pool) -> None:
    [workspace] = await add(pool, status="awaiting_agent")

    async def register(card: str) -> None:
        async with pool.acquire() as conn:
            await registration.register(
                conn, workspace, None, card=card, url="", mode="poll", secret="s"
            )

    await register(CARD)
    await register(CARD)
    await register('{"name": "b"}')
    await registration.update_card(pool, workspace, None, CARD)
    await registration.update_card(pool, workspace, None, CARD)
    assert await names(pool) == [
        EventType.WORKSPACE_ONLINE,
        EventType.AGENT_CARD_UPDATED,
        EventType.AGENT_CARD_UPDATED,
    ]


async def test_a_new_workspace_and_a_new_parent_are_told_once(pool: Pool) -> None:
    [root] = await add(pool)
    draft = rows.WorkspaceDraft(
        id=new_id(),
        organization_id=ORGANIZATION,
        name="child",
        tier=1,
        status=Status.AWAITING_AGENT,
        runtime="external",
    )
    moved = rows.Change(parent_id=root, given=frozenset({"parent_id"}))
    renamed = rows.Change(name="other", given=frozenset({"name"}))
    async with pool.acquire() as conn:
        assert await workspaces.insert(conn, draft)
        assert not await workspaces.insert(conn, draft)
        for change in (moved, moved, renamed):
            assert await workspaces.update(conn, draft.id, change)
    assert await names(pool) == [EventType.WORKSPACE_AWAITING_AGENT, EventType.WORKSPACE_MOVED]
    assert (await events(pool))[1][2]["parent_id"] == str(root)


async def test_removing_tells_each_tombstone_once(pool: Pool) -> None:
    ids = await add(pool, 3, status="online")
    async with pool.acquire() as conn:
        await workspaces.mark_removed(conn, ids)
        await workspaces.mark_removed(conn, ids)
    assert await names(pool) == [EventType.WORKSPACE_REMOVED] * 3


async def test_a_change_that_rolls_back_tells_nothing(pool: Pool) -> None:
    [workspace] = await add(pool, status="offline")
    async with pool.acquire() as conn:
        transaction = conn.transaction()
        await transaction.start()
        assert await moves.move(conn, SEEN, [workspace]) == [workspace]
        await transaction.rollback()
    assert await events(pool) == []


@pytest.fixture
async def bench(pool: Pool, database_url: str) -> AsyncIterator[Bench]:
    async with bench_of(pool, database_url) as opened:
        yield opened


async def test_readers_of_the_feed_are_woken_by_every_change_and_by_nothing_else(
    bench: Bench,
) -> None:
    """After the commit: a reader that looks at once finds the event."""
    with bench.core.wakeups.watch(CHANNEL_ALL) as flag:

        async def wakes(change: Awaitable[object], *expected: EventType) -> None:
            flag.clear()
            before = len(await events(bench.pool))
            await change
            assert flag.raised == bool(expected)
            assert (await names(bench.pool))[before:] == list(expected)

        root, workspace = await bench.create("root"), await bench.create("w")
        ids = [UUID(workspace)]
        beat = Heartbeat(ids[0])
        await wakes(bench.create("other"), EventType.WORKSPACE_AWAITING_AGENT)
        await wakes(bench.workspace.heartbeat(beat), EventType.WORKSPACE_ONLINE)
        await wakes(bench.workspace.heartbeat(beat))
        await wakes(bench.workspace.touch_present(ids))
        await wakes(
            sweep_liveness(
                bench.pool,
                WorkspaceSettings(liveness_stale_after=0),
                functools.partial(bench.core.wakeups.announce, [CHANNEL_ALL]),
            ),
            EventType.WORKSPACE_AWAITING_AGENT,
        )
        await wakes(bench.workspace.touch_present(ids), EventType.WORKSPACE_ONLINE)
        await wakes(bench.register(workspace), EventType.AGENT_CARD_UPDATED)
        await wakes(bench.move(workspace, root), EventType.WORKSPACE_MOVED)
        request = pb.RotateExternalCredentialsRequest(workspace_id=workspace)
        await wakes(
            bench.service.RotateExternalCredentials(request, by(OPERATOR)),
            EventType.EXTERNAL_CREDENTIALS_ROTATED,
        )
        await wakes(bench.delete(workspace), EventType.WORKSPACE_REMOVED)


async def test_a_sweep_of_more_than_a_batch_moves_everybody(pool: Pool) -> None:
    """In statements of at most a hundred rows; their readers hear of each."""
    await add(pool, 250, status="online", runtime="external")
    told: list[int] = []
    moved = await sweep_liveness(
        pool, WorkspaceSettings(liveness_stale_after=0), lambda: told.append(1)
    )
    assert (moved, len(told)) == (250, 3)
    assert await names(pool) == [EventType.WORKSPACE_AWAITING_AGENT] * 250
    moments = await pool.fetchval("SELECT count(DISTINCT xact) FROM structure_events")
    assert moments == 3


async def test_subscribers_hear_of_a_removal_in_its_order(bench: Bench) -> None:
    """In the transaction first, and of its end only when it is committed."""
    workspace = await bench.create("w")
    heard: list[str] = []

    async def remove(conn: Connection, workspace_ids: list[UUID]) -> None:
        heard.append("remove")

    async def purge(conn: Connection, workspace_ids: list[UUID]) -> None:
        heard.append("purge")
        if len(heard) == 2:
            raise RuntimeError("boom")

    bench.workspace.on_remove(remove)
    bench.workspace.on_purge(purge)
    bench.workspace.on_removed(lambda ids: heard.append("removed"))
    with pytest.raises(RuntimeError):
        await bench.delete(workspace, purge=True)
    assert heard == ["remove", "purge"]
    await bench.delete(workspace, purge=True)
    assert heard == ["remove", "purge", "remove", "purge", "removed"]
