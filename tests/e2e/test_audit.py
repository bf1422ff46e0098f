"""The audit log: entries name party, RPC, subject, outcome and reason of acts and refusals."""

from __future__ import annotations

import asyncio
import ipaddress
import uuid
from typing import Any

import asyncpg
import pytest

from tests.e2e.parties import Organization, Party
from tests.running import RunningServer
from tests.waiting import until

Entry = dict[str, Any]


async def entries(party: Party, **params: Any) -> list[Entry]:
    answer = await party.rest("GET", "/admin/audit-log", limit=500, **params)
    assert answer.status_code == 200, answer.text
    found: list[Entry] = answer.json()
    return found


async def entry(reader: Party, **wanted: Any) -> Entry:
    """The newest entry with these fields, waited for."""

    async def look() -> list[Entry]:
        return [each for each in await entries(reader) if wanted.items() <= each.items()]

    return (await until(look, bool))[0]


async def test_an_act_of_the_operator_is_told_with_whom_what_and_from_where(
    operator: Party, org: Organization
) -> None:
    minted = await operator.rest("POST", "/org/tokens", {"organization_id": org.id})
    told = await entry(operator, request_id=minted.headers["x-request-id"])
    assert told["rpc"] == "AdminService/CreateOrgToken"
    assert (told["party"], told["token_prefix"]) == ("operator", "")
    assert (told["subject"], told["outcome"], told["count"]) == (minted.json()["id"], "OK", 1)
    assert told["organization_id"] == org.id
    ipaddress.ip_address(told["address"])
    assert minted.json()["auth_token"] not in str(told)


async def test_a_failed_act_is_told_with_its_reason(operator: Party) -> None:
    slug = f"o-{uuid.uuid4().hex[:12]}"
    for _ in range(2):
        await operator.rest("POST", "/admin/organizations", {"slug": slug})
    told = await entry(operator, subject=slug, outcome="ALREADY_EXISTS")
    assert told["reason"] == "ORGANIZATION_EXISTS"


async def test_an_organisation_sees_what_concerns_itself(
    operator: Party, org: Organization, other_org: Organization
) -> None:
    agent = await org.hire()
    minted = await agent.rest("POST", f"/workspaces/{agent.id}/tokens")
    await operator.rest("DELETE", f"/workspaces/{agent.id}")
    told = await entry(org, rpc="WorkspaceService/CreateToken", workspace_id=agent.id)
    assert (told["party"], told["token_prefix"]) == ("workspace", agent.token[:8])
    told = await entry(org, rpc="WorkspaceService/DeleteWorkspace", workspace_id=agent.id)
    assert (told["party"], told["organization_id"]) == ("operator", org.id)
    assert agent.id not in str(await entries(other_org))
    assert await entries(other_org, workspace_id=agent.id) == []
    for secret in (agent.token, minted.json()["auth_token"]):
        assert secret not in str(await entries(operator))


async def test_what_was_made_is_told(org: Organization) -> None:
    """A workspace and a token by their ids; a token whose id nobody is told by its beginning."""
    agent = await org.hire()
    minted = (await agent.rest("POST", f"/workspaces/{agent.id}/tokens")).json()
    newcomer = str(uuid.uuid4())
    card = {"id": newcomer, "delivery_mode": "poll", "agent_card": {}}
    registered = (await org.rest("POST", "/registry/register", card)).json()
    rotated = await org.rest("POST", f"/workspaces/{agent.id}/external/rotate")
    fresh = rotated.json()["connection"]["auth_token"]
    await entry(org, rpc="WorkspaceService/CreateWorkspace", workspace_id=agent.id)
    await entry(org, rpc="WorkspaceService/CreateToken", subject=minted["id"])
    for rpc, token in (
        ("Register", registered["auth_token"]),
        ("RotateExternalCredentials", fresh),
    ):
        told = await entry(org, rpc=f"WorkspaceService/{rpc}", subject=token[:8])
        assert token not in str(told)


async def test_an_organisation_sees_what_the_operator_does_to_it(
    operator: Party, org: Organization, other_org: Organization
) -> None:
    """Also where the request names no workspace, and where the workspace is gone afterwards."""
    boss, worker, doomed = await org.hire(), await org.hire(), await org.hire()
    minted = await operator.rest("POST", "/org/tokens", {"organization_id": org.id})
    token_id = minted.json()["id"]
    await operator.rest("DELETE", f"/org/tokens/{token_id}")
    task = {"target_id": worker.id, "task": "x"}
    delegated = await boss.rest("POST", f"/workspaces/{boss.id}/delegate", task)
    delegation_id = delegated.json()["delegation_id"]
    await operator.rest(
        "POST", f"/workspaces/{boss.id}/delegations/{delegation_id}/cancel", {"reason": "r"}
    )
    retried = await operator.rest("POST", f"/admin/delegations/{delegation_id}/retry")
    assert retried.status_code == 200, retried.text
    purged = await operator.rest("DELETE", f"/workspaces/{doomed.id}", purge="true")
    assert purged.json()["status"] == "purged"
    for rpc, subject in (
        ("AdminService/CreateOrgToken", token_id),
        ("AdminService/RevokeOrgToken", token_id),
        ("AdminService/RetryDelegation", delegation_id),
    ):
        await entry(org, party="operator", rpc=rpc, subject=subject)
    await entry(
        org, party="operator", rpc="WorkspaceService/DeleteWorkspace", workspace_id=doomed.id
    )
    elsewhere = str(await entries(other_org))
    assert [each for each in (token_id, delegation_id, doomed.id) if each in elsewhere] == []


async def test_each_thing_that_the_operator_does_as_a_workspace_is_told(
    operator: Party, org: Organization
) -> None:
    """Calls about different things are no equal calls."""
    boss, worker = await org.hire(), await org.hire()
    task = {"target_id": worker.id, "task": "x"}
    ids = set()
    for _ in range(3):
        made = (await boss.rest("POST", f"/workspaces/{boss.id}/delegate", task)).json()
        ids.add(made["delegation_id"])
        path = f"/workspaces/{boss.id}/delegations/{made['delegation_id']}/cancel"
        assert (await operator.rest("POST", path, {})).status_code == 200

    async def cancelled() -> set[str]:
        return {
            each["subject"]
            for each in await entries(org)
            if each["rpc"] == "DelegationService/CancelDelegation"
        }

    await until(cancelled, lambda told: told == ids)


async def test_who_was_refused_is_told_by_the_token(org: Organization) -> None:
    """Of a token that may not make the call, that only reads, and that was revoked."""
    agent = await org.hire()
    assert (await agent.rest("POST", "/org/tokens", {})).status_code == 401
    told = await entry(org, rpc="AdminService/CreateOrgToken", outcome="UNAUTHENTICATED")
    assert (told["party"], told["token_prefix"]) == ("workspace", agent.token[:8])

    reading = (await org.rest("POST", "/org/tokens", {"read_only": True})).json()
    reader = org.wire.party(reading["auth_token"])
    assert (await reader.rest("POST", "/org/tokens", {})).status_code == 403
    told = await entry(org, reason="READ_ONLY_TOKEN")
    assert (told["party"], told["token_prefix"]) == ("organization", reading["prefix"])

    spare = (await agent.rest("POST", f"/workspaces/{agent.id}/tokens")).json()
    await agent.rest("DELETE", f"/workspaces/{agent.id}/tokens/{spare['id']}")
    revoked = org.wire.party(spare["auth_token"])
    assert (await revoked.rest("GET", f"/registry/{agent.id}/peers")).status_code == 401
    told = await entry(org, token_prefix=spare["auth_token"][:8], outcome="UNAUTHENTICATED")
    assert (told["party"], told["workspace_id"]) == ("anonymous", agent.id)


async def test_looking_for_a_foreign_workspace_is_told(
    org: Organization, other_org: Organization
) -> None:
    agent = await org.hire()
    assert (await other_org.rest("GET", f"/workspaces/{agent.id}")).status_code == 404
    told = await entry(other_org, rpc="WorkspaceService/GetWorkspace", workspace_id=agent.id)
    assert (told["outcome"], told["reason"]) == ("NOT_FOUND", "WORKSPACE_NOT_FOUND")


async def test_equal_refusals_are_one_entry_with_a_count(
    operator: Party, org: Organization, stranger: Party
) -> None:
    agent, other = await org.hire(), await org.hire()
    wrong = operator.wire.party("w" * 43)
    calls = 20
    async with asyncio.TaskGroup() as group:
        for _ in range(calls):
            for party in (other, stranger, wrong):
                group.create_task(party.rest("GET", f"/registry/{agent.id}/peers"))

    async def counted() -> dict[str, int]:
        found = [
            each
            for each in await entries(org, workspace_id=agent.id)
            if each["outcome"] == "UNAUTHENTICATED"
        ]
        # Of a burst, part may fall into the next window.
        return {
            party: sum(each["count"] for each in found if each["party"] == party)
            for party in ("workspace", "anonymous")
        }

    assert await until(counted, lambda told: sum(told.values()) == 3 * calls) == {
        "workspace": calls,
        "anonymous": 2 * calls,
    }
    assert len(await entries(org, workspace_id=agent.id)) < calls


async def test_the_log_has_pages(operator: Party, org: Organization) -> None:
    for _ in range(3):
        await org.rest("POST", "/org/tokens", {"name": "x"})

    async def three() -> int:
        return len([each for each in await entries(org) if each["rpc"].endswith("CreateOrgToken")])

    await until(three, lambda count: count >= 3)
    seen: list[str] = []
    token = ""
    while True:
        answer = await org.rest("GET", "/admin/audit-log", limit=1, page_token=token)
        seen += [each["id"] for each in answer.json()]
        token = answer.headers.get("x-next-page-token", "")
        if not token:
            break
    assert len(seen) == len(set(seen)) == len(await entries(org))


@pytest.mark.parametrize(
    "statement",
    ["UPDATE audit_log SET party = 'x'", "DELETE FROM audit_log", "TRUNCATE audit_log"],
)
async def test_nothing_that_was_written_can_be_changed(
    operator: Party, server: RunningServer, statement: str
) -> None:
    await operator.rest("POST", "/admin/organizations", {"slug": f"o-{uuid.uuid4().hex[:12]}"})
    await entry(operator, rpc="AdminService/CreateOrganization")
    connection = await asyncpg.connect(server.database_url)
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
            await connection.execute(statement)
    finally:
        await connection.close()
