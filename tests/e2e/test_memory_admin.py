"""What operators and organisations do with memories: export, import, grants, moves, quarantine."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.api import httpbody_pb2
from moleculeai.admin.v1 import admin_service_pb2 as admin
from moleculeai.memory.v1 import memory_pb2
from moleculeai.memory.v1 import memory_service_pb2 as pb

from tests.e2e.parties import Agent, Organization, Party, Refused
from tests.waiting import PATIENCE


@pytest.fixture
async def root(org: Organization) -> Agent:
    return await org.hire("lead")


@pytest.fixture
async def child(org: Organization, root: Agent) -> Agent:
    return await org.hire("child", parent_id=root.id)


async def commit(agent: Agent, content: str, namespace: str = "", **fields: Any) -> str:
    draft = memory_pb2.MemoryDraft(content=content, namespace=namespace, **fields)
    done = await agent.rpc(pb.CommitMemoryRequest(workspace_id=agent.id, memory=draft))
    return str(done.id)


async def contents(agent: Agent, **fields: Any) -> Counter[str]:
    request = pb.SearchMemoriesRequest(workspace_id=agent.id, limit=100, **fields)
    return Counter(memory.content for memory in (await agent.rpc(request)).memories)


async def export(party: Party, **params: str) -> list[dict[str, Any]]:
    answer = await party.rest("GET", "/admin/memories/export", **params)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("application/json")
    rows = answer.json()
    assert isinstance(rows, list)
    return rows


async def test_an_export_holds_every_members_memories(
    org: Organization, root: Agent, child: Agent
) -> None:
    """M27."""
    assert await export(org) == []
    private = await commit(child, "the child's own", tags=["a"])
    team = await commit(child, "the team's", f"team:{root.id}", pinned=True)
    everywhere = await commit(root, "the organisation's", f"org:{root.id}")
    rows = {row["id"]: row for row in await export(org)}
    assert set(rows) == {private, team, everywhere}
    assert {"id", "content", "scope", "namespace", "created_at", "workspace_name"} <= set(
        rows[private]
    )
    assert (rows[private]["scope"], rows[private]["workspace_name"]) == ("LOCAL", "child")
    assert (rows[team]["scope"], rows[team]["workspace_name"]) == ("TEAM", "lead")
    assert (rows[team]["author_name"], rows[team]["pinned"]) == ("child", True)
    assert (rows[everywhere]["scope"], rows[everywhere]["workspace_name"]) == ("GLOBAL", "lead")
    assert rows[everywhere]["content"] == "the organisation's"


async def test_a_round_trip_loses_nothing_and_a_repeat_adds_nothing(
    org: Organization, root: Agent, child: Agent
) -> None:
    team, everywhere = f"team:{root.id}", f"org:{root.id}"
    for n in range(20):
        await commit(child, f"private {n}")
    await commit(child, "twice")
    await commit(child, "twice", keep_duplicate=True)
    await commit(child, "shared", team, tags=["t"], entities=["e"], kind="checkpoint")
    await commit(root, "for all", everywhere)
    before = await export(org)
    path, body = "/admin/memories/import", before
    again = await org.rest("POST", path, body)
    assert again.status_code == 200, again.text
    assert (again.json()["imported"], again.json()["total"]) == (24, 24)
    assert sorted(map(json.dumps, await export(org))) == sorted(map(json.dumps, before))
    for name in (f"workspace:{child.id}", team, everywhere):
        deleted = await org.rest("DELETE", "/admin/memories/namespaces", namespace=name)
        assert deleted.status_code == 200, deleted.text
    assert await export(org) == []
    restored = await org.rest("POST", path, body)
    assert (restored.json()["imported"], restored.json()["errors"]) == (24, 0), restored.text
    assert sorted(map(json.dumps, await export(org))) == sorted(map(json.dumps, before))


async def test_an_import_says_what_it_left_out(
    org: Organization, root: Agent, child: Agent
) -> None:
    await org.hire("twin", parent_id=root.id)
    await org.hire("twin", parent_id=child.id)
    secret = "sk-" + uuid.uuid4().hex
    rows = [
        {"content": f"old shape, {secret}", "scope": "LOCAL", "workspace_name": "child"},
        {"content": "by a child", "scope": "TEAM", "workspace_name": "child"},
        {"content": "no such", "scope": "LOCAL", "workspace_name": "nobody"},
        {"content": "which one", "scope": "LOCAL", "workspace_name": "twin"},
        {"content": "not a root", "scope": "GLOBAL", "workspace_name": "child"},
        {"content": "where to", "scope": "MOON", "workspace_name": "child"},
        {"content": "", "scope": "LOCAL", "workspace_name": "child"},
        {"content": 7, "scope": "LOCAL", "workspace_name": "child"},
    ]
    answer = await org.rest("POST", "/admin/memories/import", rows)
    done = answer.json()
    assert (done["imported"], done["skipped"], done["errors"], done["total"]) == (2, 4, 2, 8)
    reasons = {skip["index"]: skip["reason"] for skip in done["skips"]}
    assert (reasons[2], reasons[3], reasons[4], reasons[5]) == (
        "missing",
        "ambiguous",
        "scope",
        "scope",
    )
    assert set(reasons) == {2, 3, 4, 5, 6, 7}
    assert secret not in json.dumps(await export(org))
    assert "by a child" in await contents(child, namespaces=[f"team:{root.id}"])


@pytest.mark.parametrize("body", ["{}", "[1]", "[{]", "", "[{},", "nothing", "[{}]]"])
async def test_an_import_of_no_array_is_a_400(org: Organization, body: str) -> None:
    answer = await org.wire.http.post(
        "/admin/memories/import",
        content=body,
        headers={**org.headers, "content-type": "application/json"},
    )
    assert answer.status_code == 400, answer.text


async def test_a_grant_opens_a_channel_and_taking_it_back_closes_it(
    org: Organization, root: Agent, other_org: Organization
) -> None:
    other = await org.hire("elsewhere")
    name = "custom:ops-channel"
    path = f"/admin/memories/grants/{root.id}"
    made = await org.rest("PUT", path, {"namespace": name, "can_write": True})
    assert made.status_code == 200, made.text
    assert made.json()["granted_by"].startswith("org-token:")
    await org.rest("PUT", f"/admin/memories/grants/{other.id}", {"namespace": name})
    memory = await commit(root, "the pager is on the desk", name)
    header = f"[MEMORY id={memory} scope=CUSTOM ns={name}]: "
    assert await contents(other, q="pager") == Counter([header + "the pager is on the desk"])
    with pytest.raises(Refused) as refused:
        await commit(other, "I may only read", name)
    assert refused.value.reason == "NAMESPACE_NOT_WRITABLE"
    grants = (await org.rest("GET", "/admin/memories/grants", namespace=name)).json()
    assert {each["workspace_id"]: each["can_write"] for each in grants} == {
        root.id: True,
        other.id: False,
    }
    foreign = await other_org.rest("PUT", path, {"namespace": name, "can_write": True})
    assert (foreign.status_code, foreign.json()["error"]) == (404, "workspace not found")
    assert (await other_org.rest("GET", "/admin/memories/grants")).json() == []
    await other_org.rest("DELETE", f"/admin/memories/grants/{other.id}", namespace=name)
    assert await contents(other, q="pager")
    for _ in range(2):
        gone = await org.rest("DELETE", f"/admin/memories/grants/{other.id}", namespace=name)
        assert (gone.status_code, gone.json()) == (200, {"status": "deleted"})
    assert await contents(other, q="pager") == Counter()


async def test_a_namespace_moves_with_all_it_holds(
    org: Organization, root: Agent, child: Agent
) -> None:
    memory = await commit(child, "moves along", f"team:{root.id}")
    body = {"source": f"team:{root.id}", "target": f"workspace:{child.id}"}
    moved = await org.rest("POST", "/admin/memories/namespaces/move", body)
    assert (moved.status_code, moved.json()) == (200, {"moved": 1})
    assert await contents(root, q="moves along") == Counter()
    got = await child.rpc(pb.GetMemoryRequest(workspace_id=child.id, memory_id=memory))
    assert got.namespace == f"workspace:{child.id}"
    again = await org.rest("POST", "/admin/memories/namespaces/move", body)
    assert again.status_code == 404


async def test_quarantine_hides_an_author_everywhere_and_is_undone(
    org: Organization, root: Agent, child: Agent, other_org: Organization
) -> None:
    team = f"team:{root.id}"
    memory = await commit(child, "trust me", team)
    await commit(root, "a sober note", team)
    path = f"/admin/memories/quarantine/{child.id}"
    assert (await other_org.rest("PUT", path, {"reason": "envy"})).status_code == 404
    hidden = await org.rest("PUT", path, {"reason": "poisoned"})
    assert hidden.status_code == 200, hidden.text
    assert sum((await contents(root)).values()) == 1
    assert sum((await contents(child)).values()) == 1
    with pytest.raises(Refused) as missing:
        await root.rpc(pb.GetMemoryRequest(workspace_id=root.id, memory_id=memory))
    assert missing.value.reason == "MEMORY_NOT_FOUND"
    scoped = await root.rest("GET", f"/workspaces/{root.id}/memories", scope="TEAM")
    assert len(scoped.json()) == 1
    session = await root.rest("GET", f"/workspaces/{root.id}/session-search", q="trust me")
    assert session.json() == []
    assert all(row["id"] != memory for row in await export(org))
    [listed] = (await org.rest("GET", "/admin/memories/quarantine")).json()
    assert (listed["workspace_id"], listed["reason"]) == (child.id, "poisoned")
    assert (await other_org.rest("GET", "/admin/memories/quarantine")).json() == []
    assert (await org.rest("DELETE", path)).json() == {"status": "deleted"}
    assert sum((await contents(root)).values()) == 2


async def test_stats_count_ones_own(
    org: Organization, root: Agent, other_org: Organization, operator: Party
) -> None:
    await commit(root, "12345")
    await commit(root, "123", f"org:{root.id}")
    stats = (await org.rest("GET", "/admin/memories/stats")).json()
    assert (stats["namespaces"], stats["memories"], stats["bytes"]) == (2, 2, 8)
    assert {each["namespace"]: each["bytes"] for each in stats["largest"]} == {
        f"workspace:{root.id}": 5,
        f"org:{root.id}": 3,
    }
    assert (await other_org.rest("GET", "/admin/memories/stats")).json()["memories"] == 0
    refused = await other_org.rest("GET", "/admin/memories/stats", organization_id=org.id)
    assert refused.status_code == 404
    told = await operator.rest("GET", "/admin/memories/stats", organization_id=org.id)
    assert told.json()["memories"] == 2


async def test_a_purge_takes_private_memories_along(
    org: Organization, root: Agent, child: Agent
) -> None:
    """M32: the built-in store; teams keep theirs."""
    await commit(child, "goes with me")
    await commit(child, "stays with the team", f"team:{root.id}")
    gone = await org.rest("DELETE", f"/workspaces/{child.id}", confirm="true", purge="true")
    assert gone.status_code == 200, gone.text
    assert {row["content"] for row in await export(org)} == {"stays with the team"}
    [seen] = await contents(root)
    assert seen.endswith("]: stays with the team")


async def test_a_revoked_token_ends_an_import(org: Organization, operator: Party) -> None:
    minted = await org.rest("POST", "/org/tokens", {"name": "spare"})
    token, token_id = minted.json()["auth_token"], minted.json()["id"]
    begun = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        request = admin.ImportMemoriesRequest(body=httpbody_pb2.HttpBody(data=b"["))
        yield request.SerializeToString()
        begun.set()
        await asyncio.Event().wait()

    channel: Any = org.wire.channel
    call = channel.stream_unary("/moleculeai.admin.v1.AdminService/ImportMemories")(
        pieces(), metadata=(("authorization", f"Bearer {token}"),), timeout=PATIENCE
    )
    reading = asyncio.ensure_future(call)
    await begun.wait()
    await asyncio.sleep(0.5)
    revoked = await org.rest("DELETE", f"/org/tokens/{token_id}")
    assert revoked.status_code == 200, revoked.text
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await reading
    assert ended.value.code() is grpc.StatusCode.UNAUTHENTICATED
