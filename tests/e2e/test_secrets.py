"""Secrets: whose value an agent is started with, who may see it, and how it is kept."""

from __future__ import annotations

import base64
import os
import uuid
from collections.abc import Callable

import asyncpg
import pytest

from tests.e2e.parties import Agent, Organization, Party, found, wire_to
from tests.running import RunningServer

pytestmark = pytest.mark.slow


@pytest.fixture
async def agent(org: Organization) -> Agent:
    return await org.hire()


def path_of(agent: Agent, rest: str = "") -> str:
    return f"/workspaces/{agent.id}/secrets{rest}"


async def put(party: Party, path: str, key: str, value: str) -> None:
    answer = await party.rest("PUT", path, {"key": key, "value": value})
    assert answer.status_code == 200, answer.text


async def values(agent: Agent) -> dict[str, str]:
    answer = await agent.rest("GET", path_of(agent, "/values"))
    assert answer.status_code == 200, answer.text
    found: dict[str, str] = answer.json()
    return found


async def test_the_nearest_value_wins(operator: Party, org: Organization, agent: Agent) -> None:
    """Workspace before organisation before installation; a deleted one uncovers the next."""
    key = "SECRET_OF_ALL"
    await put(operator, "/settings/secrets", key, "installation")
    await put(org, "/settings/secrets", key, "organization")
    await put(agent, path_of(agent), key, "workspace")
    seen = []
    for owner, path in (
        (agent, path_of(agent)), (org, "/settings/secrets"), (operator, "/admin/secrets"),
    ):  # fmt: skip
        seen.append((await values(agent))[key])
        assert (await owner.rest("DELETE", f"{path}/{key}")).status_code == 200
    assert seen == ["workspace", "organization", "installation"]
    assert key not in await values(agent)


async def test_names_are_listed_without_values(org: Organization, agent: Agent) -> None:
    """As a bare array, with what is inherited."""
    await put(org, "/settings/secrets", "B_KEY", "shared value")
    await put(agent, path_of(agent), "A_KEY", "own value")
    answer = await agent.rest("GET", path_of(agent))
    listed = [(each["key"], each["has_value"], each["scope"]) for each in answer.json()]
    assert ("A_KEY", True, "workspace") in listed
    assert ("B_KEY", True, "organization") in listed
    assert "value" not in answer.text.replace("has_value", "")
    shared = (await org.rest("GET", "/settings/secrets")).json()
    assert [(each["key"], each["scope"]) for each in shared] == [("B_KEY", "organization")]


async def test_values_are_a_flat_map(agent: Agent) -> None:
    """Exactly as they were set, whatever they hold."""
    odd = 'line\nbreak \u00e4\u4e2d {"json": 1} $HOME'
    await put(agent, path_of(agent), "ODD", odd)
    assert (await values(agent))["ODD"] == odd


async def test_organisations_do_not_share(
    org: Organization, other_org: Organization, agent: Agent
) -> None:
    """Neither by inheritance nor by asking."""
    await put(org, "/settings/secrets", "TEAM_KEY", "theirs")
    stranger = await other_org.hire()
    assert "TEAM_KEY" not in await values(stranger)
    assert (await other_org.rest("GET", "/settings/secrets")).json() == []
    refused = await other_org.rest("GET", "/settings/secrets", organization_id=org.id)
    assert refused.status_code == 404
    assert (await stranger.rest("GET", path_of(agent, "/values"))).status_code == 401


async def test_a_workspace_is_created_with_secrets(org: Organization) -> None:
    """All or nothing: with a key that is none there is no workspace either."""
    agent = await org.hire("secretive", secrets={"K": "v"})
    assert (await values(agent))["K"] == "v"
    body = {"name": "another", "external": True, "secrets": {"not a key": "v"}}
    answer = await org.rest("POST", "/workspaces", body)
    assert (answer.status_code, "key" in answer.text) == (400, True)
    names = [each["name"] for each in (await org.rest("GET", "/workspaces")).json()]
    assert names == ["secretive"]


@pytest.mark.parametrize("key", ["1ST", "with space", "A=B", "", "X" * 129, "ключ"])
async def test_a_key_is_the_name_of_a_variable(agent: Agent, key: str) -> None:
    answer = await agent.rest("POST", path_of(agent), {"key": key, "value": "x"})
    assert (answer.status_code, "key" in answer.text) == (400, True)


@pytest.mark.parametrize("value", ["", "nul\0nul", "x" * 65_537])
async def test_a_value_fits_into_an_environment(agent: Agent, value: str) -> None:
    answer = await agent.rest("POST", path_of(agent), {"key": "K", "value": value})
    assert (answer.status_code, "value" in answer.text) == (400, True)


async def test_secrets_have_a_limit(agent: Agent) -> None:
    """256 KiB of an owner; writing one again needs no more room."""
    for n in range(3):
        await put(agent, path_of(agent), f"K{n}", "x" * 65_536)
    full = {"key": "K3", "value": "x" * 65_536}
    answer = await agent.rest("POST", path_of(agent), full)
    assert (answer.status_code, "bytes of secrets" in answer.text) == (429, True)
    await put(agent, path_of(agent), "K0", "y" * 65_536)


async def test_what_is_absent(agent: Agent) -> None:
    """404 for a secret that the workspace does not have, and for a removed workspace."""
    answer = await agent.rest("DELETE", path_of(agent, "/NONE"))
    assert (answer.status_code, answer.json()["error"]) == (404, "secret not found")


async def test_an_organisation_that_there_is_not(operator: Party) -> None:
    body = {"key": "K", "value": "x", "organization_id": str(uuid.uuid4())}
    answer = await operator.rest("PUT", "/settings/secrets", body)
    assert (answer.status_code, answer.json()["error"]) == (404, "organization not found")


async def test_a_removed_workspace_gets_no_secret(org: Organization, agent: Agent) -> None:
    assert (await org.rest("DELETE", f"/workspaces/{agent.id}")).status_code == 200
    answer = await org.rest("POST", path_of(agent), {"key": "K", "value": "x"})
    assert answer.status_code == 404


async def test_they_are_sealed_and_bound_to_their_owner(
    server: RunningServer, org: Organization, agent: Agent
) -> None:
    """No value in the database, and a row that is copied to another owner opens nothing."""
    other = await org.hire()
    await put(agent, path_of(agent), "K", "plain text of the secret")
    await put(other, path_of(other), "K", "another")
    connection = await asyncpg.connect(server.database_url)
    try:
        sealed = await connection.fetchval(
            "SELECT sealed FROM secrets WHERE workspace_id = $1", agent.id
        )
        assert b"plain text" not in sealed
        await connection.execute(
            "UPDATE secrets SET sealed = $1 WHERE workspace_id = $2", sealed, other.id
        )
    finally:
        await connection.close()
    answer = await other.rest("GET", path_of(other, "/values"))
    assert (answer.status_code, answer.json()["failed_keys"]) == (500, ["K"])


async def test_the_key_changes_and_nothing_is_lost(
    own_server: Callable[..., RunningServer],
) -> None:
    """The previous key opens, a re-encryption makes it superfluous, without any key all is kept."""
    keys = [base64.b64encode(os.urandom(32)).decode() for _ in range(2)]
    server = own_server(SECRETS_ENCRYPTION_KEY=keys[0])
    async with wire_to(server) as wire:
        operator = wire.party(server.admin_token)
        org = await found(wire, operator)
        agent = await org.hire()
        await put(agent, path_of(agent), "K", "kept")
    server.environment |= {"SECRETS_ENCRYPTION_KEY": keys[1], "SECRETS_PREVIOUS_KEYS": keys[0]}
    server.restart()
    async with wire_to(server) as wire:
        operator = wire.party(server.admin_token)
        mine = Agent(wire, agent.headers, agent.id, agent.token)
        assert await values(mine) == {"K": "kept"}
        done = (await operator.rest("POST", "/admin/secrets/reencrypt")).json()
        assert (int(done["reencrypted"]), int(done["unreadable"])) == (1, 0)
    server.environment["SECRETS_PREVIOUS_KEYS"] = ""
    server.restart()
    async with wire_to(server) as wire:
        assert await values(Agent(wire, agent.headers, agent.id, agent.token)) == {"K": "kept"}
