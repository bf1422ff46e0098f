"""Inbox streams through the edge: order, credit, acks, the one holder, and how a stream ends."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from google.protobuf import duration_pb2
from moleculeai.delegation.v1 import delegation_service_pb2 as pb
from moleculeai.delegation.v1 import delegation_service_pb2_grpc as stubs
from moleculeai.delegation.v1 import inbox_pb2
from moleculeai.workspace.v1 import workspace_service_pb2

from tests.e2e.parties import Agent, Organization, Party, Refused
from tests.e2e.readers import Request, holding, listening, reading, tell, tell_many
from tests.e2e.test_delegation import delegated, update
from tests.running import RunningServer
from tests.waiting import PATIENCE, until


@pytest.fixture
async def me(org: Organization) -> Agent:
    return await org.hire()


@pytest.fixture
async def peer(org: Organization) -> Agent:
    return await org.hire()


async def pull(agent: Agent, **params: Any) -> dict[str, Any]:
    answer = await agent.rest("GET", f"/workspaces/{agent.id}/inbox", **params)
    assert answer.status_code == 200, answer.text
    page: dict[str, Any] = answer.json()
    return page


async def ack(agent: Agent, **body: Any) -> Any:
    return await agent.rest("POST", f"/workspaces/{agent.id}/inbox/ack", body)


async def nack(agent: Agent, seq: int, **body: Any) -> Any:
    return await agent.rest("POST", f"/workspaces/{agent.id}/inbox/nack", {"seq": seq, **body})


async def refusal(agent: Agent, consumer: str = "two", **hello: Any) -> Refused:
    """Why the server does not let this consumer have the inbox."""
    with pytest.raises(Refused) as refused:
        async with holding(agent, consumer, **hello):
            pass
    return refused.value


# Delivery.


async def test_welcome_says_where_the_inbox_stands(me: Agent, peer: Agent) -> None:
    await tell_many(peer, me, 3)
    await ack(me, up_to_seq=1)
    async with holding(me) as held:
        welcome = held.welcome
    assert (welcome.head_seq, welcome.acked_seq, welcome.oldest_seq) == (3, 1, 1)
    assert welcome.session_epoch == 1
    assert welcome.generation == (await pull(me))["generation"]


async def test_replay_then_live_in_order(me: Agent, peer: Agent) -> None:
    await tell_many(peer, me, 3)
    async with holding(me, max_in_flight=256) as held:
        items = await held.items(3)
        await tell_many(peer, me, 3, start=3)
        items += await held.items(3)
    assert [item.seq for item in items] == [1, 2, 3, 4, 5, 6]
    assert [item.prev_seq for item in items] == [0, 1, 2, 3, 4, 5]
    assert [item.text for item in items] == ["0", "1", "2", "3", "4", "5"]
    assert {item.delivery for item in items} == {1}


async def test_item_says_who_speaks(me: Agent, peer: Agent, org: Organization) -> None:
    await tell(peer, me, "from a peer", messageId="m-1")
    answer = await org.rest(
        "POST",
        f"/workspaces/{me.id}/a2a",
        {"method": "message/send", "params": {"message": {"content": "from a human"}}},
    )
    assert answer.status_code == 200
    async with holding(me) as held:
        one, two = await held.items(2)
    assert (one.message_id, one.method, one.status) == ("m-1", "message/send", "ok")
    assert (one.kind, one.source_id) == (inbox_pb2.InboxItem.peer_agent, peer.id)
    assert one.source_name.startswith("agent ")
    assert '"messageId":"m-1"' in one.body.replace(" ", "")
    assert (two.kind, two.source_id) == (inbox_pb2.InboxItem.canvas_user, "")
    assert two.text == "from a human"


async def test_large_item_is_named_and_can_be_got(me: Agent, peer: Agent) -> None:
    text = "x" * 300_000
    await tell(peer, me, text)
    async with holding(me) as held:
        item = await held.item()
    assert (item.body, item.text) == ("", "")
    row = await me.rpc(pb.GetActivityRequest(workspace_id=me.id, activity_id=item.body_ref))
    message = row.request_body.struct_value["params"]["message"]
    assert message["parts"][0]["text"] == text


async def test_notices_and_own_rows_never_arrive(me: Agent, peer: Agent) -> None:
    """Acceptance 8."""
    await me.rest("POST", f"/workspaces/{me.id}/notify", {"message": "to the human"})
    report = {"activity_type": "a2a_receive", "method": "message/send", "summary": "mine"}
    await me.rest("POST", f"/workspaces/{me.id}/activity", report)
    await tell(me, me, "to myself")
    await tell(peer, me, "to me")
    async with holding(me) as held:
        item = await held.item()
        await held.quiet()
    assert (item.seq, item.text) == (1, "to me")
    assert [item["text"] for item in (await pull(me))["items"]] == ["to me"]


async def test_result_of_ones_own_delegation_arrives(me: Agent, peer: Agent) -> None:
    name = await delegated(me, peer)
    await update(peer, name, status="failed", error="no tea")
    async with holding(me) as held:
        item = await held.item()
    assert (item.method, item.status, item.delegation_id) == ("delegate_result", "error", name)
    assert (item.source_id, item.text) == (peer.id, "no tea")


# Acks, nacks and credit.


async def test_acked_items_do_not_come_again(me: Agent, peer: Agent) -> None:
    await tell_many(peer, me, 4)
    async with holding(me) as held:
        await held.items(4)
        assert (await held.ack(2, 4)).acked_seq == 0
        result = await held.ack(up_to=1)
        assert (result.acked_seq, result.head_seq) == (2, 4)
    async with holding(me) as held:
        assert (await held.item()).seq == 3
        await held.quiet()


async def test_item_that_was_not_delivered_cannot_be_acked(me: Agent, peer: Agent) -> None:
    await tell_many(peer, me, 3)
    async with holding(me, max_in_flight=2) as held:
        await held.items(2)
        await held.send(ack=inbox_pb2.Ack(up_to_seq=3))
        end, status = await held.end()
    assert (status.code, status.reason) == ("INVALID_ARGUMENT", "ACK_NOT_DELIVERED")
    assert (end.code, end.reason, end.last_seq) == (3, "ACK_NOT_DELIVERED", 2)
    assert (await pull(me))["acked_seq"] == 0


async def test_no_more_than_max_in_flight_are_sent(me: Agent, peer: Agent) -> None:
    await tell_many(peer, me, 5)
    async with holding(me, max_in_flight=2) as held:
        await held.items(2)
        await held.quiet()
        await held.ack(1)
        assert (await held.item()).seq == 3
        await held.quiet()
        await held.ack(up_to=3)
        assert [item.seq for item in await held.items(2)] == [4, 5]


async def test_credit_is_what_may_be_sent(me: Agent, peer: Agent) -> None:
    await tell_many(peer, me, 4)
    async with holding(me, initial_credit=0) as held:
        await held.quiet()
        await held.send(credit=Request.Credit(n=1))
        assert (await held.item()).seq == 1
        await held.quiet()
        await held.ack(1)
        await held.quiet()
        await held.send(credit=Request.Credit(n=2))
        assert [item.seq for item in await held.items(2)] == [2, 3]
        await held.quiet()


async def test_credit_of_a_client_that_counts_none_changes_nothing(me: Agent, peer: Agent) -> None:
    await tell_many(peer, me, 4)
    async with holding(me, max_in_flight=3) as held:
        await held.send(credit=Request.Credit(n=1))
        assert [item.seq for item in await held.items(3)] == [1, 2, 3]
        await held.ack(up_to=3)
        assert (await held.item()).seq == 4


@pytest.mark.clock
async def test_nacked_item_comes_again_after_its_delay(me: Agent, peer: Agent) -> None:
    """Later ones keep flowing, and the repeat is marked."""
    await tell_many(peer, me, 2)
    loop = asyncio.get_running_loop()
    async with holding(me) as held:
        await held.items(2)
        result = await held.nack(1, seconds=1.5, reason="not now")
        given_back = loop.time()
        assert (result.seq, result.deliveries, result.poisoned) == (1, 1, False)
        await tell_many(peer, me, 1, start=2)
        assert (await held.item()).seq == 3
        again = await held.item()
        assert 1.3 < loop.time() - given_back < 4
    assert (again.seq, again.delivery) == (1, 2)


async def test_fifth_nack_fails_the_delegation_that_the_item_carried(
    me: Agent, peer: Agent
) -> None:
    name = await delegated(peer, me)
    async with holding(me) as held:
        for n in range(1, 6):
            item = await held.item()
            assert item.delivery == n
            result = await held.nack(item.seq)
            assert result.poisoned is (n == 5)
        await held.quiet()
        assert (await held.ack()).acked_seq == 1
    async with holding(peer) as held:
        outcome = await held.item()
    assert (outcome.delegation_id, outcome.status) == (name, "error")
    answer = await peer.rest("GET", f"/workspaces/{peer.id}/delegations/{name}")
    assert answer.json()["failure_reason"] == "poisoned"


async def test_unary_acks_and_nacks_make_room_in_a_full_window(me: Agent, peer: Agent) -> None:
    """Also out of order, and for a reader that cannot send frames."""
    await tell_many(peer, me, 4)
    async with reading(me, max_in_flight=2) as reader:
        await reader.items(2)
        await ack(me, seqs=[2])
        assert (await reader.item()).seq == 3
        await nack(me, 1)
        again = await reader.item()
        assert (again.seq, again.delivery) == (1, 2)
        await ack(me, up_to_seq=3)
        assert (await reader.item()).seq == 4


@pytest.mark.parametrize("window", [0, 5])
async def test_reader_with_room_gets_a_nacked_item_again_at_once(
    me: Agent, peer: Agent, window: int
) -> None:
    await tell_many(peer, me, 2)
    async with reading(me, max_in_flight=window) as reader:
        await reader.items(2)
        await nack(me, 1)
        again = await reader.item()
    assert (again.seq, again.delivery, again.prev_seq) == (1, 2, 2)


async def test_ack_by_activity_id_is_a_pop(me: Agent, peer: Agent) -> None:
    await tell_many(peer, me, 2)
    second = (await pull(me))["items"][1]
    answer = await ack(me, activity_ids=[second["activity_id"]])
    assert answer.json() == {"acked_seq": 0, "head_seq": 2, "removed": 1}
    assert [item["seq"] for item in (await pull(me))["items"]] == [1]


async def test_nack_of_an_unknown_item_is_404(me: Agent) -> None:
    answer = await nack(me, 7)
    assert (answer.status_code, answer.json()) == (
        404,
        {"error": "no undone item of this number"},
    )


# The one holder.


async def test_another_consumer_is_told_who_holds_the_inbox(me: Agent) -> None:
    async with holding(me, "first"):
        refused = await refusal(me, "second")
    assert (refused.code, refused.reason) == ("ABORTED", "INBOX_BUSY")


async def test_takeover_fences_the_old_session(me: Agent, peer: Agent) -> None:
    """Acceptance 6: its ack is refused, and the new session gets the items, marked."""
    await tell_many(peer, me, 2)
    async with holding(me, "first") as first:
        await first.items(2)
        async with holding(me, "second", takeover=True) as second:
            assert (await first.of("fenced")).holder == "second"
            _, status = await first.end()
            assert (status.code, status.reason) == ("ABORTED", "FENCED")
            items = await second.items(2)
            assert [(item.seq, item.delivery) for item in items] == [(1, 2), (2, 2)]
            late = await ack(me, seqs=[1], session_epoch=first.welcome.session_epoch)
            assert (late.status_code, late.json()["error"]) == (
                409,
                "a newer session holds this inbox",
            )
            assert (await pull(me))["acked_seq"] == 0
            assert (await second.ack(1, 2)).acked_seq == 2


async def test_old_session_that_acks_before_it_hears_is_refused_whole(
    me: Agent, peer: Agent
) -> None:
    """Acceptance 6: no item is done twice, however the two race."""
    await tell_many(peer, me, 8)
    async with holding(me, "first") as first:
        await first.items(8)
        acks = asyncio.create_task(_ack_all(me, 8, first.welcome.session_epoch))
        async with holding(me, "second", takeover=True) as second:
            taken = await acks
            left = [item.seq for item in await second.items(8 - len(taken))]
    assert sorted(taken + left) == [1, 2, 3, 4, 5, 6, 7, 8]


async def _ack_all(agent: Agent, count: int, epoch: int) -> list[int]:
    """Ack one by one; those that were taken."""
    taken = []
    for seq in range(1, count + 1):
        answer = await ack(agent, seqs=[seq], session_epoch=epoch)
        if answer.status_code == 200:
            taken.append(seq)
    return taken


async def test_same_consumer_replaces_its_old_session(me: Agent, peer: Agent) -> None:
    """A laptop that reconnects does not wait for its lease to lapse."""
    await tell(peer, me, "hi")
    async with holding(me, "laptop") as old:
        await old.item()
        async with holding(me, "laptop") as new:
            assert new.welcome.session_epoch == old.welcome.session_epoch + 1
            await old.of("fenced")
            assert (await new.item()).delivery == 2


async def test_client_that_leaves_frees_the_inbox_at_once(me: Agent, peer: Agent) -> None:
    """In good order the stream ends well; what was not acked comes again, marked."""
    await tell(peer, me, "hi")
    async with holding(me, "first") as held:
        await held.item()
        await held.leave()
        async with holding(me, "second") as other:
            assert (await other.item()).delivery == 2


async def test_client_that_dies_frees_the_inbox(me: Agent) -> None:
    async with holding(me, "first"):
        pass
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                async with holding(me, "second"):
                    return
            except Refused as busy:
                if busy.reason != "INBOX_BUSY":
                    raise


async def test_five_lost_clients_poison_an_item_and_five_resumed_ones_do_not(
    server: RunningServer, me: Agent, peer: Agent
) -> None:
    """`resumes_epoch` says that the work goes on in the process that had it. The last of those
    that said so is not resumed, and counts.
    """
    # A session that takes over before the server saw the last one break off counts no loss.
    database = await asyncpg.connect(server.database_url)
    let_go = "SELECT lease_holder IS NULL FROM inbox_heads WHERE workspace_id = $1"
    await tell_many(peer, me, 2)
    try:
        epoch = None
        for n in range(1, 8):
            async with holding(me, max_in_flight=1, resumes_epoch=epoch) as held:
                item = await held.item()
                assert (item.seq, item.delivery) == (1, n)
                epoch = held.welcome.session_epoch
            await until(lambda: database.fetchval(let_go, UUID(me.id)), bool)
        for _ in range(4):
            async with holding(me, max_in_flight=1) as held:
                assert (await held.item()).seq == 1
            await until(lambda: database.fetchval(let_go, UUID(me.id)), bool)
        async with holding(me, max_in_flight=1) as held:
            assert (await held.item()).seq == 2
    finally:
        await database.close()


async def test_heartbeat_rides_along(me: Agent) -> None:
    async with holding(me) as held:
        beat = workspace_service_pb2.HeartbeatRequest(workspace_id=me.id, active_tasks=3)
        await held.send(heartbeat=beat)
        assert (await held.of("heartbeat_result")).status == "ok"
    answer = await me.rest("GET", f"/workspaces/{me.id}")
    assert answer.json()["active_tasks"] == 3


async def test_heartbeat_for_another_workspace_ends_the_stream(me: Agent, peer: Agent) -> None:
    async with holding(me) as held:
        beat = workspace_service_pb2.HeartbeatRequest(workspace_id=peer.id)
        await held.send(heartbeat=beat)
        _, status = await held.end()
    assert status.code == "UNAUTHENTICATED"


async def test_first_frame_must_be_a_hello(me: Agent, operator: Party) -> None:
    """For a workspace and for the operator alike."""
    for party in (me, operator):
        stub = stubs.DelegationServiceStub(party.wire.channel)
        call = stub.SubscribeInbox(metadata=tuple(party.headers.items()))
        await call.write(Request(pong=Request.Pong()))
        assert (await call.code()).name == "INVALID_ARGUMENT"


async def test_stream_without_any_frame_is_refused(me: Agent) -> None:
    call = stubs.DelegationServiceStub(me.wire.channel).SubscribeInbox(
        metadata=tuple(me.headers.items())
    )
    await call.done_writing()
    assert (await call.code()).name == "INVALID_ARGUMENT"


async def test_client_that_closes_its_side_reads_an_end(me: Agent, peer: Agent) -> None:
    """Without an error, whether there were items or none."""
    for last_seq in (0, 1):
        async with holding(me) as held:
            if last_seq:
                await tell(peer, me, "hi")
                await held.item()
            await held.close_own_side()
            end = await held.of("end")
            assert (end.code, end.reason, end.last_seq) == (0, "", last_seq)
            with pytest.raises(EOFError):
                await held.frame()


async def test_second_hello_ends_the_stream(me: Agent) -> None:
    async with holding(me) as held:
        await held.send(hello=Request.Hello(workspace_id=me.id, consumer_id="one"))
        _, status = await held.end()
    assert status.code == "INVALID_ARGUMENT"


async def test_frame_that_breaks_the_rules_ends_the_stream(me: Agent) -> None:
    async with holding(me) as held:
        await held.send(nack=inbox_pb2.Nack(seq=1, retry_after=duration_pb2.Duration(seconds=-1)))
        _, status = await held.end()
    assert status.code == "INVALID_ARGUMENT"


# Where a stream begins.


async def test_stream_begins_after_a_number(me: Agent, peer: Agent) -> None:
    await tell_many(peer, me, 3)
    start = inbox_pb2.StartPosition(after_seq=2)
    async with reading(me, start=start) as reader:
        item = await reader.item()
    assert (item.seq, item.prev_seq) == (3, 2)


async def test_stream_begins_now_and_names_what_it_skips(me: Agent, peer: Agent) -> None:
    await tell_many(peer, me, 3)
    await ack(me, up_to_seq=1)
    async with reading(me, start=inbox_pb2.StartPosition(from_now=True)) as reader:
        gap = (await reader.frame()).gap
        assert (gap.from_seq, gap.to_seq, gap.reason) == (2, 3, inbox_pb2.Gap.skipped)
        await tell(peer, me, "new")
        assert (await reader.item()).seq == 4


async def test_stream_begins_with_the_last_seconds(me: Agent, peer: Agent) -> None:
    await tell_many(peer, me, 2)
    async with reading(me, start=inbox_pb2.StartPosition(since_seconds=60)) as reader:
        assert (await reader.item()).seq == 1


async def test_cursor_beyond_the_head_is_refused(me: Agent) -> None:
    with pytest.raises(Refused) as refused:
        async with reading(me, start=inbox_pb2.StartPosition(after_seq=9)):
            pass
    assert (refused.value.code, refused.value.reason) == ("OUT_OF_RANGE", "CURSOR_AHEAD")


async def test_cursor_of_another_generation_is_refused(me: Agent, peer: Agent) -> None:
    await tell(peer, me, "hi")
    start = inbox_pb2.StartPosition(after_seq=1, generation="another")
    refused = await refusal(me, start=start)
    assert (refused.code, refused.reason) == ("OUT_OF_RANGE", "CURSOR_UNKNOWN")


@pytest.mark.parametrize("generation", ["\0", "another", "00000000-0000-4000-8000-000000000000"])
async def test_ack_and_nack_of_another_generation_are_refused(
    me: Agent, peer: Agent, generation: str
) -> None:
    """Any other text as `generation` reads 410, also a NUL, which Postgres cannot store."""
    await tell(peer, me, "hi")
    path = f"/workspaces/{me.id}/inbox"
    for verb, body in (("ack", {"up_to_seq": 1}), ("nack", {"seq": 1})):
        answer = await me.rest("POST", f"{path}/{verb}", {**body, "generation": generation})
        assert answer.status_code == 410, answer.text


async def test_generation_of_an_empty_inbox_is_still_good_when_items_came(
    me: Agent, peer: Agent
) -> None:
    """A reader that came first and reconnects is not sent back to the start."""
    async with reading(me) as reader:
        generation = reader.welcome.generation
        await tell(peer, me, "hi")
        await reader.item()
    start = inbox_pb2.StartPosition(after_seq=1, generation=generation)
    async with reading(me, start=start) as reader:
        await tell(peer, me, "again")
        assert (await reader.item()).seq == 2


# Without a lease.


async def test_several_readers_see_the_same(me: Agent, peer: Agent) -> None:
    async with reading(me) as one, reading(me) as two, holding(me) as three:
        await tell_many(peer, me, 3)
        for reader in (one, two, three):
            assert [item.seq for item in await reader.items(3)] == [1, 2, 3]
        assert one.welcome.session_epoch == 0


async def test_poller_and_stream_see_the_same_set(me: Agent, peer: Agent) -> None:
    """Acceptance 7: messages, tasks and results, while both read."""
    async with reading(me) as reader:
        own = [await delegated(me, peer) for _ in range(3)]
        await asyncio.gather(
            tell_many(peer, me, 5),
            *(delegated(peer, me) for _ in range(4)),
            *(update(peer, name, status="completed", response_preview="x") for name in own),
        )
        streamed = {item.activity_id for item in await reader.items(12)}
    answer = await me.rest("GET", f"/workspaces/{me.id}/activity", type="a2a_receive")
    assert {row["id"] for row in answer.json()} == streamed
    assert {item["activity_id"] for item in (await pull(me))["items"]} == streamed


async def test_idle_stream_beats(me: Agent, peer: Agent) -> None:
    await tell(peer, me, "hi")
    async with reading(me) as reader:
        await reader.item()
        beat = await reader.of("beat")
    assert (beat.head_seq, beat.acked_seq, beat.paused) == (1, 0, False)
    assert beat.server_time.seconds > 0


# Pull.


async def test_pull_answers_at_once_when_there_is_something(me: Agent, peer: Agent) -> None:
    await tell_many(peer, me, 3)
    page = await pull(me, limit=2, wait_seconds=20)
    assert [(item["seq"], item["prev_seq"]) for item in page["items"]] == [(1, 0), (2, 1)]
    assert (page["head_seq"], page["acked_seq"], page["oldest_seq"]) == (3, 0, 1)


@pytest.mark.clock
async def test_pull_waits_for_the_first_item(me: Agent, peer: Agent) -> None:
    waiting = asyncio.create_task(pull(me, wait_seconds=20))
    done, _ = await asyncio.wait({waiting}, timeout=0.5)
    assert not done
    await tell(peer, me, "hi")
    async with asyncio.timeout(5):
        assert [item["text"] for item in (await waiting)["items"]] == ["hi"]


async def test_pull_without_items_answers_when_time_is_up(me: Agent) -> None:
    page = await pull(me, wait_seconds=1)
    assert page == {"items": [], "head_seq": 0, "acked_seq": 0, "oldest_seq": 1, "generation": ""}


@pytest.mark.clock
async def test_pull_answers_before_its_caller_gives_up(me: Agent) -> None:
    """Who asks to wait beyond its own deadline reads an answer, and no DEADLINE_EXCEEDED."""
    stub = stubs.DelegationServiceStub(me.wire.channel)
    answer = await stub.PullInbox(
        pb.PullInboxRequest(workspace_id=me.id, wait_seconds=30),
        metadata=tuple(me.headers.items()),
        timeout=2,
    )
    assert len(answer.items) == 0


async def test_pull_after_a_number(me: Agent, peer: Agent) -> None:
    await tell_many(peer, me, 3)
    assert [item["seq"] for item in (await pull(me, after_seq=1))["items"]] == [2, 3]
    answer = await me.rest("GET", f"/workspaces/{me.id}/inbox", after_seq=9)
    assert answer.status_code == 410
    assert answer.json()["error"] == "the cursor lies beyond the newest item"


async def test_pull_after_an_ack_never_shows_what_is_done(me: Agent, peer: Agent) -> None:
    """Not even from the memory of a worker that streams the same inbox."""
    async with reading(me) as reader:
        for n in range(1, 6):
            await tell(peer, me, "hi")
            await reader.item()
            assert [item["seq"] for item in (await pull(me))["items"]] == [n]
            await ack(me, up_to_seq=n)
            assert (await pull(me))["items"] == []


# Server-sent events.


async def test_sse_welcomes_delivers_and_beats(me: Agent, peer: Agent) -> None:
    async with listening(me) as feed:
        welcome = (await feed.frame())["welcome"]
        assert welcome.items() >= {"session_epoch": 0, "head_seq": 0, "acked_seq": 0}.items()
        await tell(peer, me, "hi", messageId="m-1")
        item = (await feed.frame())["item"]
        assert (
            item.items()
            >= {
                "seq": 1,
                "prev_seq": 0,
                "delivery": 1,
                "message_id": "m-1",
                "method": "message/send",
                "kind": "peer_agent",
                "source_id": peer.id,
                "text": "hi",
            }.items()
        )
        beat = await feed.frame(beats=True)
        assert beat["beat"]["head_seq"] == 1


async def test_sse_resumes_after_a_number(me: Agent, peer: Agent) -> None:
    await tell_many(peer, me, 3)
    async with listening(me, **{"start.after_seq": 2}) as feed:
        await feed.frame()
        assert (await feed.frame())["item"]["seq"] == 3


async def test_sse_ends_with_a_frame_that_says_why(
    me: Agent, peer: Agent, org: Organization
) -> None:
    """A browser sees no trailers."""
    await tell(peer, me, "hi")
    async with listening(me) as feed:
        await feed.frame()
        await feed.frame()
        await org.rest("DELETE", f"/workspaces/{me.id}", confirm="true")
        end = (await feed.frame())["end"]
    assert (end["code"], end["reason"], end["last_seq"]) == (5, "WORKSPACE_REMOVED", 1)


# Ends.


@pytest.mark.clock
async def test_revoked_token_ends_the_stream_within_5_seconds(me: Agent, org: Organization) -> None:
    """And only that token's streams."""
    answer = await org.rest("POST", f"/workspaces/{me.id}/tokens")
    other = Agent(me.wire, me.wire.party(answer.json()["auth_token"]).headers, me.id, "")
    tokens = (await me.rest("GET", f"/workspaces/{me.id}/tokens")).json()["tokens"]
    mine = next(token for token in tokens if me.token.startswith(token["prefix"]))
    async with reading(me) as reader, reading(other) as kept:
        await org.rest("DELETE", f"/workspaces/{me.id}/tokens/{mine['id']}")
        async with asyncio.timeout(5):
            end, status = await reader.end()
        assert (status.code, end.code) == ("UNAUTHENTICATED", 16)
        await kept.quiet()


@pytest.mark.clock
async def test_revoked_token_ends_a_waiting_pull_at_once(
    me: Agent, peer: Agent, org: Organization
) -> None:
    """And not the one of another token."""
    answer = await org.rest("POST", f"/workspaces/{me.id}/tokens")
    other = Agent(me.wire, me.wire.party(answer.json()["auth_token"]).headers, me.id, "")
    tokens = (await me.rest("GET", f"/workspaces/{me.id}/tokens")).json()["tokens"]
    mine = next(token for token in tokens if me.token.startswith(token["prefix"]))
    request = pb.PullInboxRequest(workspace_id=me.id, wait_seconds=50)
    doomed, kept = (asyncio.create_task(party.rpc(request)) for party in (me, other))
    done, _ = await asyncio.wait({doomed, kept}, timeout=1)
    assert not done
    await org.rest("DELETE", f"/workspaces/{me.id}/tokens/{mine['id']}")
    async with asyncio.timeout(5):
        with pytest.raises(Refused) as ended:
            await doomed
    assert ended.value.code == "UNAUTHENTICATED"
    await tell(peer, me, "hi")
    assert [item.seq for item in (await kept).items] == [1]


@pytest.mark.clock
async def test_removed_workspace_ends_the_stream_within_5_seconds(
    me: Agent, org: Organization
) -> None:
    async with holding(me) as held:
        await org.rest("DELETE", f"/workspaces/{me.id}", confirm="true")
        async with asyncio.timeout(5):
            end, status = await held.end()
    assert (status.code, status.reason) == ("NOT_FOUND", "WORKSPACE_REMOVED")
    assert (end.code, end.reason) == (5, "WORKSPACE_REMOVED")


async def test_never_acking_consumer_gets_its_window_and_bothers_nobody(
    me: Agent, peer: Agent, org: Organization
) -> None:
    """Acceptance 5: the rest waits in the table; another inbox flows."""
    other = await org.hire()
    async with holding(me, max_in_flight=3) as stuck, holding(other, max_in_flight=3) as fine:
        await asyncio.gather(tell_many(peer, me, 30), tell_many(peer, other, 30))
        await stuck.items(3)
        for seq in range(1, 31):
            assert (await fine.item()).seq == seq
            await fine.ack(seq)
        await stuck.quiet()
        assert len((await pull(me, limit=100))["items"]) == 30


async def test_stranger_reads_nothing(me: Agent, peer: Agent, stranger: Party) -> None:
    for party in (peer, stranger):
        intruder = Agent(me.wire, party.headers, me.id, "")
        with pytest.raises(Refused) as refused:
            async with reading(intruder):
                pass
        assert refused.value.code == "UNAUTHENTICATED"
        assert (await refusal(intruder)).code == "UNAUTHENTICATED"
