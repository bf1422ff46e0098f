"""The feed of events: kept with what they tell, resumed exactly, seen by those who may."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from moleculeai.delegation.v1 import delegation_service_pb2_grpc as stubs
from moleculeai.delegation.v1 import event_pb2

from molecule_grpc.events.names import EventType
from tests.e2e.parties import Agent, Organization, Party, refused
from tests.e2e.test_attempts import delegated, report
from tests.waiting import PATIENCE

Request = event_pb2.SubscribeEventsRequest


def as_documented(event: event_pb2.Event) -> None:
    """Every event that these tests see is one of docs/events.md."""
    kind = EventType[event.event_type]
    assert event.kept == kind.kept
    assert set(event.payload.struct_value) <= set(kind.payload), kind


class Feed:
    """An open stream of events."""

    def __init__(self, party: Party, request: event_pb2.SubscribeEventsRequest) -> None:
        stub = stubs.DelegationServiceStub(party.wire.channel)
        self._call = stub.SubscribeEvents(request, metadata=tuple(party.headers.items()))

    async def until(self, event_type: str) -> event_pb2.Event:
        """The next event of this type."""
        return (await self._frame(lambda frame: frame.event.event_type == event_type)).event

    async def next(self) -> event_pb2.Event:
        """The next event, whatever it is."""
        return (await self._frame(lambda frame: frame.HasField("event"))).event

    async def beat(self) -> event_pb2.EventBeat:
        """The next beat: from then on nothing is missed."""
        return (await self._frame(lambda frame: frame.HasField("beat"))).beat

    async def _frame(
        self, wanted: Callable[[event_pb2.SubscribeEventsResponse], bool]
    ) -> event_pb2.SubscribeEventsResponse:
        async with asyncio.timeout(PATIENCE):
            while True:
                frame = await self._call.read()
                assert isinstance(frame, event_pb2.SubscribeEventsResponse), "the stream ended"
                if frame.HasField("event"):
                    as_documented(frame.event)
                if wanted(frame):
                    return frame

    def close(self) -> None:
        """Leave."""
        self._call.cancel()


async def test_a_delegation_is_told_from_start_to_end(org: Organization) -> None:
    """DELEGATION_SENT, _STATUS and _COMPLETE, in this order, kept, with their payloads."""
    source, target = await org.hire(), await org.hire()
    feed = Feed(org, Request())
    await feed.beat()
    task = await delegated(source, target)
    sent = await feed.until("DELEGATION_SENT")
    assert sent.kept
    assert dict(sent.payload.struct_value) == {
        "delegation_id": task,
        "target_id": target.id,
        "task_preview": "count the words",
    }
    await target.rest("POST", f"/workspaces/{target.id}/delegations/{task}/heartbeat", {})
    assert dict((await feed.until("DELEGATION_STATUS")).payload.struct_value)["status"] == (
        "in_progress"
    )
    await report(target, task, status="completed", response_preview="12")
    done = dict((await feed.until("DELEGATION_COMPLETE")).payload.struct_value)
    assert done["response_preview"] == "12"
    feed.close()


async def test_resuming_skips_nothing_and_repeats_nothing(org: Organization) -> None:
    """What happened while nobody listened comes after the token, once and in order."""
    agents = [await org.hire() for _ in range(2)]
    feed = Feed(org, Request())
    place = (await feed.beat()).resume_token
    feed.close()
    tasks = [await delegated(*agents) for _ in range(5)]
    feed = Feed(org, Request(resume_after=place, types=["DELEGATION_SENT"]))
    seen = [await feed.until("DELEGATION_SENT") for _ in tasks]
    feed.close()
    assert [dict(one.payload.struct_value)["delegation_id"] for one in seen] == tasks
    feed = Feed(org, Request(resume_after=seen[2].resume_token, types=["DELEGATION_SENT"]))
    later = await feed.until("DELEGATION_SENT")
    feed.close()
    assert later.id == seen[3].id


async def test_a_workspace_s_changes_are_events(org: Organization) -> None:
    """Added, online, moved away, removed; the admin's list shows them, newest first."""
    agent = await org.hire()
    card = {"id": agent.id, "agent_card": {"name": "x"}, "delivery_mode": "poll"}
    await agent.rest("POST", "/registry/register", card)
    await agent.rest(
        "POST", "/registry/update-card", {"workspace_id": agent.id, "agent_card": {"name": "y"}}
    )
    await org.rest("DELETE", f"/workspaces/{agent.id}", confirm="true")
    listed = (await org.rest("GET", f"/events/{agent.id}")).json()
    assert [one["event_type"] for one in listed] == [
        "WORKSPACE_REMOVED",
        "AGENT_CARD_UPDATED",
        "WORKSPACE_ONLINE",
        "WORKSPACE_AWAITING_AGENT",
    ]
    assert listed[-1]["payload"]["runtime"] == "external"


async def test_rotation_tells_the_workspace_and_no_secret(org: Organization) -> None:
    """D51: EXTERNAL_CREDENTIALS_ROTATED carries the workspace's id and nothing else."""
    agent = await org.hire()
    await org.rest("POST", f"/workspaces/{agent.id}/external/rotate")
    [newest, *_] = (await org.rest("GET", f"/events/{agent.id}")).json()
    assert newest["event_type"] == "EXTERNAL_CREDENTIALS_ROTATED"
    assert (newest["workspace_id"], newest["payload"]) == (agent.id, {})


async def test_what_an_agent_says_to_a_person_is_shown_live(org: Organization) -> None:
    """D48: AGENT_MESSAGE, not kept, as soon as the row is stored."""
    agent = await org.hire()
    feed = Feed(org, Request(workspace_id=agent.id))
    await feed.beat()
    await agent.rest("POST", f"/workspaces/{agent.id}/notify", {"message": "hello"})
    shown = await feed.until("AGENT_MESSAGE")
    feed.close()
    assert not shown.kept
    assert dict(shown.payload.struct_value)["message"] == "hello"


async def test_a_heartbeat_is_shown_live(org: Organization) -> None:
    """Spec 9.2: WORKSPACE_HEARTBEAT each time; TASK_UPDATED when what it does has changed."""
    agent = await org.hire()
    feed = Feed(org, Request(types=["WORKSPACE_HEARTBEAT", "TASK_UPDATED"]))
    await feed.beat()
    seen = []
    for task, tasks, uptime in (("reading", 1, 5), ("reading", 1, 6), ("reading", 2, 7)):
        body = {"current_task": task, "active_tasks": tasks, "uptime_seconds": uptime}
        await agent.rest("POST", "/registry/heartbeat", {"workspace_id": agent.id, **body})
        while True:
            shown = await feed.next()
            assert (shown.workspace_id, shown.kept) == (agent.id, False)
            seen.append((shown.event_type, dict(shown.payload.struct_value)))
            if shown.event_type == "WORKSPACE_HEARTBEAT":
                break
    feed.close()
    changes = [payload for name, payload in seen if name == "TASK_UPDATED"]
    assert changes == [
        {"current_task": "reading", "active_tasks": 1},
        {"current_task": "reading", "active_tasks": 2},
    ]
    beats = [payload for name, payload in seen if name == "WORKSPACE_HEARTBEAT"]
    assert beats == [
        {"active_tasks": tasks, "uptime_seconds": uptime}
        for tasks, uptime in ((1, 5), (1, 6), (2, 7))
    ]


async def test_a_workspace_sees_its_own_events_only(org: Organization) -> None:
    """Its token narrows the feed; asking for another one is refused."""
    agent, other = await org.hire(), await org.hire()
    feed = Feed(agent, Request())
    await feed.beat()
    for one in (other, agent):
        await one.rest("POST", f"/workspaces/{one.id}/notify", {"message": one.id})
    shown = await feed.until("AGENT_MESSAGE")
    feed.close()
    assert shown.workspace_id == agent.id
    answer = await agent.rest("GET", f"/workspaces/{other.id}/events/stream")
    assert answer.status_code == 401


async def test_no_event_crosses_organisations(org: Organization, other_org: Organization) -> None:
    """Neither in the list nor in the feed, and a foreign workspace reads like a missing one."""
    agent = await other_org.hire()
    assert (await org.rest("GET", f"/events/{agent.id}")).json() == []
    answer = await org.rest("GET", f"/workspaces/{agent.id}/events/stream")
    assert answer.status_code == 404


async def browser(party: Party, path: str, last_id: str = "") -> list[tuple[str, str]]:
    """The first event of an EventSource: its id and name."""
    headers = {**party.headers, **({"last-event-id": last_id} if last_id else {})}
    found: dict[str, str] = {}
    async with (
        asyncio.timeout(PATIENCE),
        party.wire.http.stream("GET", path, headers=headers) as answer,
    ):
        assert answer.headers["content-type"] == "text/event-stream"
        async for line in answer.aiter_lines():
            name, _, value = line.partition(": ")
            found[name] = value
            if name == "data":
                return [(found["id"], found["event"])]
    return []


async def test_a_browser_resumes_by_last_event_id(org: Organization) -> None:
    """`id:` and `event:` lines; Last-Event-ID goes on behind it."""
    agent = await org.hire()
    path = f"/workspaces/{agent.id}/events/stream"
    first = asyncio.create_task(browser(org, path))
    told = asyncio.create_task(_talk(agent))
    [(place, name)] = await first
    told.cancel()
    assert name == "AGENT_MESSAGE"
    await agent.rest("POST", f"/workspaces/{agent.id}/notify", {"message": "behind it"})
    [(later, _)] = await browser(org, path, place)
    assert later != place


async def _talk(agent: Agent) -> None:
    """Say something until somebody has heard it."""
    while True:
        await agent.rest("POST", f"/workspaces/{agent.id}/notify", {"message": "hello"})
        await asyncio.sleep(0.2)


@pytest.mark.parametrize("token", ["nonsense", "1.2", "-1.0.0", "9999999999999999999999.1.1"])
async def test_a_token_that_is_not_ours_is_refused(org: Organization, token: str) -> None:
    """Named as the field at fault, before the first frame."""
    stub = stubs.DelegationServiceStub(org.wire.channel)
    call = stub.SubscribeEvents(
        Request(resume_after=token), metadata=tuple(org.headers.items()), timeout=PATIENCE
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert refused(caught.value).reason == "INVALID_ARGUMENT"


async def test_an_old_token_is_told_from_a_bad_one(org: Organization) -> None:
    """CURSOR_PRUNED (410): start again without it."""
    answer = await org.rest("GET", "/events/stream", resume_after="1.1.1")
    assert answer.status_code == 410


async def test_search_takes_the_text_literally(org: Organization) -> None:
    """`%` and `_` are no wildcards, and case does not matter."""
    agent = await org.hire()
    for text in ("Fifty%off", "fifty times off"):
        await agent.rest("POST", f"/workspaces/{agent.id}/notify", {"message": text})
    path = f"/workspaces/{agent.id}/session-search"
    hits: list[dict[str, Any]] = (await agent.rest("GET", path, q="fifty%")).json()
    assert [hit["label"] for hit in hits] == ["Agent message: Fifty%off"]
    assert len((await agent.rest("GET", path)).json()) == 2
