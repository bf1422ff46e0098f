"""Operations from the request to the engine and back, on a scripted control plane."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
import structlog
from moleculeai.workspace.v1 import workspace_pb2

from molecule_grpc.backends.operations.rules import Kind
from molecule_grpc.db.pool import Pool
from molecule_grpc.kernel.ids import new_id
from tests import control_plane as bad
from tests.control_plane import ScriptedControlPlane, control_plane
from tests.integration.operations import OperationWorker, operations, worker_of
from tests.integration.workspaces import ORGANIZATION, add, add_organization, one_row
from tests.waiting import until


@pytest.fixture
async def plane() -> AsyncIterator[ScriptedControlPlane]:
    async with control_plane() as opened:
        yield opened


@pytest.fixture
async def worker(
    pool: Pool, database_url: str, plane: ScriptedControlPlane
) -> AsyncIterator[OperationWorker]:
    async with worker_of(pool, database_url, plane) as opened:
        yield opened


async def told(pool: Pool, workspace_id: UUID) -> list[str]:
    rows = await pool.fetch(
        "SELECT event_type FROM structure_events WHERE workspace_id = $1 ORDER BY position",
        workspace_id,
    )
    return [row["event_type"] for row in rows]


async def online(worker: OperationWorker) -> UUID:
    """A workspace that runs on a machine, and whose agent has registered."""
    workspace = await worker.create(f"w-{new_id().hex[:8]}")
    await worker.ended(workspace)
    await worker.bench.register(str(workspace), delivery_mode=workspace_pb2.Workspace.poll)
    return workspace


async def test_a_new_workspace_is_started_and_its_agent_comes_online(
    worker: OperationWorker, plane: ScriptedControlPlane, pool: Pool
) -> None:
    """W3: create reaches the control plane; the agent has a token; delete ends the machine."""
    workspace = await worker.create()
    assert await worker.bench.status(str(workspace)) == "provisioning"
    [operation] = await worker.ended(workspace)
    assert (operation["kind"], operation["state"], operation["backend"], operation["attempt"]) == (
        "start", "succeeded", "control-plane", 1,
    )  # fmt: skip
    [machine] = plane.running
    assert machine.operation_id == str(operation["id"])
    assert machine.env["WORKSPACE_ID"] == str(workspace)
    row = await one_row(pool, "SELECT * FROM workspaces WHERE id = $1", workspace)
    assert (row["backend"], row["resource_id"]) == ("control-plane", machine.id)
    assert (row["status"], await worker.bench.live_tokens(str(workspace))) == ("provisioning", 1)
    await worker.bench.register(str(workspace), delivery_mode=workspace_pb2.Workspace.poll)
    assert await worker.bench.status(str(workspace)) == "online"
    await worker.bench.delete(str(workspace))
    assert [each["state"] for each in await worker.ended(workspace, 2)] == ["succeeded"] * 2
    assert plane.running == []
    row = await one_row(pool, "SELECT * FROM workspaces WHERE id = $1", workspace)
    assert (row["backend"], row["resource_id"]) == ("", "")
    assert await told(pool, workspace) == [
        "WORKSPACE_PROVISIONING", "WORKSPACE_ONLINE", "WORKSPACE_REMOVED",
    ]  # fmt: skip


async def test_a_start_that_fails_fails_the_workspace_with_its_reason(
    worker: OperationWorker, plane: ScriptedControlPlane, pool: Pool
) -> None:
    """INV-10, INV-12: reason and event; what was half made is gone; and it can be deleted."""
    plane.script["POST"] = [bad.done_then(plane, bad.garbage)]
    workspace = await worker.create()
    [operation] = await worker.ended(workspace)
    assert (operation["state"], operation["reason"]) == ("failed", "engine")
    row = await one_row(pool, "SELECT * FROM workspaces WHERE id = $1", workspace)
    assert (row["status"], row["last_sample_error"]) == ("failed", operation["message"])
    assert operation["message"] == "the control plane's answer cannot be understood"
    assert await told(pool, workspace) == ["WORKSPACE_PROVISIONING", "WORKSPACE_PROVISION_FAILED"]
    assert (len(plane.machines), plane.running) == (1, [])
    await worker.bench.delete(str(workspace))
    assert (await worker.ended(workspace, 2))[1]["state"] == "succeeded"


async def test_a_start_is_repeated_when_nothing_was_done(
    worker: OperationWorker, plane: ScriptedControlPlane
) -> None:
    plane.script["POST"] = [bad.failing(429), bad.failing(503)]
    workspace = await worker.create()
    [operation] = await worker.ended(workspace)
    assert (operation["state"], plane.count("POST"), len(plane.running)) == ("succeeded", 3, 1)


async def test_a_start_that_was_done_in_silence_is_not_repeated(
    worker: OperationWorker, plane: ScriptedControlPlane
) -> None:
    """The engine is asked before a second machine is made."""
    plane.keeps_keys = False
    plane.script["POST"] = [bad.done_then(plane, bad.failing(502))]
    workspace = await worker.create()
    [operation] = await worker.ended(workspace)
    assert (operation["state"], plane.count("POST"), len(plane.running)) == ("succeeded", 1, 1)
    assert operation["resource_id"] == plane.running[0].id


async def test_restart_waits_out_errors_of_the_stop(
    worker: OperationWorker, plane: ScriptedControlPlane
) -> None:
    """W6, W8: two errors, then success: the old machine is gone, one more is started, no leak."""
    workspace = await online(worker)
    plane.script["DELETE"] = [bad.failing(500), bad.failing(503)]
    with structlog.testing.capture_logs() as logs:
        await worker.ask(workspace, Kind.RESTART)
        await worker.ended(workspace, 2)
    assert (plane.count("DELETE"), plane.count("POST"), len(plane.running)) == (3, 2, 1)
    assert not any(str(line["event"]).startswith("LEAK-SUSPECT") for line in logs)


async def test_restart_goes_on_without_the_stop_and_the_leak_is_found_later(
    worker: OperationWorker, plane: ScriptedControlPlane, pool: Pool
) -> None:
    """W8: three errors: the line is logged, the workspace runs, and the old machine is not lost."""
    workspace = await online(worker)
    plane.script["DELETE"] = [bad.failing(500)] * 3
    with structlog.testing.capture_logs() as logs:
        await worker.ask(workspace, Kind.RESTART, "secrets")
        await worker.ended(workspace, 2)
    [line] = [each for each in logs if str(each["event"]).startswith("LEAK-SUSPECT cpProv.Stop")]
    assert (line["workspace_id"], line["source"], line["attempts"]) == (
        str(workspace),
        "secrets",
        3,
    )
    assert line["last_err"]
    assert len(plane.running) == 2
    [sweep] = [each for each in worker.backends.slice.tasks if each.name == "backend-leftovers"]
    await sweep.step()
    row = await one_row(pool, "SELECT resource_id FROM workspaces WHERE id = $1", workspace)
    assert [each.id for each in plane.running] == [row["resource_id"]]
    assert (
        await pool.fetchval("SELECT count(*) FROM workspace_leftovers WHERE removed_at IS NULL")
        == 0
    )


async def test_requests_during_a_cycle_lead_to_one_more(
    worker: OperationWorker, plane: ScriptedControlPlane
) -> None:
    """W12, R-8.4: none is lost, none runs beside another."""
    workspace = await online(worker)
    go = asyncio.Event()
    plane.script["POST"] = [bad.held(go, plane.answer)]
    await worker.ask(workspace, Kind.RESTART)
    await plane.wait(lambda: plane.count("POST") == 2)
    second = await worker.ask(workspace, Kind.RESTART)
    assert await worker.ask(workspace, Kind.RESTART) == second
    go.set()
    await worker.ended(workspace, 3)
    assert (plane.count("POST"), len(plane.running)) == (3, 1)


async def test_a_workspace_deleted_while_it_starts_leaves_nothing(
    worker: OperationWorker, plane: ScriptedControlPlane
) -> None:
    """No state refuses a delete: the start is cancelled, undone, and the removal follows."""
    plane.script["POST"] = [bad.done_then(plane, bad.hang)]
    workspace = await worker.create()
    await plane.wait(lambda: len(plane.machines) == 1)
    await worker.bench.delete(str(workspace), purge=True)
    start, removal = await worker.ended(workspace, 2)
    assert (start["state"], start["reason"]) == ("cancelled", "cancelled")
    assert (removal["kind"], removal["state"]) == ("remove", "succeeded")
    assert plane.running == []


async def test_a_purged_workspace_is_stopped_by_what_its_operations_know(
    worker: OperationWorker, plane: ScriptedControlPlane, pool: Pool
) -> None:
    """INV-5: the row is gone before the machine is, and the machine still goes."""
    workspace = await online(worker)
    plane.script["DELETE"] = [bad.failing(500)] * 2
    await worker.bench.delete(str(workspace), purge=True)
    assert await pool.fetchval("SELECT count(*) FROM workspaces") == 0
    removal = (await worker.ended(workspace, 2))[1]
    assert (removal["state"], removal["attempt"], plane.running) == ("succeeded", 3, [])


async def test_a_delete_before_the_start_calls_nobody(
    pool: Pool, database_url: str, plane: ScriptedControlPlane
) -> None:
    async with worker_of(pool, database_url, plane, backends_concurrency=1) as worker:
        plane.script["POST"] = [bad.hang]
        first = await worker.create("first")
        await plane.wait(lambda: plane.count("POST") == 1)
        second = await worker.create("second")
        await worker.bench.delete(str(second))
        rows = await worker.ended(second, 2)
        assert [(each["kind"], each["state"]) for each in rows] == [
            ("start", "cancelled"), ("remove", "succeeded"),
        ]  # fmt: skip
        assert plane.count("DELETE") == 0
        await worker.bench.delete(str(first))
        await worker.ended(first, 2)


@pytest.mark.parametrize("machine_runs", [True, False])
async def test_an_operation_of_a_dead_worker_is_finished_once(
    pool: Pool, database_url: str, plane: ScriptedControlPlane, machine_runs: bool
) -> None:
    """The next worker asks the engine first: a running workload is kept, a missing one started."""
    [workspace] = await add(
        pool, status="provisioning", runtime="langgraph", backend="control-plane"
    )
    operation = new_id()
    await pool.execute(
        """
        INSERT INTO workspace_operations (id, workspace_id, organization_id, kind, source, state,
            backend, attempt, owner, started_at, lease_until)
        VALUES ($1, $2, $3, 'start', 'create', 'running', 'control-plane', 1, 'dead', now(), now())
        """,
        operation,
        workspace,
        ORGANIZATION,
    )
    if machine_runs:
        plane.machines["i-dead"] = bad.Machine("i-dead", str(workspace), str(operation), {})
    async with (
        worker_of(pool, database_url, plane) as worker,
        worker_of(pool, database_url, plane),
    ):
        [row] = await worker.ended(workspace)
    assert (row["state"], row["attempt"], len(plane.running)) == ("succeeded", 2, 1)
    assert plane.count("POST") == (0 if machine_runs else 1)
    kept = await pool.fetchval("SELECT resource_id FROM workspaces WHERE id = $1", workspace)
    assert kept == plane.running[0].id


async def test_a_worker_that_stops_hands_its_operations_over_at_once(
    pool: Pool, database_url: str, plane: ScriptedControlPlane
) -> None:
    plane.script["POST"] = [bad.done_then(plane, bad.hang)]
    async with worker_of(pool, database_url, plane, backends_lease=600.0) as first:
        workspace = await first.create()
        await plane.wait(lambda: len(plane.machines) == 1)
        await first.stop()
        async with worker_of(pool, database_url, plane) as second:
            [row] = await second.ended(workspace)
    assert (row["state"], row["attempt"], plane.count("POST")) == ("succeeded", 2, 1)


async def test_no_more_starts_run_at_once_than_are_permitted(
    pool: Pool, database_url: str, plane: ScriptedControlPlane
) -> None:
    """W24: of all workers together, and organisations take turns."""
    go = asyncio.Event()
    plane.script["POST"] = [bad.held(go, plane.answer)] * 7
    busy, other = ORGANIZATION, await add_organization(pool)
    async with (
        worker_of(pool, database_url, plane, backends_concurrency=2) as worker,
        worker_of(pool, database_url, plane, backends_concurrency=2),
    ):
        many = [await worker.create(f"w-{n}", organization_id=str(busy)) for n in range(6)]
        last = await worker.create("last", organization_id=str(other))
        await plane.wait(lambda: plane.count("POST") == 2)
        go.set()
        for each in (*many, last):
            await worker.ended(each)
    rows = await pool.fetch("SELECT * FROM workspace_operations ORDER BY started_at, id")
    begun = [row["workspace_id"] for row in rows]
    assert begun.index(last) <= 3
    assert plane.most_starts == 2
    assert len(plane.running) == 7


async def test_a_stop_is_tried_until_it_succeeds(
    worker: OperationWorker, plane: ScriptedControlPlane, pool: Pool
) -> None:
    workspace = await online(worker)
    plane.script["DELETE"] = [bad.failing(500), bad.hang_up, bad.hang_up, bad.garbage]
    await worker.ask(workspace, Kind.STOP)
    stop = (await worker.ended(workspace, 2))[1]
    assert (stop["state"], plane.count("POST")) == ("succeeded", 1)
    row = await one_row(
        pool, "SELECT backend, resource_id FROM workspaces WHERE id = $1", workspace
    )
    assert tuple(row) == ("control-plane", "")


async def test_a_workspace_on_a_backend_that_is_not_open_waits_for_it(
    pool: Pool, database_url: str, plane: ScriptedControlPlane
) -> None:
    """A changed configuration orphans nothing: the removal says what is missing, and waits."""
    async with worker_of(pool, database_url, plane) as before:
        workspace = await online(before)
    async with worker_of(pool, database_url, plane, backends_backend="none") as without:
        await without.bench.delete(str(workspace))

        async def removal() -> str:
            return str((await operations(pool, workspace))[-1]["reason"])

        await until(removal, lambda reason: reason == "not_configured")
        assert len(plane.running) == 1
    kept = {"backends_backend": "none", "backends_kept": ("control-plane",)}
    async with worker_of(pool, database_url, plane, **kept) as after:
        assert (await after.ended(workspace, 2))[1]["state"] == "succeeded"
    assert plane.running == []


async def leftovers(worker: OperationWorker, pool: Pool) -> None:
    """The pass that stops what was left behind, with nothing left to wait for."""
    await pool.execute("UPDATE workspace_leftovers SET not_before = now()")
    [sweep] = [each for each in worker.backends.slice.tasks if each.name == "backend-leftovers"]
    await sweep.step()


@pytest.mark.parametrize("reads_operations", [True, False])
async def test_a_machine_that_comes_after_its_start_was_given_up_is_ended(
    pool: Pool, database_url: str, reads_operations: bool
) -> None:
    """And not the machine of the next start, also where operations mean nothing over there."""
    async with (
        control_plane(reads_operations=reads_operations) as plane,
        worker_of(pool, database_url, plane, backends_start_timeout=0.5) as worker,
    ):
        plane.script["POST"] = [bad.hang]
        workspace = await worker.create()
        [start] = await worker.ended(workspace)
        assert (start["state"], start["reason"], plane.machines) == ("failed", "timeout", {})
        await worker.ask(workspace, Kind.RESTART)
        await worker.ended(workspace, 2)
        [kept] = plane.running
        plane.machines = {
            "i-late": bad.Machine("i-late", str(workspace), str(start["id"]), {}),
            **plane.machines,
        }
        await leftovers(worker, pool)
        left = {each.id for each in plane.running}
        # The other side does not say which machine is the late one's: nothing is guessed.
        assert left == ({kept.id} if reads_operations else {kept.id, "i-late"})


async def test_what_could_not_be_undone_is_undone_later(
    worker: OperationWorker, plane: ScriptedControlPlane, pool: Pool
) -> None:
    plane.script = {
        "POST": [bad.done_then(plane, bad.garbage)],
        "DELETE": [bad.failing(500)] * 3,
    }
    workspace = await worker.create()
    await worker.ended(workspace)
    assert len(plane.running) == 1
    await leftovers(worker, pool)
    assert plane.running == []


async def test_ended_operations_go_with_their_age_and_their_number(
    worker: OperationWorker, pool: Pool
) -> None:
    """30 days, and 1,000 of one workspace; what waits is never deleted."""
    busy, old = new_id(), new_id()
    ended = """
        INSERT INTO workspace_operations
            (id, workspace_id, organization_id, kind, source, state, ended_at)
        SELECT gen_random_uuid(), $1, $2, 'stop', 'test', 'succeeded',
               now() - make_interval(days => $3)
        FROM generate_series(1, $4)
    """
    await pool.execute(ended, busy, ORGANIZATION, 0, 1003)
    await pool.execute(ended, old, ORGANIZATION, 31, 2)
    await worker.stop()
    await worker.ask(old, Kind.REMOVE)
    [task] = [each for each in worker.backends.slice.tasks if each.name == "operation-retention"]
    await task.step()
    rows = await pool.fetch(
        "SELECT workspace_id, count(*) FROM workspace_operations GROUP BY workspace_id"
    )
    assert {row[0]: row[1] for row in rows} == {busy: 1000, old: 1}


async def test_the_answer_of_a_worker_that_lost_its_lease_changes_nothing(
    worker: OperationWorker, plane: ScriptedControlPlane, pool: Pool
) -> None:
    """As after a pause of its process: somebody else has the operation, and ends it."""
    go = asyncio.Event()
    plane.script["POST"] = [bad.held(go, plane.answer)]
    workspace = await worker.create()
    await plane.wait(lambda: plane.count("POST") == 1)
    await pool.execute("UPDATE workspace_operations SET owner = 'other'")
    go.set()
    await plane.wait(lambda: len(plane.machines) == 1)

    async def under_way() -> list[str]:
        return [each.get_name() for each in asyncio.all_tasks()]

    await until(under_way, lambda names: not any(each.startswith("operation ") for each in names))
    [row] = await operations(pool, workspace)
    assert (row["state"], row["owner"], row["resource_id"]) == ("running", "other", "")
    await pool.execute("UPDATE workspace_operations SET lease_until = now()")
    [row] = await worker.ended(workspace)
    assert (row["state"], row["attempt"], plane.count("POST")) == ("succeeded", 2, 1)
