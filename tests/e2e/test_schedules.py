"""Schedules over the wire: what clients read, who may touch them, and a fire from end to end."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from tests.e2e.parties import Agent, Organization, Party
from tests.running import RunningServer
from tests.waiting import until

YEARLY = {"cron_expr": "0 0 1 1 *", "prompt": "look\r\naround", "timezone": "Europe/Berlin"}


@pytest.fixture
async def agent(org: Organization) -> Agent:
    return await org.hire()


@pytest.fixture
async def database(server: RunningServer) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(server.database_url)
    yield connection
    await connection.close()


def path_of(agent: Agent, rest: str = "") -> str:
    return f"/workspaces/{agent.id}/schedules{rest}"


async def create(agent: Agent, **fields: Any) -> str:
    answer = await agent.rest("POST", path_of(agent), {**YEARLY, "name": "yearly", **fields})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    assert (made["status"], "next_run_at" in made) == ("created", fields.get("enabled", True))
    found: str = made["id"]
    return found


async def test_a_schedule_from_creation_to_deletion(agent: Agent) -> None:
    """Bare arrays, 201, and the fields that clients know."""
    assert (await agent.rest("GET", path_of(agent))).json() == []
    schedule = await create(agent)
    [row] = (await agent.rest("GET", path_of(agent))).json()
    assert row["next_run_at"].endswith("-12-31T23:00:00Z")
    known = ("id", "workspace_id", "prompt", "enabled", "source", "run_count", "last_status")
    assert [row[name] for name in known] == [
        schedule, agent.id, "look\naround", True, "runtime", 0, "",
    ]  # fmt: skip
    changed = await agent.rest("PATCH", path_of(agent, f"/{schedule}"), {"enabled": False})
    assert (changed.status_code, changed.json()["status"]) == (200, "updated")
    [row] = (await agent.rest("GET", path_of(agent))).json()
    assert (row["enabled"], row["prompt"], "next_run_at" in row) == (False, "look\naround", False)
    deleted = await agent.rest("DELETE", path_of(agent, f"/{schedule}"))
    assert (deleted.status_code, deleted.json()) == (200, {"id": schedule, "status": "deleted"})
    assert (await agent.rest("DELETE", path_of(agent, f"/{schedule}"))).status_code == 404


async def test_what_is_refused(agent: Agent) -> None:
    await create(agent)
    for status, fields in (
        (409, {}), (400, {"name": "a", "cron_expr": "often"}), (400, {"name": "a", "prompt": " "}),
        (400, {"name": "a", "timezone": "Mars"}), (400, {"name": "a", "cron_expr": "0 0 30 2 *"}),
    ):  # fmt: skip
        body = {**YEARLY, "name": "yearly", **fields}
        answer = await agent.rest("POST", path_of(agent), body)
        assert answer.status_code == status, answer.text
        field = next((name for name in fields if name != "name"), "named")
        assert field in answer.json()["error"]


async def test_a_schedule_belongs_to_its_workspace(org: Organization, agent: Agent) -> None:
    """Under another workspace's path there is no such schedule, also for the organisation."""
    schedule = await create(agent)
    other = await org.hire()
    for method, rest, body in (
        ("PATCH", "", {"prompt": "x"}), ("DELETE", "", None), ("POST", "/run", {"deliver": True}),
        ("GET", "/history", None),
    ):  # fmt: skip
        for caller in (other, org):
            answer = await caller.rest(method, path_of(other, f"/{schedule}{rest}"), body)
            assert answer.status_code == 404, answer.text
        answer = await other.rest(method, path_of(agent, f"/{schedule}{rest}"), body)
        assert answer.status_code == 401
    assert len((await org.rest("GET", path_of(agent))).json()) == 1


async def test_a_client_that_sends_the_prompt_itself_gets_the_prompt(agent: Agent) -> None:
    """As ever: without `deliver` nothing is handed over."""
    schedule = await create(agent)
    answer = await agent.rest("POST", path_of(agent, f"/{schedule}/run"))
    assert answer.json() == {
        "status": "fired", "workspace_id": agent.id, "prompt": "look\naround", "delegation_id": "",
    }  # fmt: skip
    assert (await agent.rest("GET", path_of(agent, f"/{schedule}/history"))).json() == []


async def test_a_time_comes_and_the_agent_ends_what_it_was_given(
    operator: Party, agent: Agent, database: asyncpg.Connection[asyncpg.Record]
) -> None:
    """Claimed by a worker, read from the inbox, ended by its result, told by the history."""
    schedule = await create(agent)
    await database.execute(
        "UPDATE workspace_schedules SET next_run_at = now(), look_at = now() WHERE id = $1",
        uuid.UUID(schedule),
    )

    async def tasks() -> list[dict[str, Any]]:
        found = await agent.rest("GET", f"/workspaces/{agent.id}/inbox")
        return [each for each in found.json()["items"] if each["method"] == "delegate"]

    [task] = await until(tasks, bool)
    assert task.get("source_id", "") == ""
    [run] = (await agent.rest("GET", path_of(agent, f"/{schedule}/history"))).json()
    assert (run["delegation_id"], run["trigger"]) == (task["delegation_id"], "cron")
    done = await agent.rest(
        "POST",
        f"/workspaces/{agent.id}/delegations/{task['delegation_id']}/update",
        {"status": "completed", "response_preview": "all quiet"},
    )
    assert done.status_code == 200, done.text

    async def history() -> list[dict[str, Any]]:
        found = await agent.rest("GET", path_of(agent, f"/{schedule}/history"))
        rows: list[dict[str, Any]] = found.json()
        return rows

    [run] = await until(history, lambda rows: rows[0]["status"] == "ok")
    assert "ended_at" in run
    [row] = (await agent.rest("GET", path_of(agent))).json()
    assert (row["run_count"], row["last_status"]) == (1, "ok")
    told = (await operator.rest("GET", "/metrics")).text
    assert 'molecule_schedule_fires_total{outcome="ok"}' in told
    assert "molecule_schedule_lag_seconds_bucket" in told


async def test_health_is_told_to_administrators_and_in_part_to_related_workspaces(
    org: Organization, other_org: Organization, agent: Agent
) -> None:
    await create(agent)
    await create(agent, name="off", enabled=False)
    everything = (await org.rest("GET", "/admin/schedules/health")).json()
    told = {row["schedule_name"]: (row["status"], row["cron_expr"]) for row in everything}
    assert told == {"yearly": ("never_run", "0 0 1 1 *"), "off": ("disabled", "0 0 1 1 *")}
    assert (await other_org.rest("GET", "/admin/schedules/health")).json() == []
    peer = await org.hire()
    path = path_of(agent, "/health")
    asking = peer.wire.party(peer.token, x_workspace_id=peer.id)
    seen = (await asking.rest("GET", path)).json()
    assert {(row["schedule_name"], row["cron_expr"]) for row in seen} == {
        ("yearly", ""),
        ("off", ""),
    }
    assert "prompt" not in seen[0]
    assert (await peer.rest("GET", path)).status_code == 400  # Nobody is named.
    # the token must be that of the workspace that is named.
    claimed = peer.wire.party(peer.token, x_workspace_id=agent.id)
    assert (await claimed.rest("GET", path)).status_code == 401
    child = await org.hire(parent_id=peer.id)
    unrelated = child.wire.party(child.token, x_workspace_id=child.id)
    assert (await unrelated.rest("GET", path)).status_code == 403


async def test_a_removed_workspace_has_no_schedule_that_fires(
    org: Organization, agent: Agent, database: asyncpg.Connection[asyncpg.Record]
) -> None:
    """And a purged one has none."""
    schedule = await create(agent)
    assert (await org.rest("DELETE", f"/workspaces/{agent.id}")).status_code == 200
    enabled = "SELECT enabled FROM workspace_schedules WHERE id = $1"
    assert await database.fetchval(enabled, uuid.UUID(schedule)) is False
    spare = await org.hire()
    await create(spare)
    purged = await org.rest("DELETE", f"/workspaces/{spare.id}", confirm="true", purge="true")
    assert purged.status_code == 200
    left = "SELECT count(*) FROM workspace_schedules WHERE workspace_id = $1"
    assert await database.fetchval(left, uuid.UUID(spare.id)) == 0
    assert (await org.rest("GET", "/admin/schedules/health")).json() == []
