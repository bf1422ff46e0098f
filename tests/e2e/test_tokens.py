"""Tokens of workspaces: minted, shown once, ended at once; and the way back for a lost one."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from moleculeai.workspace.v1 import workspace_service_pb2 as pb

from tests.e2e.parties import Organization, Party, Refused, found, until_refused, wire_to
from tests.running import RunningServer
from tests.waiting import until


def told(answer: httpx.Response) -> tuple[int, Any]:
    """Status and body."""
    return answer.status_code, answer.json()


async def alive(party: Party, workspace: str) -> bool:
    answer = await party.rest("GET", f"/workspaces/{workspace}/state")
    assert answer.status_code in (200, 401)
    return answer.status_code == 200


async def test_a_token_is_shown_once_and_listed_without_its_secret(org: Organization) -> None:
    agent = await org.hire()
    path = f"/workspaces/{agent.id}/tokens"
    made = await agent.rest("POST", path)
    assert made.status_code == 201
    body = made.json()
    assert body.keys() == {
        "auth_token", "workspace_id", "message", "id", "prefix", "created_at", "read_only",
    }  # fmt: skip
    assert (len(body["auth_token"]), body["workspace_id"]) == (43, agent.id)
    listed = await agent.rest("GET", path)
    rows = listed.json()["tokens"]
    assert listed.json()["count"] == 2
    assert [row["prefix"] for row in rows] == [body["auth_token"][:8], agent.token[:8]]
    assert rows[0].keys() >= {"id", "prefix", "created_at"}
    assert body["auth_token"] not in listed.text
    page = (await agent.rest("GET", path, limit=1, offset=1)).json()
    assert [row["id"] for row in page["tokens"]] == [rows[1]["id"]]
    assert (await agent.rest("GET", path, limit=201)).status_code == 400


async def test_a_revoked_token_is_refused_at_once(org: Organization) -> None:
    agent = await org.hire()
    path = f"/workspaces/{agent.id}/tokens"
    body = (await agent.rest("POST", path)).json()
    second = org.wire.party(body["auth_token"])
    assert await alive(second, agent.id)
    revoked = await agent.rest("DELETE", f"{path}/{body['id']}")
    assert told(revoked) == (200, {"status": "revoked"})
    await until_refused(second, f"/workspaces/{agent.id}/state")
    assert await alive(agent, agent.id)
    again = await agent.rest("DELETE", f"{path}/{body['id']}")
    assert told(again) == (404, {"error": "token not found"})


async def test_a_token_is_revoked_by_its_own_workspace_only(org: Organization) -> None:
    agent, other = await org.hire(), await org.hire()
    [row] = (await agent.rest("GET", f"/workspaces/{agent.id}/tokens")).json()["tokens"]
    misled = await other.rest("DELETE", f"/workspaces/{other.id}/tokens/{row['id']}")
    assert told(misled) == (404, {"error": "token not found"})
    direct = await other.rest("DELETE", f"/workspaces/{agent.id}/tokens/{row['id']}")
    assert direct.status_code == 401
    assert await alive(agent, agent.id)


async def test_the_fifty_first_live_token_is_refused(org: Organization) -> None:
    agent = await org.hire()
    request = pb.CreateTokenRequest(workspace_id=agent.id)
    for _ in range(49):
        await agent.rpc(request)
    answer = await agent.rest("POST", f"/workspaces/{agent.id}/tokens")
    assert answer.status_code == 429
    with pytest.raises(Refused) as caught:
        await agent.rpc(request)
    assert (caught.value.code, caught.value.reason) == ("RESOURCE_EXHAUSTED", "TOO_MANY_TOKENS")
    [first, *_] = (await agent.rest("GET", f"/workspaces/{agent.id}/tokens")).json()["tokens"]
    await agent.rest("DELETE", f"/workspaces/{agent.id}/tokens/{first['id']}")
    assert (await agent.rpc(request)).auth_token


async def test_rotating_ends_the_old_token_and_gives_a_new_one(org: Organization) -> None:
    """W43: id and workspace stay; an event tells, without the token (test_events)."""
    agent = await org.hire()
    await agent.rest("POST", f"/workspaces/{agent.id}/tokens")
    answer = await org.rest("POST", f"/workspaces/{agent.id}/external/rotate")
    assert answer.status_code == 200
    connection = answer.json()["connection"]
    assert connection["workspace_id"] == agent.id
    await until_refused(agent, f"/workspaces/{agent.id}/state")
    assert await alive(org.wire.party(connection["auth_token"]), agent.id)
    listed = (await org.rest("GET", f"/workspaces/{agent.id}/tokens")).json()
    assert listed["count"] == 1


async def test_connection_details_never_show_a_token(org: Organization) -> None:
    """W44."""
    agent = await org.hire()
    answer = await agent.rest("GET", f"/workspaces/{agent.id}/external/connection")
    assert answer.status_code == 200
    connection = answer.json()["connection"]
    assert (connection["workspace_id"], connection["auth_token"]) == (agent.id, "")
    assert await alive(agent, agent.id)


@pytest.mark.parametrize(("method", "path"), [("GET", "connection"), ("POST", "rotate")])
async def test_other_runtimes_have_no_connection_details(
    org: Organization, method: str, path: str
) -> None:
    made = await org.rest("POST", "/workspaces", {"name": "a", "runtime": "hermes"})
    workspace = made.json()["id"]
    status, body = told(await org.rest(method, f"/workspaces/{workspace}/external/{path}"))
    assert (status, body["runtime"]) == (400, "hermes")
    assert f"/workspaces/{workspace}/restart" in body["hint"]
    unknown = await org.rest(method, f"/workspaces/{uuid.uuid4()}/external/{path}")
    assert told(unknown) == (404, {"error": "workspace not found"})
    assert (await org.rest(method, f"/workspaces/x/external/{path}")).status_code == 400


async def test_strangers_and_siblings_touch_no_tokens(org: Organization, stranger: Party) -> None:
    agent, sibling = await org.hire(), await org.hire()
    base = f"/workspaces/{agent.id}"
    for party, text in (
        (stranger, "missing workspace auth token"),
        (sibling, "invalid workspace auth token"),
    ):
        for method, path in (
            ("GET", f"{base}/tokens"),
            ("POST", f"{base}/tokens"),
            ("DELETE", f"{base}/tokens/{uuid.uuid4()}"),
            ("GET", f"{base}/external/connection"),
            ("POST", f"{base}/external/rotate"),
        ):
            assert told(await party.rest(method, path)) == (401, {"error": text})
    assert await alive(agent, agent.id)


async def test_a_purged_id_is_its_next_organisations_alone(
    own_server: Callable[..., RunningServer],
) -> None:
    """The first organisation mints no token of the id at any worker, and reads nothing new."""
    server = own_server(WORKERS="2")
    async with wire_to(server) as wire:
        operator = wire.party(server.admin_token)
        first, second = await found(wire, operator), await found(wire, operator)
        agent, friend = await first.hire(), await first.hire()
        path = f"/workspaces/{agent.id}"
        task = {"target_id": friend.id, "task": "confidential"}
        assert (await agent.rest("POST", f"{path}/delegate", task)).status_code == 202
        for _ in range(20):  # at both workers
            assert (await first.rest("GET", f"{path}/activity")).status_code == 200
        purged = await first.rest("DELETE", path, confirm="true", purge="true")
        assert purged.status_code == 200
        card = {"id": agent.id, "agent_card": {}}
        taken = (await second.rest("POST", "/registry/register", card)).json()
        assert taken["auth_token"]
        minted = [(await first.rest("POST", f"{path}/tokens")).status_code for _ in range(20)]
        assert minted == [404] * 20

        async def read() -> set[int]:
            answers = [await first.rest("GET", f"{path}/activity") for _ in range(20)]
            return {answer.status_code for answer in answers}

        await until(read, lambda statuses: statuses == {404})
        successor = wire.party(taken["auth_token"])
        assert (await successor.rest("GET", f"{path}/delegations")).json() == []
        assert len((await second.rest("GET", f"{path}/tokens")).json()["tokens"]) == 1
