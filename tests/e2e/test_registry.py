"""Register, heartbeat and discovery, with the exact bodies and statuses that clients rely on."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import httpx
import pytest
from google.protobuf.struct_pb2 import Value
from moleculeai.workspace.v1 import workspace_service_pb2 as pb

from tests.e2e.parties import Agent, Organization, Party, Refused, until_refused

URL = "http://93.184.216.34:9/a2a"


def told(answer: httpx.Response) -> tuple[int, Any]:
    """Status and body."""
    return answer.status_code, answer.json()


async def register(party: Party, workspace: str, **fields: Any) -> httpx.Response:
    body = {"id": workspace, "agent_card": {"name": "x", "skills": []}, **fields}
    return await party.rest("POST", "/registry/register", body)


async def beat(agent: Agent, **fields: Any) -> httpx.Response:
    return await agent.rest("POST", "/registry/heartbeat", {"workspace_id": agent.id, **fields})


async def status(org: Organization, agent: Agent) -> str:
    answer = await org.rest("GET", f"/workspaces/{agent.id}")
    return str(answer.json()["status"])


async def test_registering_answers_what_bridges_read(org: Organization) -> None:
    agent = await org.hire()
    answer = await register(agent, agent.id, url="")
    code, body = told(answer)
    secret = body.pop("platform_inbound_secret")
    assert (code, body) == (
        200,
        {"status": "registered", "delivery_mode": "poll", "auth_token": ""},
    )
    assert len(secret) == 43
    assert '"delivery_mode":"poll"' in answer.text
    row = (await org.rest("GET", f"/workspaces/{agent.id}")).json()
    assert (row["status"], row["agent_card"]) == ("online", {"name": "x", "skills": []})


async def test_registering_again_keeps_token_and_secret(org: Organization) -> None:
    """Re-registering never rotates the token or the secret."""
    agent = await org.hire()
    first, second = [(await register(agent, agent.id)).json() for _ in range(2)]
    assert second["auth_token"] == ""
    assert first["platform_inbound_secret"] == second["platform_inbound_secret"]
    assert (await beat(agent)).status_code == 200


async def test_registering_for_push_needs_a_url_that_may_be_called(org: Organization) -> None:
    agent = await org.hire()
    bare = await register(agent, agent.id, delivery_mode="push")
    assert told(bare) == (400, {"error": "url is required for push-mode workspaces"})
    inside = await register(agent, agent.id, delivery_mode="push", url="http://169.254.169.254/x")
    assert inside.status_code == 400
    assert await status(org, agent) == "awaiting_agent"
    for url in (URL, "http://localhost:9001/a2a"):
        outside = await register(agent, agent.id, delivery_mode="push", url=url)
        assert outside.json()["delivery_mode"] == "push"
        row = (await org.rest("GET", f"/workspaces/{agent.id}")).json()
        assert row["url"] == url


async def test_an_agent_without_an_inbound_url_polls(org: Organization) -> None:
    """Q2: `remote:` says that there is nothing to call."""
    agent = await org.hire()
    answer = await register(agent, agent.id, url="remote://no-inbound")
    assert answer.json()["delivery_mode"] == "poll"
    both = await register(agent, agent.id, url="remote://no-inbound", delivery_mode="push")
    assert both.status_code == 400


@pytest.mark.parametrize("created", [{}, {"url": URL}, {"url": "remote://none"}])
async def test_the_url_of_a_registration_decides_each_time(
    org: Organization, created: dict[str, Any]
) -> None:
    """Whatever the workspace was created as, and had registered as before."""
    made = await org.rest("POST", "/workspaces", {"name": "a", "external": True, **created})
    workspace = made.json()["id"]
    for url, mode in ((URL, "push"), ("", "poll"), (URL, "push"), ("remote://none", "poll")):
        answer = await register(org, workspace, url=url)
        assert told(answer)[1]["delivery_mode"] == mode
        row = (await org.rest("GET", f"/workspaces/{workspace}")).json()
        assert (row["url"], row["delivery_mode"]) == (url if mode == "push" else "", mode)


async def test_a_stated_mode_outlives_registrations_that_state_none(org: Organization) -> None:
    agent = await org.hire(delivery_mode="poll")
    assert (await register(agent, agent.id, url=URL)).json()["delivery_mode"] == "poll"
    assert (await register(agent, agent.id, url=URL, delivery_mode="push")).status_code == 200
    assert (await register(agent, agent.id)).status_code == 400
    assert (await register(agent, agent.id, delivery_mode="poll")).status_code == 200
    assert (await register(agent, agent.id, url=URL)).json()["delivery_mode"] == "poll"


async def test_an_agent_that_registers_without_a_row_and_url_polls(org: Organization) -> None:
    answer = await register(org, str(uuid.uuid4()))
    assert answer.json()["delivery_mode"] == "poll"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"id": "x", "agent_card": {}},
        {"id": str(uuid.uuid4())},
        {"id": str(uuid.uuid4()), "agent_card": {}, "delivery_mode": "carrier-pigeon"},
        {"id": str(uuid.uuid4()), "agent_card": {}, "url": "http://" + "x" * 2050},
    ],
)
async def test_bad_registration_is_refused(org: Organization, body: dict[str, Any]) -> None:
    answer = await org.rest("POST", "/registry/register", body)
    assert answer.status_code == 400
    assert answer.json()["error"]


async def test_an_id_without_a_row_gets_one_in_the_organization_of_the_caller(
    org: Organization, other_org: Organization
) -> None:
    workspace = str(uuid.uuid4())
    answer = await register(org, workspace, delivery_mode="poll")
    assert len(answer.json()["auth_token"]) == 43
    row = (await org.rest("GET", f"/workspaces/{workspace}")).json()
    assert (row["name"], row["runtime"], row["organization_id"]) == (workspace, "external", org.id)
    assert (await register(other_org, workspace)).status_code == 404


async def test_nobody_registers_for_somebody_else(org: Organization, stranger: Party) -> None:
    agent, other = await org.hire(), await org.hire()
    missing = (401, {"error": "missing workspace auth token"})
    for workspace in (agent.id, str(uuid.uuid4())):
        assert told(await register(stranger, workspace)) == missing
    invalid = (401, {"error": "invalid workspace auth token"})
    assert told(await register(other, agent.id)) == invalid
    assert told(await register(org.wire.party("x" * 43), agent.id)) == invalid
    assert told(await other.rest("POST", "/registry/heartbeat", {"workspace_id": agent.id})) == (
        invalid
    )


async def test_a_removed_workspace_is_not_brought_back(org: Organization) -> None:
    agent = await org.hire()
    await org.rest("DELETE", f"/workspaces/{agent.id}")
    for party in (org, agent):
        assert (await register(party, agent.id)).status_code == 410
    await until_refused(agent, f"/workspaces/{agent.id}/tokens")
    assert (await beat(agent)).status_code == 401
    for request in (
        pb.RegisterRequest(id=agent.id, agent_card=Value(string_value="x")),
        pb.HeartbeatRequest(workspace_id=agent.id),
    ):
        with pytest.raises(Refused) as caught:
            await org.rpc(request)
        assert (caught.value.code, caught.value.reason) == ("NOT_FOUND", "WORKSPACE_REMOVED")


async def test_a_bare_heartbeat_brings_the_agent_online(org: Organization) -> None:
    agent = await org.hire()
    answer = await beat(agent)
    code, body = told(answer)
    assert len(body.pop("platform_inbound_secret")) == 43
    assert (code, body) == (200, {"status": "ok", "workspace_status": "online"})
    assert '"status":"ok"' in answer.text


async def test_error_rate_degrades_and_recovers(org: Organization) -> None:
    agent = await org.hire()
    await beat(agent)
    for rate, expected in ((0.5, "degraded"), (0.3, "degraded"), (0.05, "online")):
        await beat(agent, error_rate=rate, sample_error="boom")
        assert await status(org, agent) == expected
    await beat(agent, runtime_state="wedged", error_rate=0.0)
    assert await status(org, agent) == "degraded"


async def test_a_heartbeat_stores_what_it_reports(org: Organization) -> None:
    agent = await org.hire()
    body = {
        "error_rate": 0.25,
        "sample_error": "timeout\x00",
        "active_tasks": 2,
        "uptime_seconds": 120,
        "current_task": "reading",
        "monthly_spend": 1234.0,
        "runtime_metadata": {"capabilities": {"heartbeat": True}, "idle_timeout_seconds": 9},
        "unheard_of": 1,
    }
    assert (await beat(agent, **body)).status_code == 200
    answer = await org.rest("GET", f"/workspaces/{agent.id}")
    row = answer.json()
    assert row["last_error_rate"] == 0.25
    assert row["last_sample_error"] == "timeout"
    assert (row["active_tasks"], row["current_task"]) == (2, "reading")
    assert row["monthly_spend"] == 1234
    assert '"uptime_seconds":120' in answer.text
    assert row["last_heartbeat_at"].endswith("Z")
    await beat(agent, monthly_spend=0, active_tasks=0, current_task="")
    text = (await org.rest("GET", f"/workspaces/{agent.id}")).text
    assert '"monthly_spend":1234' in text
    assert '"active_tasks":0' in text
    assert '"current_task":""' in text


@pytest.mark.parametrize(
    "field", ["error_rate", "active_tasks", "uptime_seconds", "monthly_spend", "current_task"]
)
async def test_a_heartbeat_of_the_wrong_type_is_refused(org: Organization, field: str) -> None:
    agent = await org.hire()
    assert (await beat(agent, **{field: {"a": 1}})).status_code == 400
    assert await status(org, agent) == "awaiting_agent"


async def test_a_heartbeat_of_nobody_is_told_apart(org: Organization) -> None:
    """R-4.4: an agent whose row was purged hears that, instead of `ok` for ever."""
    with pytest.raises(Refused) as caught:
        await org.rpc(pb.HeartbeatRequest(workspace_id=str(uuid.uuid4())))
    assert (caught.value.code, caught.value.reason) == ("NOT_FOUND", "WORKSPACE_NOT_FOUND")


async def test_heartbeats_at_once_are_all_kept(org: Organization) -> None:
    agents = [await org.hire() for _ in range(8)]
    answers = await asyncio.gather(
        *(
            agent.rpc(pb.HeartbeatRequest(workspace_id=agent.id, active_tasks=n))
            for n, agent in enumerate(agents)
            for _ in range(10)
        )
    )
    assert {answer.status for answer in answers} == {"ok"}
    rows = {row["id"]: row for row in (await org.rest("GET", "/workspaces")).json()}
    assert [rows[agent.id]["active_tasks"] for agent in agents] == list(range(8))


async def test_an_updated_card_is_what_peers_see(org: Organization) -> None:
    agent, peer = await org.hire(), await org.hire()
    card = {"name": "n", "nested": {"list": [1, 2.5, None, "é", []]}, "n": 12345678901}
    body = {"workspace_id": agent.id, "agent_card": card}
    answer = await agent.rest("POST", "/registry/update-card", body)
    assert told(answer) == (200, {"status": "updated"})
    peers = (await peer.rest("GET", f"/registry/{peer.id}/peers")).json()
    assert [one["agent_card"] for one in peers] == [card]


async def test_the_deepest_card_that_is_taken_can_be_read_everywhere(org: Organization) -> None:
    agent, peer = await org.hire(), await org.hire()
    card: Any = 1
    for _ in range(32):
        card = {"a": card}
    body = {"workspace_id": agent.id, "agent_card": card}
    assert (await agent.rest("POST", "/registry/update-card", body)).status_code == 200
    rows = {row["id"]: row for row in (await org.rest("GET", "/workspaces")).json()}
    assert rows[agent.id]["agent_card"] == card
    assert len((await org.rpc(pb.ListWorkspacesRequest())).workspaces) == 2
    assert len((await peer.rpc(pb.ListPeersRequest(workspace_id=peer.id))).peers) == 1
    deeper = await agent.rest("POST", "/registry/update-card", {**body, "agent_card": [[card]]})
    assert deeper.status_code == 400
    large = {**body, "agent_card": "x" * 300_000}
    assert (await agent.rest("POST", "/registry/update-card", large)).status_code == 413


async def test_peers_are_a_bare_array(org: Organization) -> None:
    lead = await org.hire("lead")
    assert (await lead.rest("GET", f"/registry/{lead.id}/peers")).text == "[]"
    worker = await org.hire("worker", parent_id=lead.id)
    [row] = (await lead.rest("GET", f"/registry/{lead.id}/peers")).json()
    assert row == {
        "id": worker.id, "name": "worker", "role": "", "tier": 3, "status": "awaiting_agent",
        "url": "", "parent_id": lead.id, "active_tasks": 0, "agent_card": None,
    }  # fmt: skip
    assert (await lead.rest("GET", f"/registry/{lead.id}/peers", q="WORK")).json() == [row]
    assert (await lead.rest("GET", f"/registry/{lead.id}/peers", q="_")).json() == []
    assert (await worker.rest("GET", f"/registry/{lead.id}/peers")).status_code == 401


async def discover(party: Party, target: str, caller: str = "") -> httpx.Response:
    headers = {**party.headers, **({"x-workspace-id": caller} if caller else {})}
    return await party.wire.http.get(f"/registry/discover/{target}", headers=headers)


async def test_discovery_tells_where_a_peer_listens(org: Organization) -> None:
    agent, peer = await org.hire(), await org.hire("peer", role="does it")
    await register(peer, peer.id, delivery_mode="push", url=URL)
    expected = {
        "id": peer.id, "url": URL, "name": "peer", "status": "online", "role": "does it",
    }  # fmt: skip
    assert told(await discover(agent, peer.id, agent.id)) == (200, expected)
    assert told(await discover(org, peer.id, agent.id)) == (200, expected)
    await register(peer, peer.id, delivery_mode="poll")
    assert (await discover(agent, peer.id, agent.id)).json()["url"] == ""
    found = await agent.rpc(pb.DiscoverRequest(target_id=peer.id))
    assert (found.id, found.url) == (peer.id, "")


async def test_discovery_refuses(
    org: Organization, other_org: Organization, stranger: Party
) -> None:
    """400 nobody asks, 401 somebody else's id, 403 cousins, 404 unknown or foreign, 503 away."""
    root, other_root = await org.hire(), await org.hire()
    cousin = await org.hire(parent_id=root.id)
    foreign = await other_org.hire()
    expected = (400, {"error": "X-Workspace-ID header is required"})
    for party in (org, root, stranger, org.wire.party("wrong")):
        assert told(await discover(party, root.id)) == expected
    for unknown in (stranger, org.wire.party("wrong")):
        assert (await discover(unknown, root.id, root.id)).status_code == 401
    assert (await discover(org, root.id, "not-a-uuid")).status_code == 400
    assert (await discover(root, other_root.id, other_root.id)).status_code == 401
    denied = await discover(cousin, other_root.id, cousin.id)
    assert told(denied) == (
        403,
        {"error": "access denied: workspaces cannot communicate per hierarchy rules"},
    )
    for target in (foreign.id, str(uuid.uuid4())):
        assert told(await discover(root, target, root.id)) == (
            404,
            {"error": "workspace not found"},
        )
    assert (await discover(org, root.id, foreign.id)).status_code == 404
    failed = await org.rest("POST", "/workspaces", {"name": "no backend"})
    away = await discover(root, failed.json()["id"], root.id)
    assert told(away) == (503, {"error": "workspace is failed", "status": "failed"})


async def test_who_may_talk_is_told_within_the_organisation(
    org: Organization, other_org: Organization, stranger: Party, operator: Party
) -> None:
    """Any token of the organisation may ask; a workspace outside reads like an unknown id."""
    root, other = await org.hire(), await org.hire()
    child, foreign = await org.hire(parent_id=root.id), await other_org.hire()
    friend = await other_org.hire()

    async def may(party: Party, one: str, another: str) -> tuple[int, Any]:
        body = {"caller_id": one, "target_id": another}
        return told(await party.rest("POST", "/registry/check-access", body))

    for one, another, allowed in (
        (root.id, other.id, True),
        (root.id, child.id, True),
        (child.id, other.id, False),
        (root.id, foreign.id, False),
        (root.id, str(uuid.uuid4()), False),
        (friend.id, foreign.id, False),
    ):
        for party in (child, org):
            assert await may(party, one, another) == (200, {"allowed": allowed})
            assert await may(party, another, one) == (200, {"allowed": allowed})
    assert await may(operator, friend.id, foreign.id) == (200, {"allowed": True})
    assert (await may(org, "x", root.id))[0] == 400
    for ids in ((root.id, other.id), (root.id, str(uuid.uuid4())), ("x", "y")):
        assert (await may(stranger, *ids))[0] == 401


@pytest.mark.parametrize(
    "url",
    [
        "http://8.8.8.8/secret?x=", "http://8.8.8.8/secret#", "http://[fd00:ec2::254]/",
        "http://[fd20:ce::254]/", "http://168.63.129.16/", "http://[::ffff:0:169.254.169.254]/",
    ],
)  # fmt: skip
async def test_an_agent_cannot_point_the_platform_at_something_else(
    org: Organization, url: str
) -> None:
    """Neither at another path of its own host, nor at the metadata of the platform's machine."""
    agent = await org.hire()
    body = {"id": agent.id, "url": url, "delivery_mode": "push", "agent_card": {}}
    answer = await agent.rest("POST", "/registry/register", body)
    assert (answer.status_code, "url" in answer.json()["error"]) == (400, True)
