"""Sweeps over workloads, on a running server whose control plane is a test's."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.conftest import execute, with_database
from tests.control_plane import failing
from tests.e2e.managed import ManagedWorkspace, Platform, platform_of
from tests.e2e.test_fleet import whole
from tests.waiting import until

pytestmark = pytest.mark.slow

NAMES = {
    "liveness-sweep", "health-sweep", "auto-restart", "provision-timeout-sweep",
    "hibernation-monitor", "stuck-hibernating", "phantom-busy", "a2a-wake",
}  # fmt: skip


@pytest.fixture(scope="module")
def database(postgres: str, template: str) -> Iterator[str]:
    """A database for the server of this module."""
    name = f"sweeps_{uuid.uuid4().hex[:12]}"
    asyncio.run(execute(postgres, f"CREATE DATABASE {name} TEMPLATE {template}"))
    yield with_database(postgres, name)
    asyncio.run(execute(postgres, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture(scope="module")
async def platform(
    database: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Platform]:
    """A server of two workers with a control plane, for this module."""
    async with platform_of(database, tmp_path_factory.mktemp("sweeps"), WORKERS="2") as opened:
        # A worker that starts looks for who is busy in vain, and would find the busy one of a test.
        await whole(opened.server, processes=2)
        yield opened


def long_ago(**past: float) -> datetime:
    return datetime.now(UTC) - timedelta(**past)


async def test_w57_every_sweep_is_named_in_liveness_and_has_run(platform: Platform) -> None:
    async def never_run() -> set[str]:
        answer = await platform.operator.rest("GET", "/admin/liveness")
        tasks = answer.json()["subsystems"]
        return {name for name in NAMES if not tasks.get(name, {}).get("last_tick_at")}

    assert await until(never_run, lambda left: not left) == set()


async def test_a_machine_that_ends_is_started_again(platform: Platform) -> None:
    """Once, although two workers look: the row goes offline and is provisioned anew."""
    workspace = await platform.online()
    workspace.machines()[0].state = "terminated"
    await workspace.machine(2)
    await workspace.settled()
    assert await workspace.status() == "provisioning"
    assert [row for row in await platform.operations(workspace.id) if row[1] == "auto-restart"] == [
        ("restart", "auto-restart", "succeeded")
    ]
    rows = await platform.database.fetch(
        "SELECT event_type FROM structure_events WHERE workspace_id = $1 ORDER BY position",
        uuid.UUID(workspace.id),
    )
    assert [row[0] for row in rows[-2:]] == ["WORKSPACE_OFFLINE", "WORKSPACE_PROVISIONING"]
    await workspace.register(2)
    assert await workspace.status() == "online"


async def test_a_machine_that_ends_five_times_is_not_started_a_sixth_time(
    platform: Platform,
) -> None:
    """Before its agent registers, too; the reason says how it ended, and nothing is left."""
    workspace = await platform.online()
    for number in range(1, 6):
        machine = await workspace.machine(number)
        await workspace.settled()
        machine.state = "terminated"
    await workspace.reaches("failed")
    row = await workspace.row()
    assert "5 times within 10 minutes" in row["last_sample_error"]
    assert "workload is gone" in row["last_sample_error"]
    await workspace.settled()
    assert len(workspace.machines()) == 5
    # Somebody who restarts the workspace begins a new count.
    assert (await workspace.verb("restart")).status_code == 200
    (await workspace.machine(6)).state = "terminated"
    await workspace.machine(7)


async def test_an_engine_that_does_not_answer_is_no_death_and_silence_is(
    platform: Platform,
) -> None:
    workspace = await platform.online()
    await workspace.settled()
    asked = platform.plane.count("GET")
    platform.plane.script["GET"] = [failing(500)] * 30
    await platform.plane.wait(lambda: platform.plane.count("GET") >= asked + 9)
    platform.plane.script.clear()
    assert await workspace.status() == "online"
    await workspace.set(last_heartbeat_at=long_ago(hours=1))
    await workspace.machine(2)


async def test_w25_a_start_that_leads_to_nothing_fails_with_what_was_seen(
    platform: Platform,
) -> None:
    """R-5.4: the reason claims nothing that did not happen; and the machine is stopped."""
    workspace, other = await platform.create(), await platform.create()
    for each in (workspace, other):
        await each.settled()
    await workspace.set(provisioning_started_at=long_ago(hours=1))
    await platform.database.execute(
        "UPDATE workspace_operations SET started_at = now() - interval '1 hour'"
        " WHERE workspace_id = $1",
        uuid.UUID(workspace.id),
    )
    await workspace.reaches("failed")
    reason = (await workspace.row())["last_sample_error"]
    assert "runs on the backend control-plane" in reason
    assert "no agent registered within 600 s" in reason
    await workspace.stopped()
    assert await other.status() == "provisioning"
    # An agent that registers after all ends the failure.
    await workspace.register()
    assert await workspace.status() == "online"


async def test_who_is_idle_by_tasks_and_messages_hibernates_whatever_its_heartbeats(
    platform: Platform,
) -> None:
    idle, busy, asked = [await platform.online() for _ in range(3)]
    caller = await platform.org.hire()
    external = ManagedWorkspace(platform, caller.id)
    task = {"target_id": asked.id, "task": "work"}
    await caller.rest("POST", f"/workspaces/{caller.id}/delegate", task)
    past = {"last_active_at": long_ago(hours=1), "last_heartbeat_at": datetime.now(UTC)}
    await busy.set(active_tasks=1, hibernation_idle_minutes=10, **past)
    for each in (asked, external):
        await each.set(hibernation_idle_minutes=10, **past)
    answer = await platform.org.rest(
        "PATCH", f"/workspaces/{idle.id}", {"hibernation_idle_minutes": 10}
    )
    assert answer.status_code == 200
    assert (await idle.row())["hibernation_idle_minutes"] == 10
    await idle.set(**past)
    assert await idle.reaches("hibernated")
    assert [await each.status() for each in (busy, asked)] == ["online"] * 2
    assert await external.status() == "awaiting_agent"
    assert idle.machines()[0].state == "terminated"


async def test_h4_a_hibernation_whose_stop_was_lost_is_stopped_again(platform: Platform) -> None:
    workspace = await platform.online()
    await workspace.settled()
    await workspace.set(status="hibernating", asleep_since=long_ago(minutes=1))
    assert await workspace.reaches("hibernated")
    assert workspace.machines()[0].state == "terminated"
