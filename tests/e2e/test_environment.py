"""Variables of agents, and restarts after changes of variables."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.conftest import execute, with_database
from tests.e2e.managed import ManagedWorkspace, Platform, platform_of
from tests.fake_agent import answers, fake_agent
from tests.waiting import until


@pytest.fixture(scope="module")
def database(postgres: str, template: str) -> Iterator[str]:
    """A database for the server of this module."""
    name = f"environment_{uuid.uuid4().hex[:12]}"
    asyncio.run(execute(postgres, f"CREATE DATABASE {name} TEMPLATE {template}"))
    yield with_database(postgres, name)
    asyncio.run(execute(postgres, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture(scope="module")
async def platform(
    database: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Platform]:
    """A server with a control plane for this module."""
    async with platform_of(database, tmp_path_factory.mktemp("environment")) as opened:
        yield opened


async def env_of(workspace: ManagedWorkspace, machines: int) -> dict[str, str]:
    """The variables of a workspace's machine, once it has had so many."""

    async def running() -> list[dict[str, str]]:
        found = workspace.machines()
        return [each.env for each in found if each.state == "running" and len(found) == machines]

    [env] = await until(running, bool)
    return env


async def set_secret(platform: Platform, path: str, key: str, value: str) -> None:
    answer = await platform.org.rest("PUT", path, {"key": key, "value": value})
    assert answer.status_code == 200, answer.text


async def sources(platform: Platform, workspace: ManagedWorkspace) -> list[str]:
    return [source for _, source, _ in await platform.operations(workspace.id)]


async def test_a_changed_secret_starts_the_agent_again(platform: Platform) -> None:
    """So does a chosen model; the same value again does not. The agent is told the names."""
    workspace = await platform.online()
    path = f"/workspaces/{workspace.id}/secrets"
    for _ in range(2):
        await set_secret(platform, path, "API_KEY", "first")
    assert (await env_of(workspace, 2))["API_KEY"] == "first"
    agent = await workspace.register(2)

    async def told() -> list[dict[str, Any]]:
        pulled = await agent.rest("GET", f"/workspaces/{agent.id}/inbox", limit=100)
        found: list[dict[str, Any]] = pulled.json()["items"]
        return found

    [item] = await until(told, bool)
    assert "API_KEY" in str(item)
    assert "first" not in str(item)
    model = {"model": "opus"}
    answer = await platform.org.rest("PUT", f"/workspaces/{workspace.id}/model", model)
    assert answer.status_code == 200, answer.text
    assert (await env_of(workspace, 3))["MODEL_PROVIDER"] == "opus"
    assert await sources(platform, workspace) == ["create", "environment", "environment"]


async def test_who_sleeps_is_not_woken_by_a_secret(platform: Platform) -> None:
    """A paused and a hibernated workspace read the change when somebody starts them."""
    paused, asleep = await platform.online(), await platform.online()
    assert (await paused.verb("pause")).status_code == 200
    assert (await asleep.verb("hibernate")).status_code == 200
    for each, verb in ((paused, "resume"), (asleep, "wake")):
        await set_secret(platform, f"/workspaces/{each.id}/secrets", "LATE", "yes")
        assert "environment" not in await sources(platform, each)
        assert (await each.verb(verb)).status_code == 200
        assert (await env_of(each, 2))["LATE"] == "yes"


async def test_a_shared_secret_reaches_who_has_no_other(platform: Platform) -> None:
    """Every agent that inherits it is started again, and nobody else is."""
    heirs = [await platform.online() for _ in range(2)]
    other = await platform.online(secrets={"SHARED": "own"})
    await set_secret(platform, "/settings/secrets", "SHARED", "all")
    for each in heirs:
        assert (await env_of(each, 2))["SHARED"] == "all"

    async def left() -> int:
        return int(await platform.database.fetchval("SELECT count(*) FROM secret_rollouts"))

    assert await until(left, lambda count: not count) == 0
    assert await sources(platform, other) == ["create"]


async def test_tokens_of_answers_are_counted(platform: Platform) -> None:
    """Those of the result, and of its metadata; what is no number counts as nothing."""
    said = {"parts": [{"kind": "text", "text": "a"}]}
    bodies: list[dict[str, Any]] = [
        {"result": said | {"usage": {"input_tokens": 10, "output_tokens": 2}}},
        {"result": said | {"metadata": {"usage": {"input_tokens": 5.0}}}},
        {"usage": {"input_tokens": "many", "output_tokens": -3}, "result": said},
        {"result": said},
    ]
    message = {"method": "message/send", "params": {"message": {"parts": [{"text": "hi"}]}}}
    async with fake_agent() as fake:
        fake.script = [answers(200, body) for body in bodies]
        agent = await platform.org.hire()
        path = f"/workspaces/{agent.id}"
        card = {"id": agent.id, "agent_card": {}, "url": fake.url, "delivery_mode": "push"}
        registered = await agent.rest("POST", "/registry/register", card)
        assert registered.status_code == 200, registered.text
        for _ in bodies:
            sent = await platform.org.rest("POST", f"{path}/a2a", message)
            assert sent.status_code == 200, sent.text

    async def used() -> dict[str, Any]:
        found: dict[str, Any] = (await agent.rest("GET", f"{path}/metrics")).json()
        return found

    found = await until(used, lambda use: use["total_calls"] == 3)
    assert (found["input_tokens"], found["output_tokens"]) == (15, 2)
    assert found["estimated_cost_usd"] == "0.000075"


async def test_a_start_that_lacks_what_its_agent_requires_fails_and_says_so(
    platform: Platform,
) -> None:
    """The reason and the event name the variables; setting the secrets restarts the agent."""
    config = "runtime: langgraph\nruntime_config: {required_env: [NEEDED_KEY, OTHER_KEY]}\n"
    document = {"name": f"needy {uuid.uuid4().hex[:8]}", "prompts": {"config.yaml": config}}
    made = await platform.org.rest("POST", "/bundles/import", document)
    assert (made.status_code, made.json()["status"]) == (201, "provisioning"), made.text
    workspace = ManagedWorkspace(platform, made.json()["workspace_id"])
    assert await workspace.reaches("failed")
    row = (await platform.org.rest("GET", f"/workspaces/{workspace.id}")).json()
    reason = "required environment variables are not set: NEEDED_KEY, OTHER_KEY"
    assert row["last_sample_error"] == reason
    events = (await platform.org.rest("GET", f"/events/{workspace.id}")).json()
    [failed] = [each for each in events if each["event_type"] == "WORKSPACE_PROVISION_FAILED"]
    assert failed["payload"]["missing"] == ["NEEDED_KEY", "OTHER_KEY"]
    path = f"/workspaces/{workspace.id}/secrets"
    for key in ("NEEDED_KEY", "OTHER_KEY"):
        await set_secret(platform, path, key, "here")

    async def started() -> list[dict[str, str]]:
        return [each.env for each in workspace.machines() if each.state == "running"]

    [env] = await until(started, lambda found: bool(found) and "OTHER_KEY" in found[-1])
    assert env["NEEDED_KEY"] == "here"
