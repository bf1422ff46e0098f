"""Cancel, progress, watching and retries, over the wire."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from tests.e2e.parties import Agent, Organization, Party
from tests.waiting import PATIENCE


async def delegated(source: Agent, target: Agent, **fields: Any) -> str:
    """A task that was handed over; its id."""
    body = {"target_id": target.id, "task": "count the words", **fields}
    answer = await source.rest("POST", f"/workspaces/{source.id}/delegate", body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["delegation_id"])


async def report(agent: Agent, delegation_id: str, **body: Any) -> dict[str, Any]:
    """What an agent says of a delegation."""
    path = f"/workspaces/{agent.id}/delegations/{delegation_id}/update"
    answer = await agent.rest("POST", path, body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def inbox(agent: Agent, wait_seconds: int = 0) -> list[dict[str, Any]]:
    """What is undone in an agent's inbox."""
    answer = await agent.rest(
        "GET", f"/workspaces/{agent.id}/inbox", wait_seconds=str(wait_seconds), limit="100"
    )
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def seen_by(agent: Agent, delegation_id: str) -> dict[str, Any]:
    """A delegation as caller or callee reads it."""
    answer = await agent.rest("GET", f"/workspaces/{agent.id}/delegations/{delegation_id}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_cancel_ends_as_failed_and_tells_both(org: Organization) -> None:
    """The caller cancels; the callee's inbox says so; the caller is told one end."""
    source, target = await org.hire(), await org.hire()
    task = await delegated(source, target)
    path = f"/workspaces/{source.id}/delegations/{task}/cancel"
    answer = await source.rest("POST", path, {"reason": "changed my mind"})
    assert answer.json() == {"status": "failed", "delegation_id": task, "applied": True}
    assert (await seen_by(source, task))["failure_reason"] == "cancelled"
    assert [item["method"] for item in await inbox(target)] == ["delegate", "delegate_cancel"]
    [end] = await inbox(source)
    assert (end["method"], end["status"]) == ("delegate_result", "error")
    assert "changed my mind" in end["text"]


async def test_cancel_twice_is_harmless(org: Organization) -> None:
    """A repeat says that it is cancelled, and announces nothing."""
    source, target = await org.hire(), await org.hire()
    task = await delegated(source, target)
    path = f"/workspaces/{source.id}/delegations/{task}/cancel"
    for reason in ("one", "two"):
        answer = await source.rest("POST", path, {"reason": reason})
        assert answer.json()["applied"] is True
    assert len(await inbox(source)) == 1
    assert len(await inbox(target)) == 2


async def test_only_the_caller_can_cancel(org: Organization) -> None:
    """The callee reports a failure instead; a stranger sees nothing."""
    source, target, stranger = await org.hire(), await org.hire(), await org.hire()
    task = await delegated(source, target)
    for agent in (target, stranger):
        path = f"/workspaces/{agent.id}/delegations/{task}/cancel"
        assert (await agent.rest("POST", path, {})).status_code == 404
    assert (await seen_by(source, task))["status"] == "queued"


async def test_cancel_after_the_end_changes_nothing(org: Organization) -> None:
    """An end is final."""
    source, target = await org.hire(), await org.hire()
    task = await delegated(source, target)
    await report(target, task, status="completed", response_preview="12")
    path = f"/workspaces/{source.id}/delegations/{task}/cancel"
    answer = await source.rest("POST", path, {})
    assert answer.json() == {"status": "completed", "delegation_id": task, "applied": False}
    assert len(await inbox(source)) == 1


async def test_beats_carry_progress(org: Organization) -> None:
    """A note and a percentage stay until the next ones."""
    source, target = await org.hire(), await org.hire()
    task = await delegated(source, target)
    path = f"/workspaces/{target.id}/delegations/{task}/heartbeat"
    await target.rest("POST", path, {"note": "reading", "percent": 40})
    await target.rest("POST", path, {})
    found = await seen_by(source, task)
    assert (found["progress_note"], found["progress_percent"]) == ("reading", 40)
    assert found["status"] == "in_progress"


async def frames(party: Party, path: str, **params: str) -> AsyncIterator[dict[str, Any]]:
    """The frames of a stream as Server-Sent Events carry them."""
    headers = {**party.headers, "accept": "text/event-stream"}
    async with party.wire.http.stream("GET", path, headers=headers, params=params) as answer:
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"].startswith("text/event-stream")
        async for line in answer.aiter_lines():
            if line.startswith("data:"):
                yield json.loads(line.removeprefix("data:"))


async def test_watch_shows_every_change_and_ends(org: Organization) -> None:
    """The present state, again after each change, and an End behind the final one."""
    source, target = await org.hire(), await org.hire()
    task = await delegated(source, target)
    seen: list[str] = []
    async with asyncio.timeout(PATIENCE):
        async for frame in frames(source, f"/workspaces/{source.id}/delegations/{task}/watch"):
            if "end" in frame:
                seen.append("end")
                break
            if "delegation" not in frame:
                continue
            seen.append(frame["delegation"]["status"])
            if seen == ["queued"]:
                path = f"/workspaces/{target.id}/delegations/{task}/heartbeat"
                await target.rest("POST", path, {})
            elif seen[-1] == "in_progress":
                await report(target, task, status="completed", response_preview="12")
    assert seen == ["queued", "in_progress", "completed", "end"]


async def test_watching_what_is_not_yours_is_not_found(org: Organization) -> None:
    """A refusal before the first frame has its status."""
    source, target, stranger = await org.hire(), await org.hire(), await org.hire()
    task = await delegated(source, target)
    answer = await stranger.rest("GET", f"/workspaces/{stranger.id}/delegations/{task}/watch")
    assert answer.status_code == 404
    assert answer.json()["error"] == "delegation not found"


async def test_a_failure_leads_to_another_attempt(org: Organization) -> None:
    """With attempts left the status stays, the task comes again, and only the last failure ends."""
    source, target = await org.hire(), await org.hire()
    task = await delegated(source, target, max_attempts=2, retry_backoff_seconds=1)
    answer = await report(target, task, status="failed", error="out of memory")
    assert answer["status"] == "queued"
    assert await inbox(source) == []
    found = await seen_by(source, task)
    assert (found["retry_count"], found["error"]) == (1, "out of memory")

    [first] = await inbox(target)
    await target.rest("POST", f"/workspaces/{target.id}/inbox/ack", {"up_to_seq": first["seq"]})
    [again] = await inbox(target, wait_seconds=10)
    assert (again["text"], again["delegation_id"]) == (first["text"], task)
    assert again["message_id"] != first["message_id"]

    assert (await report(target, task, status="failed", error="again"))["status"] == "failed"
    [end] = await inbox(source)
    assert end["status"] == "error"


async def test_a_second_attempt_can_succeed(org: Organization) -> None:
    """Its caller hears of the success alone."""
    source, target = await org.hire(), await org.hire()
    task = await delegated(source, target, max_attempts=3)
    await report(target, task, status="failed", error="out of memory")
    answer = await report(target, task, status="completed", response_preview="12")
    assert answer == {"status": "completed", "delegation_id": task, "applied": True}
    assert [item["text"] for item in await inbox(source)] == ["12"]


async def test_an_operator_tries_again_what_failed(org: Organization) -> None:
    """A new delegation with the same task; the old one stays failed; a repeat makes no second."""
    source, target = await org.hire(), await org.hire()
    task = await delegated(source, target)
    await report(target, task, status="failed", error="no")
    made = [await org.rest("POST", f"/admin/delegations/{task}/retry") for _ in range(2)]
    assert [answer.status_code for answer in made] == [200, 200]
    retry, repeated = (answer.json() for answer in made)
    assert retry == repeated
    assert retry["retry_of"] == task
    assert (await seen_by(source, task))["status"] == "failed"
    found = await seen_by(source, retry["delegation_id"])
    assert (found["status"], found["retry_of"]) == ("queued", task)
    assert [item["text"] for item in await inbox(target)] == ["count the words"] * 2


async def test_no_key_of_a_caller_stands_in_an_operators_way(org: Organization) -> None:
    """The platform's keys are its own: a caller may not choose one."""
    source, target = await org.hire(), await org.hire()
    task = await delegated(source, target)
    await report(target, task, status="failed", error="no")
    for key, status in ((f"retry:{task}", 202), (f"molecule:retry:{task}", 400)):
        body = {"target_id": target.id, "task": "another", "idempotency_key": key}
        answer = await source.rest("POST", f"/workspaces/{source.id}/delegate", body)
        assert answer.status_code == status
    retry = (await org.rest("POST", f"/admin/delegations/{task}/retry")).json()
    assert (await seen_by(source, retry["delegation_id"]))["retry_of"] == task


async def test_what_has_not_failed_is_not_tried_again(org: Organization) -> None:
    """A live one is refused, and another organisation's is not found."""
    source, target = await org.hire(), await org.hire()
    task = await delegated(source, target)
    answer = await org.rest("POST", f"/admin/delegations/{task}/retry")
    assert answer.status_code == 409
    assert "only a failed or stuck delegation" in answer.json()["error"]


async def test_another_organisation_cannot_retry(
    org: Organization, other_org: Organization
) -> None:
    """Foreign reads like missing."""
    source, target = await org.hire(), await org.hire()
    task = await delegated(source, target)
    await report(target, task, status="failed", error="no")
    foreign = await other_org.rest("POST", f"/admin/delegations/{task}/retry")
    missing = await other_org.rest("POST", "/admin/delegations/nothing/retry")
    assert foreign.status_code == missing.status_code == 404
    assert foreign.json() == missing.json()


async def poisoned(org: Organization, target: Agent) -> dict[str, Any]:
    """A message that failed five times, as it stood in the inbox."""
    body = {
        "method": "message/send",
        "params": {"message": {"parts": [{"kind": "text", "text": "x"}]}},
    }
    assert (await org.rest("POST", f"/workspaces/{target.id}/a2a", body)).status_code == 200
    [item] = await inbox(target)
    path = f"/workspaces/{target.id}/inbox/nack"
    nack = {"seq": item["seq"], "reason": "cannot read it"}
    answers = [await target.rest("POST", path, nack) for _ in range(5)]
    assert answers[-1].json() == {"seq": item["seq"], "deliveries": 5, "poisoned": True}
    return item


async def test_poison_is_seen_and_replayed_once(org: Organization) -> None:
    """It leaves the inbox, stands among the dead letters, and comes again as a new item."""
    target = await org.hire()
    item = await poisoned(org, target)
    assert await inbox(target) == []
    [letter] = (await org.rest("GET", "/admin/dead-letters")).json()
    assert (letter["workspace_id"], letter["seq"]) == (target.id, item["seq"])
    assert letter["reason"] == "cannot read it"
    path = f"/admin/dead-letters/{target.id}/{item['seq']}/replay"
    assert (await org.rest("POST", path)).json() == {"seq": item["seq"] + 1}
    assert (await org.rest("POST", path)).status_code == 404
    [again] = await inbox(target)
    assert (again["text"], again["delivery"]) == ("x", 1)
    assert (await org.rest("GET", "/admin/dead-letters")).json() == []


async def test_poison_can_be_dropped(org: Organization, other_org: Organization) -> None:
    """Dropped for good, by administrators of the organisation only."""
    target = await org.hire()
    item = await poisoned(org, target)
    path = f"/admin/dead-letters/{target.id}/{item['seq']}"
    assert (await other_org.rest("GET", "/admin/dead-letters")).json() == []
    assert (await other_org.rest("DELETE", path)).status_code == 404
    assert (await org.rest("DELETE", path)).json() == {"status": "dropped"}
    assert (await org.rest("GET", "/admin/dead-letters")).json() == []


async def test_dead_letters_come_in_pages_without_gaps(org: Organization) -> None:
    """The last page has no token; a token that is not one of ours is refused."""
    target = await org.hire()
    items = [await poisoned(org, target) for _ in range(4)]
    seen: list[int] = []
    token = ""
    for _ in range(2):
        answer = await org.rest("GET", "/admin/dead-letters", limit=2, page_token=token)
        seen += [letter["seq"] for letter in answer.json()]
        token = answer.headers.get("x-next-page-token", "")
    assert (seen, token) == ([item["seq"] for item in reversed(items)], "")
    for foreign in ("x", "W10=", "WyIyMDI2LTAxLTAxVDAwOjAwOjAwWiIsICIiLCAxXQ=="):
        answer = await org.rest("GET", "/admin/dead-letters", page_token=foreign)
        assert answer.status_code == 400
        assert answer.json() == {"error": "page_token is not one of ours"}


async def test_a_poisoned_task_fails_its_delegation(org: Organization) -> None:
    """The caller hears that the work was set aside."""
    source, target = await org.hire(), await org.hire()
    task = await delegated(source, target)
    [item] = await inbox(target)
    for _ in range(5):
        await target.rest("POST", f"/workspaces/{target.id}/inbox/nack", {"seq": item["seq"]})
    found = await seen_by(source, task)
    assert (found["status"], found["failure_reason"]) == ("failed", "poisoned")
    assert [end["method"] for end in await inbox(source)] == ["delegate_result"]
