"""The activity record on a real database: rows written and rows polled."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import uuid
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from google.api import httpbody_pb2
from google.protobuf import json_format, struct_pb2
from moleculeai.delegation.v1 import activity_pb2
from moleculeai.delegation.v1 import delegation_service_pb2 as pb

from molecule_grpc.auth.principal import Principal, Role
from molecule_grpc.db.pool import Pool, connect, connect_pool
from molecule_grpc.delegation.conversion import record as convert
from molecule_grpc.delegation.inbox.wiring import open_record_and_inbox
from molecule_grpc.delegation.record.activity import Attachment, Report
from molecule_grpc.events.names import EventType
from molecule_grpc.events.readers import EventReaders
from molecule_grpc.kernel.errors import Denied, Invalid, NotFound, OutOfRange, Unauthenticated
from molecule_grpc.kernel.json_text import MAX_DEPTH
from molecule_grpc.server.call import Call
from tests.integration.agents import (
    ORGANIZATION,
    Slice,
    append_on,
    call_of,
    hire,
    message,
    note,
    slice_of,
)


async def poll(slice_: Slice, me: UUID, **filters: str) -> list[activity_pb2.Activity]:
    request = pb.ListActivityRequest(workspace_id=str(me), **filters)
    page = await slice_.activity.list(convert.activity_query(request, Call({})))
    return [await convert.activity(row, Call({})) for row in page.rows]


async def ids(slice_: Slice, me: UUID, **filters: str) -> list[str]:
    return [row.id for row in await poll(slice_, me, **filters)]


async def wrote(slice_: Slice, *entries: Any) -> list[str]:
    """Append one after the other; their ids."""
    for entry in entries:
        await slice_.records.append(entry)
    return [str(entry.activity_id) for entry in entries]


async def send(
    slice_: Slice, source: UUID | None, target: UUID, body: Any, **changes: Any
) -> httpbody_pb2.HttpBody:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = pb.SendMessageRequest(
        workspace_id=str(target), body=httpbody_pb2.HttpBody(data=data), **changes
    )
    return await slice_.send(request, call_of(source))


def a2a(text: str = "hello", **message: Any) -> dict[str, Any]:
    parts = [{"kind": "text", "text": text}]
    return {"method": "message/send", "params": {"message": {"parts": parts, **message}}}


# D45: the poller's contract.


async def test_newest_first_without_a_cursor_and_oldest_first_with_one(
    slice_: Slice, me: UUID
) -> None:
    """D45: the order turns round, and only strictly newer rows come."""
    rows = await wrote(slice_, *(message(me) for _ in range(5)))
    assert await ids(slice_, me) == rows[::-1]
    assert await ids(slice_, me, since_id=rows[1]) == rows[2:]
    assert await ids(slice_, me, since_id=rows[-1]) == []


async def test_limit_with_a_cursor_keeps_the_oldest(slice_: Slice, me: UUID) -> None:
    """D45: the next page continues where this one ends."""
    rows = await wrote(slice_, *(message(me) for _ in range(5)))
    assert await ids(slice_, me, limit="2") == rows[:-3:-1]
    assert await ids(slice_, me, since_id=rows[0], limit="2") == rows[1:3]


@pytest.mark.parametrize("limit", ["", "0", "-1", "abc", "1.5", "0x10"])
async def test_bad_limit_means_the_default(slice_: Slice, me: UUID, limit: str) -> None:
    """D45: 100 rows."""
    await slice_.pool.execute(_MANY, me, 120)
    assert len(await poll(slice_, me, limit=limit)) == 100


async def test_limit_is_capped(slice_: Slice, me: UUID) -> None:
    """D45: at 500."""
    await slice_.pool.execute(_MANY, me, 520)
    assert len(await poll(slice_, me, limit="1000")) == 500


@pytest.mark.parametrize(
    "cursor",
    [
        "00000000-0000-0000-0000-000000000000",
        "not-an-id",
        "01a21004-41bd-7060-9e1a-627aea0e06a2",
    ],
)
async def test_unknown_cursor_is_told_to_reset(slice_: Slice, me: UUID, cursor: str) -> None:
    """D45: 410, which tells a client to drop its cursor."""
    with pytest.raises(OutOfRange) as refused:
        await poll(slice_, me, since_id=cursor)
    assert refused.value.reason == "CURSOR_PRUNED"
    assert refused.value.message.startswith("since_id cursor not found")
    assert refused.value.message.endswith("omit since_id to reset")


async def test_row_of_another_workspace_is_no_cursor(slice_: Slice, pool: Pool) -> None:
    """D45: 410 as well: it says nothing about the other workspace."""
    me, other = await hire(pool, 2)
    (foreign,) = await wrote(slice_, message(other))
    with pytest.raises(OutOfRange):
        await poll(slice_, me, since_id=foreign)


async def test_database_that_cannot_answer_is_not_a_lost_cursor(
    database_url: str, me: UUID
) -> None:
    """D45: neither 410 nor an empty list, else the client forgets where it was."""
    broken = await connect_pool(database_url, min_size=1, max_size=1)
    async with slice_of(database_url, broken) as slice_:
        await broken.close()
        for filters in ({"since_id": str(uuid.uuid4())}, {}):
            with pytest.raises(asyncpg.InterfaceError):
                await poll(slice_, me, **filters)


async def test_type_filter_is_exact(slice_: Slice, me: UUID) -> None:
    """D45."""
    rows = await wrote(slice_, message(me), note(me), message(me))
    assert await ids(slice_, me, type="a2a_receive") == [rows[2], rows[0]]
    assert await ids(slice_, me, type="a2a") == []
    assert await ids(slice_, me, type="agent_log", since_id=rows[0]) == [rows[1]]


async def test_source_filter_tells_people_from_agents(slice_: Slice, pool: Pool) -> None:
    """D45: canvas is no source, agent is any."""
    me, peer = await hire(pool, 2)
    rows = await wrote(slice_, message(me), message(me, source_id=peer))
    assert await ids(slice_, me, source="canvas") == [rows[0]]
    assert await ids(slice_, me, source="agent") == [rows[1]]


async def test_peer_filter_matches_either_side(slice_: Slice, pool: Pool) -> None:
    """D45."""
    me, peer, third = await hire(pool, 3)
    rows = await wrote(
        slice_,
        message(me, source_id=peer),
        note(me, target_id=peer),
        message(me, source_id=third),
        message(me),
    )
    assert await ids(slice_, me, peer_id=str(peer)) == [rows[1], rows[0]]
    assert await ids(slice_, me, peer_id=str(peer), type="a2a_receive") == [rows[0]]
    assert await ids(slice_, me, peer_id=str(peer), since_id=rows[0]) == [rows[1]]


async def test_window_of_the_last_seconds(slice_: Slice, me: UUID) -> None:
    """D45: newest first, as without it."""
    old, *rows = await wrote(slice_, message(me), message(me), message(me))
    await slice_.pool.execute(
        "UPDATE activity_logs SET created_at = now() - interval '100 s' WHERE id = $1", UUID(old)
    )
    assert await ids(slice_, me, since_secs="60") == rows[::-1]
    assert await ids(slice_, me, since_secs="0120") == [*rows[::-1], old]


@pytest.mark.parametrize("seconds", ["abc", "0", "-1", "0x10", "60.5", "1e3", "\u0661"])
async def test_window_must_be_a_positive_integer(slice_: Slice, me: UUID, seconds: str) -> None:
    """D45: 400."""
    with pytest.raises(Invalid):
        await poll(slice_, me, since_secs=seconds)


async def test_window_is_clamped_at_30_days(slice_: Slice, me: UUID) -> None:
    """D45."""
    inside, outside = await wrote(slice_, message(me), message(me))
    for row, days in ((inside, 29), (outside, 31)):
        await slice_.pool.execute(
            "UPDATE activity_logs SET created_at = now() - make_interval(days => $2) WHERE id = $1",
            UUID(row),
            days,
        )
    assert await ids(slice_, me, since_secs="9" * 30) == [inside]


async def test_before_is_strict_and_pages_backwards(slice_: Slice, me: UUID) -> None:
    """D45."""
    rows = await wrote(slice_, *(message(me) for _ in range(3)))
    middle = (await poll(slice_, me))[1].created_at.ToJsonString()
    assert await ids(slice_, me, before_ts=middle) == [rows[0]]


async def test_history_cut_by_a_time_loses_no_row_that_was_written_with_others(
    slice_: Slice, me: UUID
) -> None:
    """Forty messages come at once: one or two statements write them all."""
    sent = [message(me) for _ in range(40)]
    await asyncio.gather(*(slice_.records.append(entry) for entry in sent))
    seen, page = list[str](), await poll(slice_, me, limit="7")
    while page:
        seen += [row.id for row in page]
        before = page[-1].created_at.ToJsonString()
        page = await poll(slice_, me, limit="7", before_ts=before)
    assert sorted(seen) == sorted(str(entry.activity_id) for entry in sent)


async def test_time_and_number_of_a_row_agree_whichever_worker_was_first(
    slice_: Slice, database_url: str, me: UUID
) -> None:
    """A transaction that began earlier comes later: its rows are not older than those before."""
    conn = await connect(database_url)
    async with conn.transaction():
        await conn.execute("SELECT now()")
        await wrote(slice_, message(me), note(me))
        await append_on(conn, message(me), message(me))
    await conn.close()
    await wrote(slice_, message(me))
    rows = await slice_.record_of(me)
    times = [row["created_at"] for row in rows]
    assert len(rows) == 5
    assert times == sorted(set(times))
    items = {item["activity_id"]: item["created_at"] for item in await slice_.items(me)}
    assert items == {row["id"]: row["created_at"] for row in rows if row["inbox_seq"]}


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:00:00.123456789Z",
        "2026-01-01T02:00:00+02:00",
        "2026-01-01T02:00:00 02:00",
    ],
)
async def test_before_takes_rfc_3339(slice_: Slice, me: UUID, text: str) -> None:
    """D45: also when a query string made a blank of the plus."""
    assert await ids(slice_, me, before_ts=text) == []


@pytest.mark.parametrize(
    "text", ["yesterday", "2026-01-01", "2026-01-01T00:00:00", "1767225600", "2026-13-01T00:00:00Z"]
)
async def test_before_refuses_what_is_not(slice_: Slice, me: UUID, text: str) -> None:
    """D45: 400."""
    with pytest.raises(Invalid):
        await poll(slice_, me, before_ts=text)


async def test_workspaces_have_records_of_their_own(slice_: Slice, pool: Pool) -> None:
    me, other = await hire(pool, 2)
    await wrote(slice_, message(other))
    assert await ids(slice_, me) == []


# What a row says.


async def test_row_keeps_what_was_sent(slice_: Slice, me: UUID) -> None:
    """Text is looked for in the parts as sent: `type` stays `type`."""
    body = {
        "jsonrpc": "2.0",
        "id": "custom-7",
        "method": "message/send",
        "params": {
            "message": {
                "role": "user",
                "messageId": "m-7",
                "parts": [{"type": "text", "text": "hi"}],
                "x": [None, 1.5],
            }
        },
    }
    await send(slice_, None, me, body)
    (row,) = await poll(slice_, me)
    assert json_format.MessageToDict(row.request_body) == body
    assert not row.HasField("source_id")
    assert (row.activity_type, row.method, row.status) == ("a2a_receive", "message/send", "ok")


async def test_message_speaks_the_older_sdks_words(slice_: Slice, pool: Pool) -> None:
    me, peer = await hire(pool, 2, role="helper", url="http://198.51.100.7/")
    await send(slice_, peer, me, a2a("hi"))
    (row,) = await poll(slice_, me)
    assert row.data == activity_pb2.Activity.Data(
        source="peer_agent",
        text="hi",
        source_id=str(peer),
        peer_name=f"agent {peer}",
        peer_role="helper",
        agent_card_url="http://198.51.100.7/.well-known/agent.json",
    )


async def test_own_words_are_never_dressed_as_a_message(slice_: Slice, me: UUID) -> None:
    """D48: else an older SDK answers itself for ever."""
    await slice_.activity.notify(me, "done")
    (row,) = await poll(slice_, me)
    assert row.method == "notify"
    assert not row.HasField("data")


# Messages.


async def test_message_is_stored_before_it_is_answered(slice_: Slice, pool: Pool) -> None:
    me, peer = await hire(pool, 2)
    answer = await send(slice_, peer, me, a2a())
    assert answer.data == b'{"status":"queued","delivery_mode":"poll","method":"message/send"}'
    (item,) = await slice_.items(me)
    assert (item["source_id"], item["record_source"], item["target_id"]) == (peer, peer, me)


async def test_repeat_of_a_message_adds_nothing(slice_: Slice, pool: Pool) -> None:
    me, peer = await hire(pool, 2)
    for _ in range(2):
        await send(slice_, peer, me, a2a(messageId="m-1"))
    assert len(await slice_.items(me)) == 1
    assert len(await slice_.record_of(me)) == 1


async def test_two_senders_may_choose_one_message_id(slice_: Slice, pool: Pool) -> None:
    """A sender's retry is known by its id; another sender's message is not lost for it."""
    me, peer, third = await hire(pool, 3)
    for source in (peer, third, None, peer):
        await send(slice_, source, me, a2a(messageId="1"))
    assert [item["source_id"] for item in await slice_.items(me)] == [peer, third, None]


async def test_senders_cannot_take_the_platforms_message_ids(slice_: Slice, pool: Pool) -> None:
    """Else a result could be kept from its caller."""
    caller, callee = await hire(pool, 2)
    name = await slice_.delegate(caller, callee)
    await slice_.update(callee, name, "completed", "x")
    (taken,) = [item["message_id"] for item in await slice_.items(caller)]
    second = await slice_.delegate(caller, callee)
    forged = taken.replace(name, second)
    with pytest.raises(Invalid):
        await send(slice_, callee, caller, a2a(messageId=forged))
    assert (await slice_.update(callee, second, "completed", "y")).applied


async def test_message_to_oneself_is_on_record_but_no_item(slice_: Slice, me: UUID) -> None:
    """Acceptance 8: self rows never arrive, neither in the inbox nor as a message received."""
    await send(slice_, me, me, a2a())
    assert await slice_.items(me) == []
    (row,) = await poll(slice_, me)
    assert (row.activity_type, row.HasField("data")) == ("a2a_send", False)


async def test_outcome_of_an_own_task_is_never_dressed_as_a_message(
    slice_: Slice, pool: Pool
) -> None:
    """Its text stands where readers look, but an older SDK must not answer it: that is itself."""
    caller, callee = await hire(pool, 2)
    name = await slice_.delegate(caller, callee)
    await slice_.update(callee, name, "completed", "the result")
    (row,) = [row for row in await poll(slice_, caller) if row.activity_type == "a2a_receive"]
    assert (row.source_id, row.summary) == (str(caller), "the result")
    assert not row.HasField("data")


async def test_reply_of_the_callee_ends_the_delegation_it_names(slice_: Slice, pool: Pool) -> None:
    """D12, D14: as if it had reported it."""
    caller, callee = await hire(pool, 2)
    name = await slice_.delegate(caller, callee)
    await send(slice_, callee, caller, a2a("the answer", metadata={"delegation_id": name}))
    assert (await slice_.row(name))["result"] == "the answer"
    assert [item["method"] for item in await slice_.items(caller)] == [
        "message/send",
        "delegate_result",
    ]


async def test_message_of_the_caller_does_not_end_its_own_delegation(
    slice_: Slice, pool: Pool
) -> None:
    """An agent that hands a task over by itself names the delegation in the very message."""
    caller, callee = await hire(pool, 2)
    await slice_.record(caller, callee, "own")
    await send(slice_, caller, callee, a2a("do this", metadata={"delegation_id": "own"}))
    assert (await slice_.row("own"))["status"] == "dispatched"


async def test_reply_to_somebody_else_does_not_end_a_delegation(slice_: Slice, pool: Pool) -> None:
    caller, callee, third = await hire(pool, 3)
    name = await slice_.delegate(caller, callee)
    await send(slice_, callee, third, a2a("fyi", metadata={"delegation_id": name}))
    await send(slice_, third, caller, a2a("me!", metadata={"delegation_id": name}))
    assert (await slice_.row(name))["status"] == "queued"


async def test_token_of_another_organisation_speaks_for_nobody(slice_: Slice, pool: Pool) -> None:
    """An organisation's token cannot borrow a foreign workspace's name."""
    me, peer = await hire(pool, 2)
    foreign = Principal(Role.ORGANIZATION, UUID(int=9))
    call = Call(metadata={}, principal=foreign)
    body = httpbody_pb2.HttpBody(data=json.dumps(a2a()).encode())
    for source in (str(peer), str(me), ""):
        request = pb.SendMessageRequest(workspace_id=str(me), body=body, source_id=source)
        with pytest.raises(NotFound):
            await slice_.send(request, call)
    assert await slice_.items(me) == []


async def test_organisation_may_speak_for_its_workspaces(slice_: Slice, pool: Pool) -> None:
    me, peer = await hire(pool, 2)
    call = Call(
        metadata={"x-workspace-id": str(peer)},
        principal=Principal(Role.ORGANIZATION, ORGANIZATION),
    )
    body = httpbody_pb2.HttpBody(data=json.dumps(a2a()).encode())
    await slice_.send(pb.SendMessageRequest(workspace_id=str(me), body=body), call)
    assert [item["source_id"] for item in await slice_.items(me)] == [peer]


@pytest.mark.parametrize("claimed", ["webhook:x", "system:cron", "test:1", "channel:slack"])
async def test_inner_callers_cannot_be_claimed(slice_: Slice, me: UUID, claimed: str) -> None:
    call = call_of(me)
    call.metadata = {"x-workspace-id": claimed}
    with pytest.raises(Denied, match="invalid caller ID"):
        await slice_.send(pb.SendMessageRequest(workspace_id=str(me)), call)


async def test_source_must_be_the_tokens_workspace(slice_: Slice, pool: Pool) -> None:
    me, peer = await hire(pool, 2)
    with pytest.raises(Unauthenticated):
        await send(slice_, me, me, a2a(), source_id=str(peer))


_DEEP = '{"method":"message/send","params":{"message":{"parts":[],"x":'


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{",
        b'"text"',
        b'{"method":""}',
        b'{"method":"message/send"}',
        b'{"method":"message/send","params":[]}',
        b'{"method":"message/send","params":{"message":{}}}',
        b'{"method":"x","id":NaN}',
        b'{"method":"x","id":1e400}',
        b'{"method":"x","id":-1e400}',
        b'{"method":"x","id":' + b"9" * 400 + b"}",
        b'{"method":"x","id":' + b"9" * 5000 + b"}",
        (_DEEP + "[" * 50 + "]" * 50 + "}}}").encode(),
        (_DEEP + "[" * 5000 + "]" * 5000 + "}}}").encode(),
        b'{"method":"x","params":{"a":"\xff"}}',
    ],
)
async def test_body_that_cannot_be_stored_and_read_back_is_refused(
    slice_: Slice, me: UUID, data: bytes
) -> None:
    """It is the sender's error, and leaves the record readable."""
    with pytest.raises(Invalid):
        await send(slice_, None, me, data)
    assert await poll(slice_, me) == []


async def test_deepest_body_that_is_taken_can_be_read(slice_: Slice, me: UUID) -> None:
    """Through the parser of protobuf, which gives up at 100 nested messages."""
    nested: Any = 1
    for _ in range(MAX_DEPTH - 4):
        nested = {"a": nested}
    await send(slice_, None, me, a2a(x=nested))
    page = pb.ListActivityResponse(activities=await poll(slice_, me))
    assert pb.ListActivityResponse.FromString(page.SerializeToString()) == page


async def test_text_that_postgres_refuses_is_repaired(slice_: Slice, me: UUID) -> None:
    """NUL is dropped, in keys as in values."""
    data = b'{"method":"x","params":{"a\\u0000":"b\\u0000c","e":"\\ud83d\\ude00"}}'
    await send(slice_, None, me, data)
    (row,) = await poll(slice_, me)
    body = json_format.MessageToDict(row.request_body)
    assert body["params"] == {"a": "bc", "e": "😀"}


async def test_body_larger_than_the_limit_is_refused_by_name(
    database_url: str, pool: Pool, me: UUID
) -> None:
    """Never cut."""
    async with slice_of(database_url, pool, outbound_max_body_bytes=100) as slice_:
        with pytest.raises(Invalid) as refused:
            await send(slice_, None, me, a2a("x" * 100))
        assert (refused.value.reason, refused.value.body) == ("BODY_TOO_LARGE", {"max": 100})


# Reports and notices.


async def test_report_is_on_record_but_no_item(slice_: Slice, me: UUID) -> None:
    """Acceptance 8: an agent's reports never come back, whatever their type."""
    for activity_type in ("a2a_receive", "task_update"):
        await slice_.activity.report(Report(me, activity_type, summary="did it", duration_ms=5))
    newest = (await poll(slice_, me))[0]
    assert (newest.source_id, newest.summary, newest.duration_ms) == (str(me), "did it", 5)
    assert await slice_.items(me) == []


async def test_report_of_another_workspace_is_refused(slice_: Slice, pool: Pool) -> None:
    me, other = await hire(pool, 2)
    with pytest.raises(Denied) as refused:
        await slice_.activity.report(Report(me, "error", source_id=str(other)))
    assert refused.value.reason == "SOURCE_SPOOFED"


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
async def test_report_with_a_number_that_json_lacks_is_refused(me: UUID, number: float) -> None:
    with pytest.raises(Invalid):
        await convert.report(
            pb.ReportActivityRequest(
                workspace_id=str(me),
                activity_type="error",
                tool_trace=struct_pb2.Value(number_value=number),
            ),
            Call({}),
        )


async def test_notice_is_stored_as_the_agents_words(slice_: Slice, me: UUID) -> None:
    """D48: no item, and no `parts` key when there are no files."""
    await slice_.activity.notify(me, "x" * 100)
    (row,) = await poll(slice_, me)
    assert json_format.MessageToDict(row.response_body) == {"result": "x" * 100}
    assert row.summary == "Agent message: " + "x" * 79 + "…"
    assert not row.HasField("source_id")
    assert await slice_.items(me) == []


async def test_notice_with_files_carries_them(slice_: Slice, me: UUID) -> None:
    """D48."""
    file = Attachment("workspace:/a.png", "a.png", "image/png", size=3)
    await slice_.activity.notify(me, "look", [file])
    (row,) = await poll(slice_, me)
    assert json_format.MessageToDict(row.response_body)["parts"] == [
        {
            "kind": "file",
            "file": {
                "uri": "workspace:/a.png",
                "name": "a.png",
                "mimeType": "image/png",
                "size": 3,
            },
        }
    ]


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (Attachment("u", ""), "attachment[1]: uri and name are required"),
        (Attachment("", "n"), "attachment[1]: uri and name are required"),
        (Attachment("u", "n", size=float("inf")), "attachment[1]: size is a number out of range"),
    ],
)
async def test_notice_names_the_attachment_that_is_wrong(
    slice_: Slice, me: UUID, file: Attachment, message: str
) -> None:
    good = Attachment("u", "n")
    with pytest.raises(Invalid) as refused:
        await slice_.activity.notify(me, "m", [good, file])
    assert refused.value.message == message


async def test_nobody_writes_for_an_unknown_workspace(slice_: Slice) -> None:
    nobody = UUID(int=5)
    with pytest.raises(NotFound):
        await slice_.activity.notify(nobody, "m")
    with pytest.raises(NotFound):
        await slice_.activity.report(Report(nobody, "error"))


async def test_records_write_no_event_while_nobody_looks(
    pool: Pool, slice_: Slice, me: UUID
) -> None:
    """What is said to a person is written always: a browser comes back and asks for it."""
    now = 0.0
    with EventReaders.of(slice_.wakeups, lambda: now) as readers:
        assert readers.present  # in doubt
        now = 60.0
        core = dataclasses.replace(slice_.core, readers=readers)
        async with open_record_and_inbox(core) as floors:
            await floors.records.append(note(me))
            await floors.records.append(note(me, method="notify", response_body="{}"))
            assert await shown(pool) == [EventType.AGENT_MESSAGE]
            with readers.attend():
                await floors.records.append(note(me))
            assert await shown(pool) == [EventType.AGENT_MESSAGE, EventType.ACTIVITY_LOGGED]


async def shown(pool: Pool) -> list[str]:
    rows = await pool.fetch("SELECT event_type FROM live_events ORDER BY position")
    return [row["event_type"] for row in rows]


_MANY = """
    INSERT INTO activity_logs (id, workspace_id, activity_type, record_seq)
    SELECT gen_random_uuid(), $1, 'agent_log', n FROM generate_series(1, $2) n
"""


async def found(slice_: Slice, me: UUID, text: str) -> int:
    return len((await slice_.activity.search(me, text)).rows)


FAR = "filler " * 20  # A summary ends before what follows.


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('she said "ship it" today', 'said "ship it"'),
        ("see C:\\temp\\new", "C:\\temp\\n"),
        ("first line\nsecond line", "first line\nsecond"),
        ("a\tb\x1fc", "A\tB\x1fC"),
        ("Zoë in 東京", "zoë IN 東京"),
        ("100% of a_b", "100% of a_b"),
        ('{"messageId": 1}', '{"messageid": 1'),
    ],
)
@pytest.mark.parametrize("part", [{"kind": "text"}, {"type": "text"}, {}])
async def test_a_search_finds_text_whatever_json_makes_of_its_characters(
    slice_: Slice, me: UUID, text: str, wanted: str, part: dict[str, str]
) -> None:
    for said in (text, "nothing of the kind"):
        message = {"parts": [{**part, "text": FAR + said}]}
        await send(slice_, None, me, {"method": "message/send", "params": {"message": message}})
    assert await found(slice_, me, wanted) == 1
    assert await found(slice_, me, wanted + "!") == 0


@pytest.mark.parametrize("name", ["messageId", '"kind"', "jsonrpc", "parts", "message/", "user"])
async def test_a_search_finds_no_names_of_json(slice_: Slice, me: UUID, name: str) -> None:
    await send(slice_, None, me, a2a("hello", metadata={"note": "user"}))
    await slice_.activity.notify(me, "hello")
    assert await found(slice_, me, name) == 0
    assert await found(slice_, me, "HELLO") == 2


async def test_a_search_finds_what_other_parts_and_other_bodies_say(
    slice_: Slice, me: UUID
) -> None:
    file = {"kind": "file", "file": {"name": "tea.pdf"}}
    parts = [{"text": "hi"}, file, {"data": {"order": {"id": 2**60 + 1, "by": "Zoë"}}}]
    await send(
        slice_, None, me, {"method": "message/send", "params": {"message": {"parts": parts}}}
    )
    await slice_.activity.report(
        Report(
            me,
            "error",
            error_detail="out of tea",
            request_body='{"query": {"where": "kitchen", "floor": 12345}}',
        )
    )
    answer = {"jsonrpc": "2.0", "result": {"artifacts": [{"parts": [{"text": "brewed"}]}]}}
    await slice_.activity.report(Report(me, "a2a_send", response_body=json.dumps(answer)))
    odd = '{"params": {"message": {"parts": "sugar"}}, "more": ["milk"]}'
    await slice_.activity.report(Report(me, "agent_log", request_body=odd, response_body='"cup"'))
    for wanted in (
        "sugar",
        "cup",
        "tea.pdf",
        str(2**60 + 1),
        "zoë",
        "out of TEA",
        "kitchen",
        "12345",
        "brewed",
    ):
        assert await found(slice_, me, wanted) == 1, wanted
    for name in ("order", "floor", "artifacts"):
        assert await found(slice_, me, name) == 0, name
