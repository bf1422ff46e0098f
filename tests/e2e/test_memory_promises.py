"""What holds of memories on every path: secrets, audit, expiry, words, and a large round trip."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from moleculeai.memory.v1 import memory_pb2
from moleculeai.memory.v1 import memory_service_pb2 as pb

from tests.conftest import LONG
from tests.e2e.parties import Agent, Organization, Refused
from tests.e2e.test_memory import commit, contents, search
from tests.e2e.test_memory_admin import export
from tests.e2e.test_memory_mcp import run
from tests.waiting import until


@pytest.fixture
async def root(org: Organization) -> Agent:
    return await org.hire("lead")


@pytest.fixture
async def child(org: Organization, root: Agent) -> Agent:
    return await org.hire("child", parent_id=root.id)


def draft(text: str) -> memory_pb2.MemoryDraft:
    return memory_pb2.MemoryDraft(content=text)


async def _update(agent: Agent, text: str) -> None:
    made = await commit(agent, f"to be updated {uuid.uuid4()}")
    await agent.rpc(pb.UpdateMemoryRequest(workspace_id=agent.id, memory_id=made.id, content=text))


async def _supersede(agent: Agent, text: str) -> None:
    made = await commit(agent, f"to be replaced {uuid.uuid4()}")
    await agent.rpc(
        pb.SupersedeMemoryRequest(workspace_id=agent.id, memory_id=made.id, memory=draft(text))
    )


async def _consolidate(agent: Agent, text: str) -> None:
    ids = [(await commit(agent, f"part {uuid.uuid4()}")).id for _ in range(2)]
    await agent.rpc(
        pb.ConsolidateMemoriesRequest(workspace_id=agent.id, memory_ids=ids, memory=draft(text))
    )


async def _scoped(agent: Agent, text: str) -> None:
    path = f"/workspaces/{agent.id}/memories"
    made = await agent.rest("POST", path, {"content": text, "scope": "LOCAL"})
    assert made.status_code == 201, made.text


async def _patched(agent: Agent, text: str) -> None:
    path = f"/workspaces/{agent.id}/memories"
    body = {"content": f"before {uuid.uuid4()}", "scope": "LOCAL"}
    made = (await agent.rest("POST", path, body)).json()
    changed = await agent.rest("PATCH", f"{path}/{made['id']}", {"content": text})
    assert changed.status_code == 200, changed.text


WRITES: dict[str, Callable[[Agent, str], Awaitable[object]]] = {
    "commit": commit,
    "batch": lambda a, t: a.rpc(
        pb.BatchCommitMemoriesRequest(workspace_id=a.id, memories=[draft(t)])
    ),
    "summary": lambda a, t: a.rpc(pb.CommitSummaryRequest(workspace_id=a.id, memory=draft(t))),
    "update": _update,
    "supersede": _supersede,
    "consolidate": _consolidate,
    "scoped": _scoped,
    "scoped patch": _patched,
    "commit_memory_v2": lambda a, t: run(a, "commit_memory_v2", content=t),
    "commit_summary": lambda a, t: run(a, "commit_summary", content=t),
    "commit_memory": lambda a, t: run(a, "commit_memory", content=t),
    "tag": lambda a, t: commit(a, f"tagged {uuid.uuid4()}", tags=[t[-50:]]),
    "entity": lambda a, t: commit(a, f"named {uuid.uuid4()}", entities=[t]),
}


@pytest.mark.parametrize("way", sorted(WRITES))
async def test_no_way_in_lets_a_secret_pass(org: Organization, root: Agent, way: str) -> None:
    """M3: read back on every path, and exported."""
    secret = f"ghp_{uuid.uuid4().hex}"
    await WRITES[way](root, f"log in with {secret}")
    read = [
        str(await search(root, "")),
        (await root.rest("GET", f"/workspaces/{root.id}/memories")).text,
        (await root.rest("GET", f"/workspaces/{root.id}/session-search")).text,
        json.dumps(await run(root, "search_memory")),
        json.dumps(await export(org)),
    ]
    assert all(secret not in text for text in read)
    assert all("[REDACTED:GITHUB_TOKEN]" in text for text in (read[0], read[3], read[4]))


async def test_each_act_on_an_organisations_memory_is_one_row_of_the_record(root: Agent) -> None:
    """M5: written, edited and forgotten, from RPCs and tools, with the digest and not the text."""
    org = f"org:{root.id}"
    text = f'quotes " and \\ and {uuid.uuid4()}'
    made = await commit(root, text, org)
    await run(root, "update_memory", memory_id=made.id, content=text + " edited")
    await run(root, "forget_memory", memory_id=made.id)
    for kind in ("memory_write_global", "memory_edit_global", "memory_forget_global"):
        answer = await root.rest("GET", f"/workspaces/{root.id}/activity", type=kind)
        [row] = answer.json()
        assert (row["source_id"], row["status"]) == (root.id, "ok")
        body = row["request_body"]
        assert (body["memory_id"], body["namespace"]) == (made.id, org)
        assert len(bytes.fromhex(body["content_sha256"])) == 32
        assert body.get("reason") == ("edited" if kind == "memory_edit_global" else None)
        assert "quotes" not in answer.text


async def test_words_and_identifiers_are_found(root: Agent) -> None:
    """M7: an identifier comes first; a query of stop words alone is not empty."""
    named = await commit(root, "retries are set by max_retry_count in the worker")
    for n in range(5):
        await commit(root, f"the worker retries and retries and counts, {n}")
    await commit(root, "to be or not to be")
    assert (await search(root, "max_retry_count")).memories[0].id == named.id
    assert "to be or not to be" in await contents(root, "to be or not to be")
    assert (await search(root, "the")).memories
    # No wildcard: nothing holds the sign, so that the newest are listed instead.
    assert (await search(root, "%")).mode_used == "recent"


async def test_an_id_is_stored_once_and_never_taken(
    root: Agent, child: Agent, other_org: Organization
) -> None:
    """M12: a repeat with an id is one row; another namespace's id is refused."""
    identity = str(uuid.uuid4())
    first = await commit(root, "by id", id=identity)
    again = await commit(root, "by id", id=identity)
    assert (first.id, again.id, again.unchanged) == (identity, identity, True)
    changed = await commit(root, "by id, changed", id=identity)
    assert changed.id == identity
    assert await contents(root) == ["by id, changed"]
    with pytest.raises(Refused) as taken:
        await commit(child, "mine now", id=identity)
    assert taken.value.reason == "MEMORY_ID_TAKEN"
    stranger = await other_org.hire()
    assert (await commit(stranger, "a foreign one", id=identity)).id == identity
    assert await contents(root) == ["by id, changed"]


async def test_what_has_expired_is_on_no_path(org: Organization, root: Agent) -> None:
    """M17: hidden from reads by id, too, and from exports."""
    soon = Timestamp()
    soon.FromDatetime(datetime.now(UTC) + timedelta(seconds=1.5))
    made = await commit(root, "a short life", expires_at=soon)

    async def paths() -> list[bool]:
        get = await root.rest("GET", f"/workspaces/{root.id}/v2/memories/{made.id}")
        scoped = (await root.rest("GET", f"/workspaces/{root.id}/memories")).json()
        session = await root.rest("GET", f"/workspaces/{root.id}/session-search", q="short")
        found = (await search(root, "short life")).memories
        return [
            get.status_code == 404,
            not scoped,
            not session.json(),
            not found,
            not (await search(root, "")).memories,
            not await export(org),
        ]

    await until(paths, all)
    with pytest.raises(Refused) as gone:
        await root.rpc(pb.ForgetMemoryRequest(workspace_id=root.id, memory_id=made.id))
    assert gone.value.reason == "MEMORY_NOT_FOUND"


async def test_there_is_no_shared_context_and_a_team_shares_memories(
    org: Organization, root: Agent, child: Agent
) -> None:
    """M36."""
    answer = await root.rest("GET", f"/workspaces/{root.id}/shared-context")
    assert answer.status_code == 404
    sibling = await org.hire(parent_id=root.id)
    await commit(child, "read the runbook first", f"team:{root.id}")
    assert len(await contents(sibling, "runbook")) == 1


async def test_a_recalled_text_goes_round_and_is_stored_once(
    org: Organization, root: Agent
) -> None:
    """Ten agents commit the text that they recalled: each reads `RECALLED_TEXT`."""
    await commit(root, "pass it on", f"org:{root.id}")
    for _ in range(10):
        agent = await org.hire(parent_id=root.id)
        [recalled] = await contents(agent, "pass it on")
        with pytest.raises(Refused) as refused:
            await commit(agent, recalled, f"team:{root.id}")
        assert refused.value.reason == "RECALLED_TEXT"
    assert len(await export(org)) == 1


# Several pages of an export, and several batches of an import.
_MOVED = 10_001 if LONG else 3_001


@pytest.mark.slow
async def test_thousands_of_memories_over_three_roots_come_back_as_they_were(
    org: Organization,
) -> None:
    """M25: exported, deleted, imported, exported: the same multiset, byte for byte."""
    roots = [await org.hire(f"root {n}") for n in range(3)]
    await asyncio.gather(
        *(org.hire(f"leaf {n}", parent_id=each.id) for n, each in enumerate(roots))
    )
    rows = [
        {
            "id": str(uuid.uuid4()),
            "content": f"row {n % (_MOVED * 9 // 10)} of many é",
            "scope": ("LOCAL", "TEAM", "GLOBAL")[n % 3],
            "namespace": f"label {n % 7}",
            "workspace_name": f"{'root' if n % 3 else 'leaf'} {n // 3 % 3}",
            "created_at": f"2024-01-{n % 28 + 1:02d}T00:00:{n % 60:02d}.5Z",
            "memory_namespace": "given",
            "tags": [f"t{n % 5}"],
            "pinned": n % 11 == 0,
        }
        for n in range(_MOVED)
    ]
    done = await org.rest("POST", "/admin/memories/import", rows)
    assert (done.json()["imported"], done.json()["total"]) == (_MOVED, _MOVED), done.text
    before = await export(org)
    assert len(before) == _MOVED
    for name in {row["memory_namespace"] for row in before}:
        gone = await org.rest("DELETE", "/admin/memories/namespaces", namespace=name)
        assert gone.status_code == 200, gone.text
    assert await export(org) == []
    again = await org.rest("POST", "/admin/memories/import", before)
    assert again.json()["imported"] == _MOVED, again.text
    after: list[dict[str, Any]] = await export(org)
    assert sorted(map(json.dumps, after)) == sorted(map(json.dumps, before))
