"""Engines compared with rows: on a real Docker engine and a real database."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from uuid import UUID

import docker
import pytest

from molecule_grpc.backends import metrics
from molecule_grpc.backends.contract.names import BackendName
from molecule_grpc.backends.contract.workloads import Resource, Started
from molecule_grpc.backends.dispatch import Dispatch
from molecule_grpc.backends.docker.backend import DockerBackend
from molecule_grpc.backends.reconcile.passes import Reconcile
from molecule_grpc.backends.restart_limits import RestartLimits
from molecule_grpc.db.pool import Pool
from molecule_grpc.kernel.ids import new_id
from molecule_grpc.settings.docker import DockerSettings
from molecule_grpc.workspace.status_moves import StatusMoves
from tests.engine.docker import DockerEngine
from tests.engine.image import IMAGE
from tests.integration.backends import a_start
from tests.integration.workspaces import ORGANIZATION, add, one_row
from tests.waiting import PATIENCE

_ASKED = """
    INSERT INTO workspace_operations (id, workspace_id, organization_id, kind, source, state,
        ended_at, owner, lease_until)
    SELECT gen_random_uuid(), $1, $2, 'restart', 'reconcile', $3,
        CASE WHEN $3 = 'running' THEN NULL ELSE now() - interval '1 min' END, 'w',
        CASE WHEN $3 = 'running' THEN now() + interval '1 min' END
    FROM generate_series(1, $4)
"""


LIMITS = RestartLimits(deaths=5, backoff=1.0)


def docker_backend(host: str) -> DockerBackend:
    """Of an installation of its own."""
    return DockerBackend(DockerSettings(host=host), uuid.uuid4().hex, platform_port=8080)


@pytest.fixture
async def backend(docker_engine: DockerEngine) -> AsyncIterator[DockerBackend]:
    made = docker_backend(docker_engine.url)
    yield made
    for owned in await made.list_owned(deadline=PATIENCE):
        await made.stop(Resource(workspace_id=owned.workspace_id), deadline=PATIENCE)
        await made.remove_volumes(owned.workspace_id, deadline=PATIENCE)
    await made.close()


def reconcile_of(pool: Pool, backend: DockerBackend) -> Reconcile:
    dispatch = Dispatch(
        BackendName.DOCKER, [backend], start_timeout=60, stop_timeout=60, first_pause=0.1
    )
    return Reconcile(pool, dispatch, StatusMoves(), LIMITS, lambda: None)


async def start(backend: DockerBackend, workspace: UUID) -> Started:
    request = a_start(workspace, image=IMAGE, env={"AGENT_MODE": "quiet"})
    return await backend.start(request, deadline=PATIENCE)


async def record(pool: Pool, workspace: UUID, resource_id: str) -> None:
    await pool.execute(
        "UPDATE workspaces SET backend = 'docker', resource_id = $2 WHERE id = $1",
        workspace,
        resource_id,
    )


def orphans_counted() -> float:
    return float(metrics.ORPHANS[BackendName.DOCKER]._value.get())


async def test_what_no_row_expects_is_removed_and_everything_else_stays(
    pool: Pool, backend: DockerBackend, docker_engine: DockerEngine, witness: docker.DockerClient
) -> None:
    """Also what another installation runs on the same engine."""
    [expected, removed, older, paused, busy] = [
        (await add(pool, status=status))[0]
        for status in ("online", "removed", "offline", "paused", "online")
    ]
    nobody = new_id()
    for workspace in (expected, removed, paused, busy):
        await record(pool, workspace, (await start(backend, workspace)).resource_id)
    await record(pool, older, "another")
    for workspace in (older, nobody):
        await start(backend, workspace)
    await pool.execute("UPDATE workspaces SET resource_id = '' WHERE id = $1", busy)
    await pool.execute(_ASKED, busy, ORGANIZATION, "running", 1)
    foreign = docker_backend(docker_engine.url)
    await start(foreign, new_id())
    before = orphans_counted()
    reconcile = reconcile_of(pool, backend)
    await reconcile.compare()
    await reconcile.compare()
    left = await backend.list_owned(deadline=PATIENCE)
    assert {each.workspace_id for each in left if each.running} == {expected, busy}
    with_volumes = {each.workspace_id for each in left}
    assert with_volumes == {expected, busy, older, paused}
    assert orphans_counted() - before == 4
    [other] = await foreign.list_owned(deadline=PATIENCE)
    assert witness.containers.get(other.resource_id).status == "running"
    await foreign.stop(Resource(workspace_id=other.workspace_id), deadline=PATIENCE)
    await foreign.remove_volumes(other.workspace_id, deadline=PATIENCE)
    await foreign.close()


async def test_what_a_row_expects_and_the_engine_lacks_is_started_again(
    pool: Pool, backend: DockerBackend, witness: docker.DockerClient
) -> None:
    """At the fifth loss in ten minutes the workspace is failed, with a reason, and stopped."""
    [lost, again, late] = await add(pool, 3, status="online")
    for workspace in (lost, again, late):
        started = await start(backend, workspace)
        await record(pool, workspace, started.resource_id)
        witness.containers.get(started.resource_id).remove(force=True)
    # The sweep's restarts count as well; the fourth loss is not the last.
    await pool.execute(_ASKED, again, ORGANIZATION, "succeeded", 2)
    by_the_sweep = _ASKED.replace("reconcile", "auto-restart")
    await pool.execute(by_the_sweep, again, ORGANIZATION, "succeeded", 2)
    await pool.execute(_ASKED, late, ORGANIZATION, "succeeded", 3)
    reconcile = reconcile_of(pool, backend)
    await reconcile.compare()
    await reconcile.compare()
    row = await one_row(pool, "SELECT * FROM workspaces WHERE id = $1", lost)
    assert (row["status"], row["provisioning_started_at"] is not None) == ("provisioning", True)
    row = await one_row(pool, "SELECT * FROM workspaces WHERE id = $1", again)
    assert row["status"] == "failed"
    assert row["last_sample_error"] == "the agent's process was gone, 5 times within 10 minutes"
    asked = await pool.fetch(
        "SELECT workspace_id, kind, source FROM workspace_operations WHERE state = 'pending'"
    )
    assert {tuple(each) for each in asked} == {
        (lost, "restart", "reconcile"),
        (late, "restart", "reconcile"),
        (again, "stop", "reconcile"),
    }
    events = await pool.fetch(
        "SELECT event_type FROM structure_events WHERE workspace_id = $1", lost
    )
    assert [each["event_type"] for each in events] == [
        "WORKSPACE_OFFLINE",
        "WORKSPACE_PROVISIONING",
    ]


async def test_an_engine_that_does_not_answer_changes_nothing(pool: Pool) -> None:
    backend = docker_backend("unix:///nonexistent/docker.sock")
    [workspace] = await add(pool, status="online")
    await record(pool, workspace, "c1")
    await reconcile_of(pool, backend).compare()
    row = await one_row(pool, "SELECT status FROM workspaces WHERE id = $1", workspace)
    assert row["status"] == "online"
    assert await pool.fetchval("SELECT count(*) FROM workspace_operations") == 0
    await backend.close()


async def test_the_way_to_online_is_measured_once(pool: Pool) -> None:
    [workspace, waiting] = [
        (await add(pool, status=status))[0] for status in ("online", "provisioning")
    ]
    await record(pool, workspace, "c1")
    await pool.execute("UPDATE workspaces SET provisioning_started_at = now() - interval '7 s'")
    await pool.execute(
        """
        INSERT INTO structure_events (id, event_type, organization_id, workspace_id)
        VALUES (gen_random_uuid(), 'WORKSPACE_ONLINE', $1, $2)
        """,
        ORGANIZATION,
        workspace,
    )
    series = metrics.ONLINE[BackendName.DOCKER]
    before = series._sum.get()
    reconcile = reconcile_of(pool, docker_backend("unix:///nonexistent/docker.sock"))
    for _ in range(2):
        await reconcile.measure()
    assert 7 <= series._sum.get() - before < 14
    left = await pool.fetch("SELECT id FROM workspaces WHERE provisioning_started_at IS NOT NULL")
    assert [each["id"] for each in left] == [waiting]
