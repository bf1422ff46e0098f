"""What operators see and do, and that nobody else does."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from moleculeai.admin.v1 import admin_service_pb2 as pb

from tests.e2e.parties import Agent, Organization, Party, Refused, found, until_refused, wire_to
from tests.running import RunningServer

STATUSES = {"queued", "dispatched", "in_progress", "completed", "failed", "stuck"}


def told(answer: httpx.Response) -> tuple[int, Any]:
    """Status and body."""
    return answer.status_code, answer.json()


async def test_health_is_open(stranger: Party) -> None:
    answer = await stranger.rest("GET", "/health")
    assert (answer.status_code, answer.text) == (200, '{"status":"ok"}')


async def test_liveness_names_every_background_task(operator: Party, org: Organization) -> None:
    subsystems = (await operator.rest("GET", "/admin/liveness")).json()["subsystems"]
    assert "liveness-sweep" in subsystems
    sweep = subsystems["liveness-sweep"]
    assert sweep.keys() >= {"last_tick_at", "seconds_ago", "interval_seconds", "stale", "failures"}
    assert (sweep["stale"], sweep["failures"], sweep["interval_seconds"]) == (False, 0, 15)
    assert told(await org.rest("GET", "/admin/liveness")) == (
        401,
        {"error": "invalid admin auth token"},
    )


async def test_a_slug_belongs_to_one_organization(operator: Party) -> None:
    slug = f"o-{uuid.uuid4().hex[:12]}"
    made = await operator.rest("POST", "/admin/organizations", {"slug": slug})
    assert (made.status_code, made.json()["name"]) == (201, slug)
    again = await operator.rest("POST", "/admin/organizations", {"slug": slug, "name": "x"})
    assert again.status_code == 409
    with pytest.raises(Refused) as caught:
        await operator.rpc(pb.CreateOrganizationRequest(slug=slug))
    assert (caught.value.code, caught.value.reason) == ("ALREADY_EXISTS", "ORGANIZATION_EXISTS")
    listed = (await operator.rest("GET", "/admin/organizations")).json()
    assert listed[0]["slug"] == "default"
    assert [one["id"] for one in listed if one["slug"] == slug] == [made.json()["id"]]


@pytest.mark.parametrize("slug", ["", "-a", "a-", "A", "a b", "a" * 64, "é"])
async def test_what_is_no_slug_is_refused(operator: Party, slug: str) -> None:
    answer = await operator.rest("POST", "/admin/organizations", {"slug": slug})
    assert answer.status_code == 400


async def test_an_org_token_administers_its_organization_only(
    org: Organization, other_org: Organization
) -> None:
    made = await org.rest("POST", "/org/tokens", {"name": "ci"})
    assert made.status_code == 200
    body = made.json()
    assert body.keys() == {
        *("id", "prefix", "name", "auth_token", "warning", "organization_id", "read_only")
    }
    assert (body["name"], body["organization_id"]) == ("ci", org.id)
    assert body["prefix"] == body["auth_token"][:8]
    listed = (await org.rest("GET", "/org/tokens")).json()
    assert listed["count"] == len(listed["tokens"]) == 2
    assert listed["tokens"][0]["name"] == "ci"
    assert listed["tokens"][0]["created_by"] == f"org-token:{listed['tokens'][1]['prefix']}"
    assert listed["tokens"][1]["created_by"] == "admin-token"
    for target in (other_org.id, str(uuid.uuid4())):
        crossed = await org.rest("POST", "/org/tokens", {"organization_id": target})
        assert told(crossed) == (404, {"error": "organization not found"})
    foreign = await other_org.rest("DELETE", f"/org/tokens/{body['id']}")
    assert told(foreign) == (404, {"error": "token not found"})


async def test_a_revoked_org_token_is_refused_at_once(org: Organization) -> None:
    body = (await org.rest("POST", "/org/tokens")).json()
    second = org.wire.party(body["auth_token"])
    assert (await second.rest("GET", "/workspaces")).status_code == 200
    revoked = await org.rest("DELETE", f"/org/tokens/{body['id']}")
    assert told(revoked) == (200, {"revoked": body["id"]})
    await until_refused(second, "/workspaces")
    assert (await org.rest("DELETE", f"/org/tokens/{body['id']}")).status_code == 404


async def test_the_operator_mints_for_organizations_that_exist(operator: Party) -> None:
    answer = await operator.rest("POST", "/org/tokens", {"organization_id": str(uuid.uuid4())})
    assert told(answer) == (404, {"error": "organization not found"})


async def test_a_test_token_works_where_the_installation_allows_it(
    org: Organization, operator: Party
) -> None:
    agent = await org.hire()
    path = f"/admin/workspaces/{agent.id}/test-token"
    answer = await operator.rest("GET", path)
    assert answer.json().keys() == {"auth_token", "workspace_id"}
    party = org.wire.party(answer.json()["auth_token"])
    assert (await party.rest("GET", f"/workspaces/{agent.id}/state")).status_code == 200
    assert (await org.rest("GET", path)).status_code == 401
    await org.rest("DELETE", f"/workspaces/{agent.id}")
    assert (await operator.rest("GET", path)).status_code == 404


async def test_test_tokens_are_off_by_default(own_server: Callable[..., RunningServer]) -> None:
    running = own_server(MOLECULE_ENABLE_TEST_TOKENS="")
    async with wire_to(running) as wire:
        operator = wire.party(running.admin_token)
        agent = await (await found(wire, operator)).hire()
        answer = await operator.rest("GET", f"/admin/workspaces/{agent.id}/test-token")
        assert told(answer) == (404, {"error": "not found"})


async def test_stats_of_an_empty_ledger_name_all_six(org: Organization) -> None:
    """D21: six keys, zeros included."""
    answer = await org.rest("GET", "/admin/delegations/stats")
    assert told(answer) == (200, dict.fromkeys(STATUSES, 0))


async def delegated(agent: Agent, target: Agent, task: str) -> str:
    answer = await agent.rest(
        "POST", f"/workspaces/{agent.id}/delegate", {"target_id": target.id, "task": task}
    )
    assert answer.status_code == 202, answer.text
    return str(answer.json()["delegation_id"])


async def ended(agent: Agent, delegation: str, **fields: str) -> None:
    path = f"/workspaces/{agent.id}/delegations/{delegation}/update"
    answer = await agent.rest("POST", path, fields)
    assert answer.status_code == 200, answer.text


async def test_the_ledger_is_shown_by_filter_newest_first(
    org: Organization, other_org: Organization, operator: Party
) -> None:
    """D20: in flight by default, four filters, and nothing of another organisation."""
    lead, worker = await org.hire(), await org.hire()
    first, second, done, failed = [await delegated(lead, worker, f"task {n}") for n in range(4)]
    await ended(worker, done, status="completed", response_preview="the result")
    await ended(worker, failed, status="failed", error="it broke")

    async def listed(party: Party, **params: Any) -> list[str]:
        answer = (await party.rest("GET", "/admin/delegations", **params)).json()
        assert answer["count"] == len(answer["delegations"])
        return [row["delegation_id"] for row in answer["delegations"]]

    assert await listed(org) == await listed(org, status="in_flight") == [second, first]
    assert await listed(org, limit=1) == [second]
    assert await listed(org, status="completed") == [done]
    assert await listed(org, status="failed") == [failed]
    assert await listed(org, status="stuck") == []
    assert await listed(other_org) == []
    assert {first, second} <= set(await listed(operator, limit=1000))
    answer = (await org.rest("GET", "/admin/delegations", status="completed")).json()
    assert (answer["status"], answer["limit"]) == ("completed", 100)
    [row] = answer["delegations"]
    assert (row["caller_id"], row["callee_id"]) == (lead.id, worker.id)
    assert (row["task_preview"], row["result_preview"]) == ("task 2", "the result")
    assert "error_detail" not in row
    stats = (await org.rest("GET", "/admin/delegations/stats")).json()
    assert stats == {**dict.fromkeys(STATUSES, 0), "queued": 2, "completed": 1, "failed": 1}


async def test_an_unknown_filter_is_answered_with_those_that_exist(org: Organization) -> None:
    """D20."""
    answer = await org.rest("GET", "/admin/delegations", status="lost")
    assert told(answer) == (
        400,
        {
            "error": "unknown status filter",
            "allowed": ["in_flight", "stuck", "failed", "completed"],
            "requested_status": "lost",
        },
    )


@pytest.mark.parametrize("limit", [0, -1, 1001])
async def test_a_limit_out_of_range_is_refused(org: Organization, limit: int) -> None:
    """D20: 1..1000, and no other."""
    answer = await org.rest("GET", "/admin/delegations", limit=limit)
    assert told(answer) == (400, {"error": "limit must be 1..1000"})
    assert (await org.rest("GET", "/admin/delegations", limit=1000)).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/admin/delegations",
        "/admin/delegations/stats",
        "/admin/liveness",
        "/admin/organizations",
        "/org/tokens",
        "/admin/workspaces/01900000-0000-7000-8000-000000000000/test-token",
    ],
)
async def test_without_credentials_there_is_nothing_to_see(
    stranger: Party, org: Organization, path: str
) -> None:
    """W55, D22: 401 through the real router, with and without a workspace's token."""
    assert told(await stranger.rest("GET", path)) == (401, {"error": "admin auth required"})
    agent = await org.hire()
    assert told(await agent.rest("GET", path)) == (401, {"error": "invalid admin auth token"})
