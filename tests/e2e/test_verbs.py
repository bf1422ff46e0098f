"""Restart, pause, resume, hibernate, wake and collapse, over the wire and on a control plane."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.conftest import execute, with_database
from tests.e2e.managed import ManagedWorkspace, Platform, platform_of
from tests.e2e.parties import Agent, Organization
from tests.fake_agent import fake_agent
from tests.waiting import until


@pytest.fixture(scope="module")
def database(postgres: str, template: str) -> Iterator[str]:
    """A database for the server of this module."""
    name = f"verbs_{uuid.uuid4().hex[:12]}"
    asyncio.run(execute(postgres, f"CREATE DATABASE {name} TEMPLATE {template}"))
    yield with_database(postgres, name)
    asyncio.run(execute(postgres, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture(scope="module")
async def platform(
    database: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Platform]:
    """A server with a control plane for this module."""
    async with platform_of(database, tmp_path_factory.mktemp("verbs")) as opened:
        yield opened


async def events_of(platform: Platform, workspace: ManagedWorkspace) -> list[str]:
    rows = await platform.database.fetch(
        "SELECT event_type FROM structure_events WHERE workspace_id = $1 ORDER BY position",
        uuid.UUID(workspace.id),
    )
    return [row["event_type"].removeprefix("WORKSPACE_") for row in rows]


async def inbox(agent: Agent) -> list[dict[str, Any]]:
    pulled = await agent.rest("GET", f"/workspaces/{agent.id}/inbox", limit=100)
    assert pulled.status_code == 200, pulled.text
    found: list[dict[str, Any]] = pulled.json()["items"]
    return found


async def delegate(caller: Agent, target: str, task: str) -> str:
    answered = await caller.rest(
        "POST", f"/workspaces/{caller.id}/delegate", {"target_id": target, "task": task}
    )
    assert answered.status_code == 202, answered.text
    return str(answered.json()["delegation_id"])


async def test_w9_a_restart_replaces_what_runs(platform: Platform) -> None:
    workspace = await platform.online()
    done = await workspace.verb("restart", reset="true")
    assert (done.status_code, done.json()) == (
        200,
        {"status": "provisioning", "config_dir": "existing-volume", "reset_session": True},
    )
    assert await workspace.status() == "provisioning"
    agent = await workspace.register(2)
    assert await workspace.reaches("online")
    first, second = workspace.machines()
    assert (first.state, second.state) == ("terminated", "running")
    assert await platform.operations(workspace.id) == [
        ("start", "create", "succeeded"),
        ("restart", "restart", "succeeded"),
    ]
    assert await events_of(platform, workspace) == [
        "PROVISIONING", "ONLINE", "PROVISIONING", "ONLINE",
    ]  # fmt: skip

    async def told() -> list[dict[str, Any]]:
        return await inbox(agent)

    [item] = await until(told, bool)
    assert "restarted at" in str(item)
    assert "previous session" in str(item)


async def test_what_the_control_plane_lacks_is_refused_and_its_console_is_shown(
    platform: Platform,
) -> None:
    workspace = await platform.online()
    path = f"/workspaces/{workspace.id}"
    answer = await platform.org.rest("GET", f"{path}/console")
    assert answer.json() == {"output": f"console of {workspace.id}"}
    for lacking in ("files", "files/config.yaml", "logs", "stats"):
        answer = await platform.org.rest("GET", f"{path}/{lacking}")
        assert (answer.status_code, "does not offer" in answer.text) == (501, True), answer.text


async def test_a_verb_is_refused_where_it_makes_no_sense(platform: Platform) -> None:
    """404 for an unknown id and a wrong status, 409 below a pause, 400 with a hint if external."""
    parent = await platform.online()
    child = await platform.online(parent_id=parent.id)
    external = ManagedWorkspace(platform, (await platform.org.hire()).id)
    unknown = ManagedWorkspace(platform, str(uuid.uuid4()))
    verbs = ("restart", "pause", "resume", "hibernate", "wake", "collapse")
    refused = {verb: (await unknown.verb(verb)).status_code for verb in verbs}
    assert refused == dict.fromkeys(verbs, 404)
    for verb in ("resume", "wake"):
        assert (await parent.verb(verb)).status_code == 404
    for verb in ("restart", "hibernate", "wake"):
        answered = await external.verb(verb)
        assert answered.status_code == 400, verb
        assert "external/rotate" in answered.json()["hint"]
    assert (await parent.verb("pause")).json() == {"status": "paused", "paused_count": 2}
    for verb in ("restart", "resume"):
        answered = await child.verb(verb)
        assert answered.status_code == 409, verb
        assert "is paused" in answered.json()["error"]
    assert (await child.verb("hibernate")).status_code == 404
    assert (await parent.verb("pause")).status_code == 404


async def test_w10_w11_a_pause_takes_the_subtree_and_a_resume_brings_it_back(
    platform: Platform,
) -> None:
    root = await platform.online()
    child = await platform.online(parent_id=root.id)
    grandchild = await platform.create(parent_id=child.id)
    agent = await platform.org.hire(parent_id=root.id)
    external = ManagedWorkspace(platform, agent.id)
    everyone = [root, child, grandchild, external]
    assert (await root.verb("pause")).json()["paused_count"] == 4
    for each in everyone[:3]:
        await each.stopped()
    assert [await each.status() for each in everyone] == ["paused"] * 4
    # Neither a heartbeat nor a registration ends a pause.
    beat = await agent.rest("POST", "/registry/heartbeat", {"workspace_id": agent.id})
    assert beat.json()["workspace_status"] == "paused"
    resumed = await root.verb("resume")
    assert resumed.json() == {"status": "provisioning", "resumed_count": 4}
    assert await external.status() == "awaiting_agent"
    for each in everyone[:3]:
        await each.machine(2)
    assert (await events_of(platform, root))[-2:] == ["PAUSED", "PROVISIONING"]
    await agent.rest("POST", "/registry/heartbeat", {"workspace_id": agent.id})
    assert await external.status() == "online"


async def test_a_paused_workspace_keeps_what_comes_and_is_not_woken(platform: Platform) -> None:
    """A delegation and a message alike, for agents with an inbox and for those with a URL."""
    caller = await platform.org.hire()
    poller, pushed = await platform.online(), await platform.create()
    async with fake_agent() as listening:
        await pushed.register(url=listening.url, delivery_mode="push")
        for each in (poller, pushed):
            assert (await each.verb("pause")).status_code == 200
            await delegate(caller, each.id, "while paused")
        message = {"message": {"parts": [{"kind": "text", "text": "hello"}]}}
        body = {"method": "message/send", "params": message}
        sent = await platform.org.rest("POST", f"/workspaces/{pushed.id}/a2a", body)
        assert (sent.status_code, sent.json()["queued"]) == (202, True)
        assert "paused" in sent.json()["message"]
        await asyncio.sleep(1)  # Three sweeps that could wake it.
        assert [await each.status() for each in (poller, pushed)] == ["paused"] * 2
        assert listening.received == []
        for each in (poller, pushed):
            await each.verb("resume")
        agent = await poller.register(2)
        await pushed.register(2, url=listening.url, delivery_mode="push")
        assert [one.text for one in await listening.wait(2)] == ["while paused", "hello"]
        assert len(await inbox(agent)) == 1


async def test_h1_h2_a_hibernation_stops_what_runs_and_says_what_became_of_it(
    platform: Platform,
) -> None:
    workspace = await platform.online()
    agent = await workspace.register()
    busy = {"workspace_id": workspace.id, "active_tasks": 2}
    await agent.rest("POST", "/registry/heartbeat", busy)
    refused = await workspace.verb("hibernate")
    assert (refused.status_code, refused.json()["active_tasks"]) == (409, 2)
    assert workspace.machines()[0].state == "running"
    forced = await workspace.verb("hibernate", {"force": True})
    assert (forced.status_code, forced.json()) == (200, {"status": "hibernated"})
    assert workspace.machines()[0].state == "terminated"
    row = await workspace.row()
    assert (row["status"], row["active_tasks"], row["url"]) == ("hibernated", 0, "")
    assert (await workspace.verb("hibernate")).status_code == 404
    assert (await events_of(platform, workspace))[-2:] == ["HIBERNATING", "HIBERNATED"]
    woken = await workspace.verb("wake")
    assert (woken.status_code, woken.json()) == (200, {"status": "provisioning"})
    await workspace.register(2)
    assert await workspace.status() == "online"


async def test_h3_many_delegations_wake_a_sleeper_once_and_arrive_in_order(
    platform: Platform,
) -> None:
    callers = [await platform.org.hire() for _ in range(5)]
    workspace = await platform.online()
    await workspace.verb("hibernate")

    async def hand_over(caller: Agent) -> list[str]:
        return [await delegate(caller, workspace.id, f"task {n}") for n in range(6)]

    ids = await asyncio.gather(*(hand_over(caller) for caller in callers))
    agent = await workspace.register(2)
    items = await inbox(agent)
    assert sorted(item["delegation_id"] for item in items) == sorted(
        each for own in ids for each in own
    )
    for own in ids:
        assert [item["delegation_id"] for item in items if item["delegation_id"] in own] == own
    assert [item["seq"] for item in items] == sorted(item["seq"] for item in items)
    assert len(workspace.machines()) == 2
    starts = [row for row in await platform.operations(workspace.id) if row[1] == "wake"]
    assert starts == [("start", "wake", "succeeded")]


async def test_a_sleeper_with_a_url_gets_its_delegations_in_order_after_it_has_registered(
    platform: Platform,
) -> None:
    caller, workspace = await platform.org.hire(), await platform.create()
    async with fake_agent() as listening:
        await workspace.register(url=listening.url, delivery_mode="push")
        await workspace.verb("hibernate")
        message = {"message": {"parts": [{"kind": "text", "text": "hello"}]}}
        body = {"method": "message/send", "params": message}
        for _ in range(2):  # Asleep, and on its way.
            proxied = await platform.org.rest("POST", f"/workspaces/{workspace.id}/a2a", body)
            assert (proxied.status_code, proxied.json()["waking"]) == (503, True)
            assert proxied.json()["retry_after"] > 0
            assert int(proxied.headers["retry-after"]) > 0
        for n in range(5):
            await delegate(caller, workspace.id, f"task {n}")
        assert listening.received == []
        await workspace.register(2, url=listening.url, delivery_mode="push")
        tasks = [one.text for one in await listening.wait(5)]
        assert tasks == [f"task {n}" for n in range(5)]
        assert len(workspace.machines()) == 2


async def test_what_enters_an_inbox_by_another_way_wakes_as_well(platform: Platform) -> None:
    """A result of its own delegation, which no sender handed to the platform for it."""
    worker = await platform.org.hire()
    workspace = await platform.online()
    lead = await workspace.register()
    delegation_id = await delegate(lead, worker.id, "do this")
    await workspace.verb("hibernate")
    report = {"status": "completed", "response_preview": "done"}
    path = f"/workspaces/{worker.id}/delegations/{delegation_id}/update"
    assert (await worker.rest("POST", path, report)).status_code == 200
    agent = await workspace.register(2)
    assert [item["delegation_id"] for item in await inbox(agent)] == [delegation_id]


async def test_w13_a_collapse_removes_what_is_below_and_leaves_no_machine(
    platform: Platform,
) -> None:
    root = await platform.online()
    child = await platform.online("b child", parent_id=root.id)
    grandchild = await platform.create("a grandchild", parent_id=child.id)
    done = await root.verb("collapse")
    assert (done.status_code, done.json()) == (
        200,
        {"status": "collapsed", "removed": ["a grandchild", "b child"], "removed_count": 2},
    )
    for each in (child, grandchild):
        await each.stopped()
    assert await root.status() == "online"
    assert (await platform.org.rest("GET", f"/workspaces/{child.id}")).status_code == 410
    assert (await events_of(platform, root))[-1] == "COLLAPSED"
    assert (await root.verb("collapse")).json()["removed"] == []


async def test_without_a_backend_a_pause_is_kept_and_nothing_can_be_started(
    org: Organization,
) -> None:
    """On the session's server, which has none."""
    made = await org.rest("POST", "/workspaces", {"name": "w", "runtime": "langgraph"})
    workspace_id = made.json()["id"]
    assert made.json()["status"] == "failed"

    async def verb(name: str) -> int:
        return (await org.rest("POST", f"/workspaces/{workspace_id}/{name}")).status_code

    assert [await verb(name) for name in ("restart", "hibernate", "pause", "resume")] == [
        503, 503, 200, 503,
    ]  # fmt: skip
