"""A workspace's life, as REST and gRPC clients see it."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from moleculeai.workspace.v1 import workspace_service_pb2 as pb

from tests.e2e.parties import Organization, Party, Refused, found, until_refused, wire_to
from tests.running import RunningServer

PRIVATE = {"current_task", "last_sample_error", "workspace_dir", "budget_limit", "monthly_spend"}
GONE = {"error": "workspace not found"}


def told(answer: httpx.Response) -> tuple[int, Any]:
    """Status and body."""
    return answer.status_code, answer.json()


async def test_external_without_url_is_told_how_to_connect(
    org: Organization, server: RunningServer
) -> None:
    answer = await org.rest("POST", "/workspaces", {"name": "a", "external": True, "tier": 2})
    assert answer.status_code == 201
    body = answer.json()
    connection = body.pop("connection")
    workspace = body.pop("id")
    assert body == {
        "status": "awaiting_agent",
        "external": True,
        "awareness_namespace": f"workspace:{workspace}",
        "workspace_access": "none",
        "initial_memories": 0,
        "last_sample_error": "",
    }
    token = connection.pop("auth_token")
    assert len(token) == 43
    addresses = {
        "workspace_id": workspace,
        "platform_url": server.url,
        "registry_endpoint": f"{server.url}/registry/register",
        "heartbeat_endpoint": f"{server.url}/registry/heartbeat",
    }
    assert {name: connection.pop(name) for name in addresses} == addresses
    # The rest are texts for one runtime each, which tests/e2e/test_connect.py runs.
    assert "curl_register_template" in connection


async def test_connection_names_the_host_by_which_the_caller_came(org: Organization) -> None:
    headers = {**org.headers, "host": "agents.example:8443"}
    answer = await org.wire.http.post(
        "/workspaces", json={"name": "a", "external": True}, headers=headers
    )
    assert answer.json()["connection"]["platform_url"] == "http://agents.example:8443"


async def test_external_with_url_is_online_at_once(org: Organization) -> None:
    body = {"name": "a", "runtime": "external", "url": "http://93.184.216.34:9/a2a"}
    answer = await org.rest("POST", "/workspaces", body)
    assert answer.status_code == 201
    assert answer.json()["status"] == "online"
    assert "connection" not in answer.json()
    [row] = (await org.rest("GET", "/workspaces")).json()
    assert (row["url"], row["delivery_mode"]) == ("http://93.184.216.34:9/a2a", "push")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": "a\nb"},
        {"name": "a{b}"},
        {"name": "x" * 256},
        {"name": "a", "role": "r" * 1001},
        {"name": "a", "runtime": "r\nx"},
        {"name": "a", "parent_id": "not-a-uuid"},
        {"name": "a", "parent_id": str(uuid.uuid4())},
        {"name": "a", "external": True, "url": "http://10.0.0.1"},
        {"name": "a", "external": True, "url": "http://user:pw@93.184.216.34"},
        {"name": "a", "canvas": {"x": "NaN", "y": 0}},
        {"name": "a", "tier": -1},
    ],
)
async def test_what_cannot_be_a_workspace_is_refused_and_leaves_nothing(
    org: Organization, body: dict[str, Any]
) -> None:
    answer = await org.rest("POST", "/workspaces", body)
    assert answer.status_code == 400
    assert answer.json()["error"]
    assert (await org.rest("GET", "/workspaces")).json() == []


async def test_without_a_backend_the_answer_and_the_list_say_failed_and_why(
    org: Organization,
) -> None:
    answer = await org.rest("POST", "/workspaces", {"name": "a", "runtime": "hermes"})
    assert (answer.status_code, answer.json()["status"]) == (201, "failed")
    [row] = (await org.rest("GET", "/workspaces")).json()
    assert row["last_sample_error"] == "no compute backend is configured on this server"
    assert row["tier"] == 3


async def test_a_name_belongs_to_one_live_sibling(org: Organization) -> None:
    first = await org.hire("same")
    answer = await org.rest("POST", "/workspaces", {"name": "same", "external": True})
    assert answer.status_code == 409
    with pytest.raises(Refused) as caught:
        await org.rpc(pb.CreateWorkspaceRequest(name="same"))
    assert (caught.value.code, caught.value.reason) == ("ALREADY_EXISTS", "WORKSPACE_NAME_TAKEN")
    await org.hire("same", parent_id=first.id)


async def test_list_is_a_bare_array_of_the_own_organization_oldest_first(
    org: Organization, other_org: Organization, operator: Party
) -> None:
    assert (await org.rest("GET", "/workspaces")).json() == []
    ids = [(await org.hire(name)).id for name in ("c", "a", "b")]
    await other_org.hire("foreign")
    removed = await org.hire("removed")
    await org.rest("DELETE", f"/workspaces/{removed.id}")
    assert [row["id"] for row in (await org.rest("GET", "/workspaces")).json()] == ids
    everything = (await operator.rest("GET", "/workspaces")).json()
    assert {row["organization_id"] for row in everything} >= {org.id, other_org.id}
    page = (await org.rest("GET", "/workspaces", limit=1, after=ids[0])).json()
    assert [row["id"] for row in page] == [ids[1]]


async def test_list_row_prints_what_scripts_grep_for(org: Organization) -> None:
    await org.hire("a")
    text = (await org.rest("GET", "/workspaces")).text
    for literal in (
        '"agent_card":null',
        '"active_tasks":0',
        '"last_error_rate":0',
        '"uptime_seconds":0',
        '"current_task":""',
        '"max_concurrent_tasks":1',
        '"monthly_spend":0',
        '"x":0',
        '"collapsed":false',
    ):
        assert literal in text


async def test_a_workspace_reads_itself_whole_and_its_peers_at_a_glance(
    org: Organization,
) -> None:
    one, other = await org.hire("one"), await org.hire("other")
    own = (await one.rest("GET", f"/workspaces/{one.id}")).json()
    glance = (await one.rest("GET", f"/workspaces/{other.id}")).json()
    assert own.keys() >= {"current_task", "monthly_spend"}
    assert not glance.keys() & PRIVATE
    assert glance["name"] == "other"


async def test_strangers_read_no_workspace(org: Organization, stranger: Party) -> None:
    agent = await org.hire()
    expected = (401, {"error": "missing workspace auth token"})
    for workspace in (agent.id, str(uuid.uuid4())):
        assert told(await stranger.rest("GET", f"/workspaces/{workspace}")) == expected
        assert told(await stranger.rest("GET", f"/workspaces/{workspace}/state")) == expected


async def test_what_is_foreign_reads_like_what_is_not_there(
    org: Organization, other_org: Organization
) -> None:
    ours, theirs = await org.hire(), await other_org.hire()
    for party in (org, ours):
        for workspace in (theirs.id, str(uuid.uuid4())):
            assert told(await party.rest("GET", f"/workspaces/{workspace}")) == (404, GONE)
    for method, path, body in (
        ("DELETE", "", None),
        ("PATCH", "", {"name": "x"}),
        ("GET", "/tokens", None),
        ("POST", "/tokens", None),
        ("GET", "/external/connection", None),
        ("POST", "/external/rotate", None),
    ):
        for workspace in (theirs.id, str(uuid.uuid4())):
            answer = await org.rest(method, f"/workspaces/{workspace}{path}", body)
            assert told(answer) == (404, GONE)
    assert (await theirs.rest("GET", f"/workspaces/{theirs.id}")).status_code == 200


async def test_an_organization_creates_in_itself_only(
    org: Organization, other_org: Organization, operator: Party
) -> None:
    for target in (other_org.id, str(uuid.uuid4())):
        answer = await org.rest("POST", "/workspaces", {"name": "a", "organization_id": target})
        assert told(answer) == (404, {"error": "organization not found"})
    made = await operator.rest(
        "POST", "/workspaces", {"name": "by the operator", "organization_id": org.id}
    )
    assert made.status_code == 201
    [row] = (await org.rest("GET", "/workspaces")).json()
    assert row["id"] == made.json()["id"]


async def test_removed_workspace_answers_410_with_when_and_what_to_do(org: Organization) -> None:
    agent = await org.hire()
    await org.rest("DELETE", f"/workspaces/{agent.id}")
    for party in (org, agent):
        answer = await party.rest("GET", f"/workspaces/{agent.id}")
        assert answer.status_code == 410
        assert answer.json().keys() == {"error", "id", "removed_at", "hint"}
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]{8}(\.\d+)?Z", answer.json()["removed_at"])
        assert answer.json()["id"] == agent.id
    with pytest.raises(Refused) as caught:
        await org.rpc(pb.GetWorkspaceRequest(workspace_id=agent.id))
    assert (caught.value.code, caught.value.reason) == ("NOT_FOUND", "WORKSPACE_REMOVED")
    kept = await org.rest("GET", f"/workspaces/{agent.id}", include_removed="true")
    assert (kept.status_code, kept.json()["status"]) == (200, "removed")


async def test_state_tells_an_agent_to_go_on_or_to_stop(org: Organization) -> None:
    """Q4: the agent of a removed workspace hears 404 `deleted`, although its token is revoked."""
    agent, sibling = await org.hire(), await org.hire()
    path = f"/workspaces/{agent.id}/state"
    assert told(await agent.rest("GET", path)) == (
        200,
        {"workspace_id": agent.id, "status": "awaiting_agent", "paused": False, "deleted": False},
    )
    assert (await sibling.rest("GET", path)).status_code == 401
    await org.rest("DELETE", f"/workspaces/{agent.id}")
    gone = {
        "error": "workspace not found",
        "workspace_id": agent.id,
        "deleted": True,
        "status": "removed",
    }
    assert told(await agent.rest("GET", path)) == (404, gone)
    assert told(await org.rest("GET", path)) == (404, gone)
    other = str(uuid.uuid4())
    answer = await org.rest("GET", f"/workspaces/{other}/state")
    assert told(answer) == (404, {**GONE, "workspace_id": other, "deleted": True})
    assert (await agent.rest("GET", f"/workspaces/{sibling.id}/state")).status_code == 401


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
async def test_an_id_that_is_no_uuid_is_refused(org: Organization, method: str) -> None:
    answer = await org.rest(method, "/workspaces/not-a-uuid", {} if method == "PATCH" else None)
    assert answer.status_code == 400


async def test_update_changes_what_is_given(org: Organization) -> None:
    agent = await org.hire("before", role="old")
    changes = {"name": "after", "role": "", "tier": 5, "x": 100, "y": 2.5, "collapsed": True}
    answer = await agent.rest("PATCH", f"/workspaces/{agent.id}", changes)
    assert told(answer) == (200, {"status": "updated", "needs_restart": False})
    row = (await org.rest("GET", f"/workspaces/{agent.id}")).json()
    assert {name: row[name] for name in changes} == changes
    await agent.rest("PATCH", f"/workspaces/{agent.id}", {"collapsed": False})
    row = (await org.rest("GET", f"/workspaces/{agent.id}")).json()
    assert (row["name"], row["x"], row["collapsed"]) == ("after", 100, False)


async def test_null_parent_makes_a_root_and_null_directory_clears_it(org: Organization) -> None:
    root = await org.hire("root")
    child = await org.hire("child", parent_id=root.id)
    path = f"/workspaces/{child.id}"
    assert (await org.rest("GET", path)).json()["parent_id"] == root.id
    mounted = await org.rest("PATCH", path, {"workspace_dir": "/srv/x"})
    assert mounted.json()["needs_restart"] is True
    answer = await org.rest("PATCH", path, {"parent_id": None, "workspace_dir": None})
    assert answer.json()["needs_restart"] is True
    row = (await org.rest("GET", path)).json()
    assert not row.keys() & {"parent_id", "workspace_dir"}


async def test_a_workspace_cannot_move_below_itself(org: Organization) -> None:
    root = await org.hire("root")
    child = await org.hire("child", parent_id=root.id)
    answer = await org.rest("PATCH", f"/workspaces/{root.id}", {"parent_id": child.id})
    assert told(answer) == (400, {"error": "a workspace cannot move below itself"})


async def test_removing_with_children_wants_a_confirmation(org: Organization) -> None:
    """W18: a team is a workspace with children; they are listed before they go."""
    root = await org.hire("root")
    child = await org.hire("child", parent_id=root.id)
    path = f"/workspaces/{root.id}"
    status, body = told(await org.rest("DELETE", path))
    assert status == 409
    assert body.pop("message")
    assert body == {
        "status": "confirmation_required",
        "cascade_deleted": 0,
        "children": [{"id": child.id, "name": "child"}],
        "children_count": 1,
    }
    asked = await org.rpc(pb.DeleteWorkspaceRequest(workspace_id=root.id))
    assert asked.status == "confirmation_required"
    status, body = told(await org.rest("DELETE", path, confirm="true"))
    assert (status, body["status"], body["cascade_deleted"]) == (200, "removed", 1)
    await until_refused(child, f"/registry/{child.id}/peers")
    again = await org.rest("DELETE", path)
    assert (again.status_code, again.json()["status"]) == (200, "removed")
    purged = await org.rest("DELETE", path, purge="true")
    assert (purged.json()["status"], purged.json()["cascade_deleted"]) == ("purged", 1)
    assert told(await org.rest("GET", path)) == (404, GONE)


async def test_what_was_removed_from_the_product_is_not_there(org: Organization) -> None:
    """W14: no expand, no shared context; neither as a path nor as an RPC."""
    agent = await org.hire()
    assert (await org.rest("POST", f"/workspaces/{agent.id}/expand", {})).status_code == 404
    assert (await org.rest("GET", f"/workspaces/{agent.id}/shared-context")).status_code == 404
    [service] = pb.DESCRIPTOR.services_by_name.values()
    assert not [name for name in service.methods_by_name if "Expand" in name or "Context" in name]


async def test_only_administrators_create_list_and_remove(
    org: Organization, stranger: Party
) -> None:
    agent = await org.hire()
    for party, text in ((stranger, "admin auth required"), (agent, "invalid admin auth token")):
        for method, path in (
            ("POST", "/workspaces"),
            ("GET", "/workspaces"),
            ("DELETE", f"/workspaces/{agent.id}"),
        ):
            body = {"name": "a"} if method == "POST" else None
            assert told(await party.rest(method, path, body)) == (401, {"error": text})


async def test_public_view_is_stripped_and_open_registration_mints_one_token(
    own_server: Callable[..., RunningServer],
) -> None:
    running = own_server(
        MOLECULE_PUBLIC_WORKSPACE_VIEW="1",
        MOLECULE_OPEN_REGISTRATION="1",
        EXTERNAL_PLATFORM_URL="https://agents.example/",
    )
    async with wire_to(running) as wire:
        stranger = wire.party()
        org = await found(wire, wire.party(running.admin_token))
        agent = await org.hire()
        shown = await org.rest("GET", f"/workspaces/{agent.id}/external/connection")
        assert shown.json()["connection"]["platform_url"] == "https://agents.example"
        row = (await stranger.rest("GET", f"/workspaces/{agent.id}")).json()
        assert row["id"] == agent.id
        assert not row.keys() & PRIVATE
        body = {"id": agent.id, "agent_card": {}, "delivery_mode": "poll"}
        taken = await stranger.rest("POST", "/registry/register", body)
        assert told(taken) == (401, {"error": "missing workspace auth token"})
        [token] = (await org.rest("GET", f"/workspaces/{agent.id}/tokens")).json()["tokens"]
        await org.rest("DELETE", f"/workspaces/{agent.id}/tokens/{token['id']}")
        first = await stranger.rest("POST", "/registry/register", body)
        assert len(first.json()["auth_token"]) == 43
        assert (await stranger.rest("POST", "/registry/register", body)).status_code == 401
