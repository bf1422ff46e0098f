"""Signs of life on a real database: what each changes, and who falls silent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moleculeai.workspace.v1 import workspace_pb2
from moleculeai.workspace.v1 import workspace_service_pb2 as pb

from molecule_grpc.auth.principal import OPERATOR
from molecule_grpc.db.pool import Pool
from molecule_grpc.directory import Heartbeat
from molecule_grpc.kernel.errors import NotFound
from molecule_grpc.settings.settings import Settings
from molecule_grpc.workspace.registry.heartbeats import Heartbeats
from molecule_grpc.workspace.registry.liveness import sweep_liveness
from molecule_grpc.workspace.registry.store import heartbeats as beats
from molecule_grpc.workspace.registry.store import liveness
from molecule_grpc.workspace.subscriptions import Subscriptions
from tests.integration.workspaces import (
    STATUSES,
    Bench,
    add,
    bench_of,
    by,
    one_row,
)

shared_database = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None
)


@pytest.fixture
async def bench(pool: Pool, database_url: str) -> AsyncIterator[Bench]:
    async with bench_of(
        pool, database_url, deployment_deploy_mode="saas", egress_networks=("10.0.0.0/8",)
    ) as opened:
        yield opened


def heartbeats_of(dsn: str) -> Heartbeats:
    return Heartbeats(dsn, Subscriptions(), linger=0.01, tell_readers=lambda: None)


def judged(before: str, stored_rate: float, beat: Heartbeat) -> str:
    """The status evaluation, rule by rule as the specification lists them."""
    rate = stored_rate if beat.error_rate is None else beat.error_rate
    if before == "online" and beat.wedged:
        return "degraded"
    if before == "online" and not beat.self_managed and rate >= 0.5:
        return "degraded"
    if before == "degraded" and not beat.self_managed and rate < 0.1 and beat.well:
        return "online"
    if before in ("offline", "provisioning", "awaiting_agent"):
        return "online"
    return before


@shared_database
@given(
    before=st.sampled_from([name for name in STATUSES if name != "removed"]),
    stored_rate=st.sampled_from([0.0, 0.09, 0.1, 0.3, 0.5, 1.0]),
    error_rate=st.sampled_from([None, 0.0, 0.09, 0.1, 0.49, 0.5, 1.0]),
    engine=st.sampled_from(["", "ok", "wedged", "busy"]),
    self_managed=st.booleans(),
)
async def test_heartbeat_moves_the_status_by_the_rules(
    pool: Pool,
    before: str,
    stored_rate: float,
    error_rate: float | None,
    engine: str,
    self_managed: bool,
) -> None:
    [workspace] = await add(pool, status=before, last_error_rate=stored_rate)
    beat = Heartbeat(
        workspace_id=workspace,
        error_rate=error_rate,
        wedged=engine == "wedged",
        well=engine in ("", "ok"),
        self_managed=self_managed,
    )
    async with pool.acquire() as conn:
        [done] = await beats.beat(conn, [beat])
    assert not isinstance(done, NotFound)
    assert (done.before, done.after) == (before, judged(before, stored_rate, beat))


async def test_heartbeat_keeps_what_it_does_not_report(pool: Pool) -> None:
    [workspace] = await add(
        pool, status="online", active_tasks=2, current_task="x", monthly_spend=7, uptime_seconds=9,
        last_sample_error="e", last_error_rate=0.2,
    )  # fmt: skip
    async with pool.acquire() as conn:
        await beats.beat(conn, [Heartbeat(workspace_id=workspace)])
    row = await one_row(pool, "SELECT * FROM workspaces WHERE id = $1", workspace)
    kept = ("active_tasks", "current_task", "monthly_spend", "uptime_seconds", "last_sample_error")
    assert [row[name] for name in kept] == [2, "x", 7, 9, "e"]
    assert row["last_error_rate"] == 0.2
    assert row["last_heartbeat_at"] is not None


async def test_healthy_heartbeat_does_not_erase_why_provisioning_failed(pool: Pool) -> None:
    failed, online = (await add(pool, status="failed")) + (
        await add(pool, status="online", last_sample_error="old")
    )
    async with pool.acquire() as conn:
        await beats.beat(
            conn, [Heartbeat(workspace_id=one, sample_error="") for one in (failed, online)]
        )
    reasons = await pool.fetch("SELECT last_sample_error FROM workspaces ORDER BY status")
    assert [row[0] for row in reasons] == ["", "why it failed"]


async def test_each_of_a_batch_gets_its_own_outcome(pool: Pool) -> None:
    """One that is gone does not fail its neighbours, and missing and removed are told apart."""
    [online], [removed] = await add(pool, status="online"), await add(pool, status="removed")
    batch = [Heartbeat(workspace_id=one) for one in (removed, online, uuid4())]
    async with pool.acquire() as conn:
        gone, done, unknown = await beats.beat(conn, batch)
    assert isinstance(gone, NotFound)
    assert gone.reason == "WORKSPACE_REMOVED"
    assert not isinstance(done, NotFound)
    assert done.id == online
    assert isinstance(unknown, NotFound)
    assert unknown.reason == "WORKSPACE_NOT_FOUND"


async def test_inbound_secret_is_minted_once_and_then_told(bench: Bench) -> None:
    """W42: a NULL column heals on the first heartbeat, and stays as it is."""
    [workspace] = await add(bench.pool, status="online")
    request = pb.HeartbeatRequest(workspace_id=str(workspace))
    answers = await asyncio.gather(*(bench.service.answer_heartbeat(request) for _ in range(5)))
    stored = await bench.pool.fetchval(
        "SELECT platform_inbound_secret FROM workspaces WHERE id = $1", workspace
    )
    assert len(stored) == 43
    assert {answer.platform_inbound_secret for answer in answers} == {stored}
    again = await bench.register(str(workspace), delivery_mode=workspace_pb2.Workspace.poll)
    assert again.platform_inbound_secret == stored


async def test_heartbeat_passes_on_the_delegations_it_names(bench: Bench) -> None:
    [workspace] = await add(bench.pool, status="online")
    request = pb.HeartbeatRequest(workspace_id=str(workspace), active_delegations=["a", "b"])
    await bench.service.Heartbeat(request, by(OPERATOR))
    assert bench.beaten == [(workspace, ["a", "b"])]


async def test_workers_that_beat_the_same_workspaces_do_not_lock_each_other_out(
    pool: Pool, database_url: str
) -> None:
    ids = await add(pool, 60, status="online")
    async with (
        heartbeats_of(database_url) as one,
        heartbeats_of(database_url) as other,
    ):
        rounds = [
            worker.beat(Heartbeat(workspace_id=each, active_tasks=n))
            for n in range(5)
            for worker, order in ((one, ids), (other, ids[::-1]))
            for each in order
        ]
        touches = [other.touch_present(ids)]
        sweeps = [
            liveness.sweep_silent(pool, 0.0, 0.0, after=UUID(int=0), limit=100) for _ in range(3)
        ]
        await asyncio.gather(*rounds, *touches, *sweeps)
    counts = await pool.fetchval(
        "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    )
    assert counts == 0


async def test_open_stream_counts_as_a_sign_of_life(bench: Bench) -> None:
    ids = {status: (await add(bench.pool, status=status))[0] for status in STATUSES}
    await bench.workspace.touch_present(list(ids.values()))
    rows = await bench.pool.fetch("SELECT id, status, last_heartbeat_at FROM workspaces")
    after = {row["id"]: row["status"] for row in rows}
    woken = {"offline", "awaiting_agent", "provisioning"}
    assert after == {one: "online" if status in woken else status for status, one in ids.items()}
    untouched = [row["id"] for row in rows if row["last_heartbeat_at"] is None]
    assert untouched == [ids["removed"]]


async def test_silent_workspaces_are_moved_once_however_many_sweep(pool: Pool) -> None:
    """An external one waits for its agent again, another is offline; who beats lately stays."""
    old = "now() - interval '100 seconds'"
    external = await add(pool, 3, status="online", runtime="external")
    await add(pool, 1, status="degraded", runtime="external")
    inside = await add(pool, 2, status="online", runtime="langgraph")
    for status in STATUSES:
        await add(pool, status=status, runtime="external")
    await pool.execute(f"UPDATE workspaces SET last_heartbeat_at = {old}")
    await pool.execute("UPDATE workspaces SET last_heartbeat_at = now() WHERE id = $1", external[0])
    await pool.execute(
        "UPDATE workspaces SET last_heartbeat_at = now() - interval '200 seconds' WHERE id = $1",
        inside[0],
    )
    untouched = "SELECT count(*) FROM workspaces WHERE status NOT IN ('awaiting_agent', 'offline')"
    before = await pool.fetchval(untouched)
    moved = await asyncio.gather(
        *(sweep_liveness(pool, Settings().workspace, lambda: None) for _ in range(4))
    )
    # Two of the first three, the degraded one, one each from the run through all statuses.
    assert sum(moved) == 2 + 1 + 2 + 1
    assert await pool.fetchval(untouched) == before - sum(moved)
    rows = await pool.fetch("SELECT id, status FROM workspaces")
    statuses = {row["id"]: row["status"] for row in rows}
    assert [statuses[one] for one in external] == ["online", "awaiting_agent", "awaiting_agent"]
    assert [statuses[one] for one in inside] == ["offline", "online"]


async def test_statuses_of_contract_and_database_are_the_same_ten(pool: Pool) -> None:
    """W28: all ten are accepted, another is not."""
    stored = await pool.fetchval("SELECT enum_range(NULL::workspace_status)::text[]")
    assert sorted(stored) == sorted(STATUSES)
    assert len(STATUSES) == 10
    with pytest.raises(asyncpg.InvalidTextRepresentationError):
        await pool.execute("SELECT 'expanded'::text::workspace_status")


async def test_a_failure_without_a_reason_cannot_be_stored(pool: Pool) -> None:
    for reason in (None, ""):
        with pytest.raises(asyncpg.CheckViolationError):
            await add(pool, status="failed", last_sample_error=reason)
