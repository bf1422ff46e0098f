"""The activity record over the wire: the requests of existing pollers, and the exact answers."""

from __future__ import annotations

import uuid
from typing import Any

import httpx
import pytest
from moleculeai.delegation.v1 import delegation_service_pb2 as pb

from molecule_grpc.kernel.json_text import MAX_DEPTH
from tests.e2e.parties import Agent, Organization, Party, Refused
from tests.e2e.readers import tell, tell_many

PROBE = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
async def me(org: Organization) -> Agent:
    return await org.hire()


@pytest.fixture
async def peer(org: Organization) -> Agent:
    return await org.hire()


async def poll(agent: Agent, **params: Any) -> httpx.Response:
    return await agent.rest("GET", f"/workspaces/{agent.id}/activity", **params)


async def rows(agent: Agent, **params: Any) -> list[dict[str, Any]]:
    answer = await poll(agent, **params)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert isinstance(found, list)
    return found


async def report(agent: Agent, **body: Any) -> httpx.Response:
    return await agent.rest("POST", f"/workspaces/{agent.id}/activity", body)


async def notify(agent: Agent, **body: Any) -> httpx.Response:
    return await agent.rest("POST", f"/workspaces/{agent.id}/notify", body)


# Polling.


async def test_empty_record_is_an_empty_array(me: Agent) -> None:
    """D45."""
    answer = await poll(me)
    assert (answer.status_code, answer.text) == (200, "[]")
    assert answer.headers["content-type"] == "application/json"


async def test_probe_with_the_zero_id_is_410(me: Agent) -> None:
    """D45: by this a plugin learns that cursors work; anything else stops it."""
    answer = await poll(me, type="a2a_receive", since_id=PROBE)
    assert answer.status_code == 410
    assert set(answer.json()) == {"error"}
    assert answer.json()["error"].startswith("since_id cursor not found")
    assert answer.json()["error"].endswith("; omit since_id to reset")


async def test_poller_walks_through_everything_once(me: Agent, peer: Agent) -> None:
    """D45: as the channel plugins do: a cold start, then page after page from the last id."""
    await tell_many(peer, me, 3)
    page = await rows(me, type="a2a_receive", since_secs=30, limit=100)
    seen = [row["id"] for row in page[::-1]]
    await tell_many(peer, me, 5, start=3)
    while page := await rows(me, type="a2a_receive", since_id=seen[-1], limit=2):
        seen += [row["id"] for row in page]
    texts = [row["data"]["text"] for row in (await rows(me))[::-1]]
    assert texts == [str(n) for n in range(8)]
    assert seen == [row["id"] for row in (await rows(me))[::-1]]


async def test_poller_without_any_cursor_handles_its_backlog_once(
    me: Agent, peer: Agent, org: Organization
) -> None:
    """Q5: as the SDK and the Go client do, which go on after the last row of any answer."""
    await tell_many(peer, me, 5)
    query: dict[str, Any] = {"type": "a2a_receive", "limit": 2}
    seen: list[dict[str, Any]] = []
    while page := await rows(me, **query):
        seen += page
        query["since_id"] = page[-1]["id"]
    assert [row["data"]["text"] for row in seen] == [str(n) for n in range(5)]
    first = await poll(me, type="a2a_receive", limit=2)
    token = first.headers["x-next-page-token"]
    assert await rows(me, type="a2a_receive", limit=2, page_token=token) == seen[2:4]
    newest = seen[::-1]
    for others in ({"source": "agent"}, {"peer_id": peer.id}, {"since_secs": 600}):
        assert await rows(me, type="a2a_receive", **others) == newest
    assert await rows(me) == newest
    path = f"/workspaces/{me.id}/activity"
    assert (await org.rest("GET", path, type="a2a_receive")).json() == newest


async def test_poller_that_lost_its_cursor_starts_again(
    me: Agent, peer: Agent, org: Organization
) -> None:
    """D45: a foreign row is as good as none."""
    other = await org.hire()
    await tell(peer, other, "hi")
    await tell(peer, me, "hi")
    (foreign,) = await rows(other)
    assert (await poll(me, since_id=foreign["id"])).status_code == 410
    assert len(await rows(me, since_secs=600)) == 1


@pytest.mark.parametrize(
    "params",
    [
        {"source": "moon"},
        {"since_secs": "abc"},
        {"since_secs": "0"},
        {"since_secs": "-1"},
        {"since_secs": "60.5"},
        {"peer_id": "not-an-id"},
        {"before_ts": "yesterday"},
    ],
)
async def test_filter_that_is_wrong_is_400(me: Agent, params: dict[str, str]) -> None:
    """D45."""
    answer = await poll(me, **params)
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]


@pytest.mark.parametrize("limit", ["abc", "0", "-5", "99999", ""])
async def test_limit_that_is_wrong_is_not_an_error(me: Agent, peer: Agent, limit: str) -> None:
    """D45."""
    await tell(peer, me, "hi")
    assert len(await rows(me, limit=limit, zzz="1")) == 1


async def test_filters_combine(me: Agent, peer: Agent, org: Organization) -> None:
    """D45."""
    third = await org.hire()
    for sender in (peer, third, peer):
        await tell(sender, me, sender.id)
    await report(me, activity_type="agent_log", target_id=peer.id)
    found = await rows(me, type="a2a_receive", source="agent", peer_id=peer.id, limit=1)
    assert [row["data"]["text"] for row in found] == [peer.id]
    assert len(await rows(me, peer_id=peer.id)) == 3
    assert await rows(me, source="canvas") == []
    newest = found[0]["created_at"]
    assert len(await rows(me, type="a2a_receive", before_ts=newest)) == 2


async def test_message_row_is_what_clients_read(me: Agent, peer: Agent) -> None:
    """The envelope as sent, and the words of an older SDK beside it."""
    parts = [{"type": "text", "text": "hi"}]
    body = {
        "jsonrpc": "2.0",
        "id": "custom-id-123",
        "method": "message/send",
        "params": {"message": {"role": "user", "messageId": "m", "parts": parts}},
    }
    answer = await peer.rest("POST", f"/workspaces/{me.id}/a2a", body)
    assert (answer.status_code, answer.json()) == (
        200,
        {"status": "queued", "delivery_mode": "poll", "method": "message/send"},
    )
    (row,) = await rows(me)
    assert row["request_body"] == body
    assert (
        row.items()
        >= {
            "workspace_id": me.id,
            "activity_type": "a2a_receive",
            "source_id": peer.id,
            "target_id": me.id,
            "method": "message/send",
            "summary": "hi",
            "status": "ok",
            "seq": 1,
        }.items()
    )
    data = row["data"]
    assert (data["source"], data["text"], data["source_id"]) == ("peer_agent", "hi", peer.id)
    assert data["peer_name"].startswith("agent ")
    assert data["agent_card_url"] == ""


async def test_human_is_no_source(me: Agent, org: Organization) -> None:
    body = {"method": "message/send", "params": {"message": {"content": "hi"}}}
    await org.rest("POST", f"/workspaces/{me.id}/a2a", body)
    (row,) = await rows(me)
    assert not row.get("source_id")
    assert row["data"]["source"] == "canvas_user"


async def test_row_can_be_got_by_its_id(me: Agent, peer: Agent, org: Organization) -> None:
    await tell(peer, me, "hi")
    (row,) = await rows(me)
    path = f"/activity/{row['id']}"
    assert (await me.rest("GET", f"/workspaces/{me.id}{path}")).json() == row
    foreign = await peer.rest("GET", f"/workspaces/{peer.id}{path}")
    assert (foreign.status_code, foreign.json()) == (404, {"error": "activity not found"})


async def test_other_workspaces_record_is_closed(me: Agent, peer: Agent, stranger: Party) -> None:
    path = f"/workspaces/{me.id}/activity"
    wrong = await peer.rest("GET", path)
    assert (wrong.status_code, wrong.json()) == (401, {"error": "invalid workspace auth token"})
    missing = await stranger.rest("GET", path)
    assert (missing.status_code, missing.json()) == (401, {"error": "missing workspace auth token"})


async def test_grpc_names_the_reason_of_a_lost_cursor(me: Agent) -> None:
    with pytest.raises(Refused) as refused:
        await me.rpc(pb.ListActivityRequest(workspace_id=me.id, since_id=PROBE))
    assert (refused.value.code, refused.value.reason) == ("OUT_OF_RANGE", "CURSOR_PRUNED")


@pytest.mark.parametrize("kind", ["object", "array"])
async def test_deepest_body_that_is_taken_passes_the_edge(
    me: Agent, peer: Agent, kind: str
) -> None:
    """One body that no reader can parse would close the whole record."""
    nested: Any = 1
    for _ in range(MAX_DEPTH - 3):
        nested = {"a": nested} if kind == "object" else [nested]
    body = {"method": "x", "params": {"message": {"parts": [], "x": nested}}}
    answer = await peer.rest("POST", f"/workspaces/{me.id}/a2a", body)
    assert answer.status_code == 200, answer.text
    assert (await rows(me))[0]["request_body"]["params"]["message"]["x"] == nested
    page = await me.rpc(pb.ListActivityRequest(workspace_id=me.id))
    assert len(page.activities) == 1
    await report(me, activity_type="error", request_body=nested)
    assert len(await rows(me)) == 2


async def test_deeper_body_is_refused(me: Agent, peer: Agent) -> None:
    nested: Any = 1
    for _ in range(MAX_DEPTH):
        nested = [nested]
    body = {"method": "x", "params": {"message": {"parts": [], "x": nested}}}
    answer = await peer.rest("POST", f"/workspaces/{me.id}/a2a", body)
    assert (answer.status_code, answer.json()) == (
        400,
        {"error": f"the JSON is nested deeper than {MAX_DEPTH} levels"},
    )


# Reports.


async def test_report_is_logged(me: Agent, peer: Agent) -> None:
    answer = await report(
        me,
        activity_type="a2a_send",
        method="message/send",
        summary="sent",
        target_id=peer.id,
        status="error",
        error_detail="why",
        duration_ms=7,
        request_body={"n": [1, 2.5, None, {"a": ""}]},
        response_body="text",
        metadata={"ignored": True},
        workspace_id=me.id,
    )
    assert (answer.status_code, answer.json()) == (200, {"status": "logged"})
    (row,) = await rows(me)
    assert (
        row.items()
        >= {
            "activity_type": "a2a_send",
            "method": "message/send",
            "summary": "sent",
            "source_id": me.id,
            "target_id": peer.id,
            "status": "error",
            "error_detail": "why",
            "duration_ms": 7,
            "response_body": "text",
        }.items()
    )
    assert row["request_body"] == {"n": [1, 2.5, None, {"a": ""}]}
    assert not row.get("seq")


async def test_report_of_an_unknown_type_is_400(me: Agent) -> None:
    answer = await report(me, activity_type="chat")
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("invalid activity_type, must be one of: a2a_send,")


async def test_report_in_anothers_name_is_403(me: Agent, peer: Agent) -> None:
    answer = await report(me, activity_type="error", source_id=peer.id)
    assert answer.status_code == 403
    assert (await report(me, activity_type="error", source_id=me.id)).status_code == 200
    assert (await report(me, activity_type="error", source_id="")).status_code == 200


# Notices.


async def test_notice_is_sent_and_stored_without_parts(me: Agent) -> None:
    """D48: clients check that there is no `parts` key."""
    answer = await notify(me, message="done", type="info")
    assert (answer.status_code, answer.json()) == (200, {"status": "sent"})
    (row,) = await rows(me, type="a2a_receive")
    assert (row["method"], row["response_body"]) == ("notify", {"result": "done"})
    assert not row.get("source_id")
    assert not row.get("data")


async def test_notice_with_files_is_stored_with_them(me: Agent) -> None:
    """D48."""
    file = {"uri": "workspace:/a.png", "name": "a.png", "mimeType": "image/png", "size": 12}
    await notify(me, message="look", attachments=[file])
    (row,) = await rows(me)
    assert row["response_body"] == {
        "result": "look",
        "parts": [{"kind": "file", "file": file}],
    }


@pytest.mark.parametrize("body", [{}, {"message": ""}, {"message": "\x00"}])
async def test_notice_without_words_is_400(me: Agent, body: dict[str, str]) -> None:
    answer = await notify(me, **body)
    assert (answer.status_code, answer.json()) == (400, {"error": "message is required"})


async def test_notice_names_the_attachment_that_is_wrong(me: Agent) -> None:
    answer = await notify(me, message="m", attachments=[{"uri": "u", "name": "n"}, {"uri": "u"}])
    assert (answer.status_code, answer.json()) == (
        400,
        {"error": "attachment[1]: uri and name are required"},
    )


async def test_notice_of_an_unknown_workspace_is_404(operator: Party) -> None:
    path = f"/workspaces/{uuid.UUID(int=11)}/notify"
    answer = await operator.rest("POST", path, {"message": "m"})
    assert (answer.status_code, answer.json()["error"]) == (404, "workspace not found")
