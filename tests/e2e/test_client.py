"""What the SDK promises: against the real server, and through a network that fails."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
from google.protobuf import json_format
from moleculeai.delegation.v1 import delegation_pb2
from moleculeai.delegation.v1 import delegation_service_pb2 as pb
from moleculeai.workspace.v1 import workspace_pb2

from molecule_grpc.client import errors
from molecule_grpc.client.agent import Agent
from molecule_grpc.client.items import Item
from molecule_grpc.client.platform import Platform
from molecule_grpc.client.retry import Backoff
from molecule_grpc.client.serve import Handler
from tests.e2e.agents import Pair, open_pair
from tests.e2e.network import Relay
from tests.running import RunningServer
from tests.waiting import PATIENCE

pytestmark = pytest.mark.e2e

_FAILED = delegation_pb2.Delegation.Status.failed


@pytest.fixture(autouse=True)
def nothing_left_behind(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No task may be forgotten, nor its error."""
    yield
    gc.collect()
    for when in ("setup", "call"):
        assert not [record for record in caplog.get_records(when) if record.name == "asyncio"]


@pytest.fixture
async def platform(server: RunningServer) -> AsyncIterator[Platform]:
    async with Platform(server.url, server.admin_token) as opened:
        yield opened


@pytest.fixture
async def pair(platform: Platform, server: RunningServer) -> AsyncIterator[Pair]:
    async with open_pair(platform, server.url) as opened:
        yield opened


@pytest.fixture
async def relay(server: RunningServer) -> AsyncIterator[Relay]:
    async with Relay(server.port) as opened:
        yield opened


@pytest.fixture
async def far_worker(pair: Pair, relay: Relay) -> AsyncIterator[Agent]:
    """The worker, connected through the relay."""
    identity = pair.worker_identity
    async with Agent(relay.url, identity.workspace_id, identity.token) as agent:
        yield agent


@contextlib.asynccontextmanager
async def serving(agent: Agent, handler: Handler, **options: object) -> AsyncIterator[None]:
    """Serve while inside; an error of the server is raised at the end."""
    task = asyncio.create_task(agent.serve(handler, **options))  # type: ignore[arg-type]
    try:
        yield
    finally:
        ended = task.done()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert not ended, "serve ended by itself"


async def until(check: Callable[[], Awaitable[bool]]) -> None:
    """Wait until the platform says so."""
    async with asyncio.timeout(PATIENCE):
        while not await check():
            await asyncio.sleep(0.02)


async def undone(agent: Agent) -> list[str]:
    """Texts of what is not done."""
    return [item.text for item in (await agent.pull()).items]


# Work, from hand to hand.


async def test_what_a_handler_returns_reaches_whoever_delegated(pair: Pair) -> None:
    async def shout(item: Item) -> str:
        return item.text.upper()

    async with serving(pair.worker, shout):
        made = await pair.lead.delegate(pair.worker.workspace_id, "hello")
        async with asyncio.timeout(PATIENCE):
            async for item in pair.lead.inbox():
                assert (item.method, item.delegation_id) == ("delegate_result", made.id)
                assert item.text == "HELLO"
                break


async def test_delegate_can_wait_for_the_result(pair: Pair) -> None:
    async def reverse(item: Item) -> str:
        return item.text[::-1]

    async with serving(pair.worker, reverse):
        done = await pair.lead.delegate(pair.worker.workspace_id, "abc", wait=10)
    assert done.require_text() == "cba"


async def test_the_item_of_a_task_is_acked_after_its_result_is_stored(
    pair: Pair, far_worker: Agent, relay: Relay
) -> None:
    async def work(item: Item) -> str:
        relay.lose_answers = True
        return "stored"

    async with serving(far_worker, work):
        made = await pair.lead.delegate(pair.worker.workspace_id, "keep me")
        assert (await pair.lead.result(made.id, PATIENCE)).text == "stored"
        await asyncio.sleep(0.2)  # time for an ack that does not wait for the answer
        assert await undone(pair.worker) == ["keep me"]
        relay.cut()
        await until(lambda: _is_empty(pair.worker))


async def _is_empty(agent: Agent) -> bool:
    return not await undone(agent)


async def test_a_task_failed_by_its_handler_fails_for_its_source(pair: Pair) -> None:
    async def refuse(item: Item) -> str:
        raise errors.TaskFailed("no such file")

    async with serving(pair.worker, refuse):
        ended = await pair.lead.delegate(pair.worker.workspace_id, "read it", wait=10)
    assert (ended.status, ended.error, ended.failure_reason) == (
        "failed",
        "no such file",
        "agent_error",
    )
    with pytest.raises(errors.TaskFailed, match="no such file"):
        ended.require_text()


async def test_a_handler_that_breaks_gets_its_item_again(pair: Pair) -> None:
    deliveries: list[int] = []

    async def stumble(item: Item) -> str:
        deliveries.append(item.delivery)
        if item.delivery == 1:
            raise RuntimeError("once")
        return "then fine"

    async with serving(pair.worker, stumble):
        done = await pair.lead.delegate(pair.worker.workspace_id, "twice", wait=20)
    assert (done.text, deliveries) == ("then fine", [1, 2])


async def test_no_more_handlers_run_at_once_than_agreed(pair: Pair) -> None:
    running, most, go = 0, 0, asyncio.Event()

    async def count(item: Item) -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 2:
            go.set()
        await go.wait()
        running -= 1
        return "done"

    made = [await pair.lead.delegate(pair.worker.workspace_id, f"task {n}") for n in range(6)]
    async with serving(pair.worker, count, concurrency=2):
        results = [await pair.lead.result(each.id, PATIENCE) for each in made]
    assert [each.status for each in results] == ["completed"] * 6
    assert most == 2


async def test_a_task_that_ended_elsewhere_stops_its_handler(pair: Pair) -> None:
    started, stopped = asyncio.Event(), asyncio.Event()

    async def never(item: Item) -> str:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return "never"

    async with serving(pair.worker, never, beat_every=0.1), asyncio.timeout(PATIENCE):
        made = await pair.lead.delegate(pair.worker.workspace_id, "endless")
        await started.wait()
        await _fail(pair.lead, made.id)
        await stopped.wait()
        await until(lambda: _is_empty(pair.worker))


async def _fail(source: Agent, delegation_id: str) -> None:
    request = pb.UpdateDelegationRequest(
        workspace_id=source.workspace_id, delegation_id=delegation_id, status=_FAILED, error="stop"
    )
    await source.connection.call(
        source.connection.delegations.UpdateDelegation, request, retry=True
    )


async def test_a_task_that_has_ended_is_only_acked(pair: Pair) -> None:
    handled: list[str] = []

    async def handle(item: Item) -> str:
        handled.append(item.text)
        return "again"

    await pair.lead.delegate(pair.worker.workspace_id, "done before")
    async with asyncio.timeout(PATIENCE), pair.worker.inbox() as inbox:
        await pair.worker.reply(await inbox.next(), "done")
    assert await undone(pair.worker) == ["done before"]
    async with serving(pair.worker, handle):
        await until(lambda: _is_empty(pair.worker))
    assert handled == []


async def test_a_result_that_is_refused_fails_the_task(pair: Pair) -> None:
    async def too_much(item: Item) -> str:
        return "x" * 1_048_577

    async with serving(pair.worker, too_much):
        made = await pair.lead.delegate(pair.worker.workspace_id, "write a lot")
        ended = await pair.lead.result(made.id, PATIENCE)
    assert (ended.status, "result was refused" in ended.error) == ("failed", True)


async def test_the_first_beat_shows_that_work_has_begun(pair: Pair) -> None:
    started, go = asyncio.Event(), asyncio.Event()

    async def wait(item: Item) -> str:
        started.set()
        await go.wait()
        return "done"

    async with serving(pair.worker, wait), asyncio.timeout(PATIENCE):
        made = await pair.lead.delegate(pair.worker.workspace_id, "slow")
        await started.wait()
        assert (await pair.lead.delegation(made.id)).status == "in_progress"
        go.set()
        assert (await pair.lead.result(made.id)).text == "done"


async def test_a_result_is_found_while_the_own_inbox_takes_its_item(pair: Pair) -> None:
    async def ignore(item: Item) -> None:
        return None

    async def work(item: Item) -> str:
        return "yes"

    async with serving(pair.lead, ignore), serving(pair.worker, work):
        made = await pair.lead.delegate(pair.worker.workspace_id, "ask")
        assert (await pair.lead.result(made.id, PATIENCE)).text == "yes"


async def test_a_result_that_does_not_come_is_waited_for_only_so_long(pair: Pair) -> None:
    made = await pair.lead.delegate(pair.worker.workspace_id, "nobody does it")
    with pytest.raises(TimeoutError):
        await pair.lead.result(made.id, wait=0.1)


async def test_whoever_watches_sees_every_step(pair: Pair) -> None:
    made = await pair.lead.delegate(pair.worker.workspace_id, "slowly")
    steps = pair.lead.watch(made.id)
    async with asyncio.timeout(PATIENCE):
        assert (await anext(steps)).status == "queued"
        await pair.worker.beat(made.id, "half of it", 50)
        half = await anext(steps)
        assert (half.status, half.note, half.percent) == ("in_progress", "half of it", 50)
        await pair.worker.reply(await pair.worker.inbox().next(), "all")
        assert [(step.status, step.text) async for step in steps] == [("completed", "all")]


async def test_cancelling_stops_the_handler_without_waiting_for_a_beat(pair: Pair) -> None:
    started, stopped = asyncio.Event(), asyncio.Event()

    async def never(item: Item) -> str:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return "never"

    async with serving(pair.worker, never, beat_every=600.0), asyncio.timeout(PATIENCE):
        made = await pair.lead.delegate(pair.worker.workspace_id, "endless")
        await started.wait()
        assert await pair.lead.cancel(made.id, "changed my mind")
        await stopped.wait()
        await until(lambda: _is_empty(pair.worker))
    ended = await pair.lead.delegation(made.id)
    assert (ended.status, ended.failure_reason) == ("failed", "cancelled")
    assert "changed my mind" in ended.error


async def test_a_failed_task_is_handed_over_again_as_often_as_agreed(pair: Pair) -> None:
    tries = 0

    async def second_time_lucky(item: Item) -> str:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise errors.TaskFailed("not yet")
        return "now"

    async with serving(pair.worker, second_time_lucky):
        made = await pair.lead.delegate(
            pair.worker.workspace_id, "try twice", attempts=2, attempts_wait=1
        )
        assert (await pair.lead.result(made.id, PATIENCE)).text == "now"


async def test_a_body_above_the_streams_limit_arrives_whole(pair: Pair) -> None:
    text = "x" * 400_000
    await pair.lead.delegate(pair.worker.workspace_id, text)
    async with asyncio.timeout(PATIENCE):
        item = await pair.worker.inbox().next()
    assert item.text == text
    assert item.json()["params"]["message"]["parts"][0]["text"] == text


async def test_delegations_are_listed_over_all_pages(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("molecule_grpc.client.source._PAGE", 2)
    made = [await pair.lead.delegate(pair.worker.workspace_id, f"task {n}") for n in range(5)]
    found = [each.delegation_id async for each in pair.lead.delegations(direction="sent")]
    assert found == [each.id for each in reversed(made)]


# Messages.


async def test_a_reply_to_a_peer_says_what_it_answers(pair: Pair) -> None:
    await pair.lead.send(pair.worker.workspace_id, "how are you?")
    async with asyncio.timeout(PATIENCE):
        question = await pair.worker.inbox().next()
        await pair.worker.reply(question, "fine")
        answer = await pair.lead.inbox().next()
    assert answer.text == "fine"
    metadata = answer.json()["params"]["message"]["metadata"]
    assert metadata["in_reply_to"] == question.message_id


async def test_the_same_reply_sent_twice_is_one_message(pair: Pair) -> None:
    await pair.lead.send(pair.worker.workspace_id, "ping")
    async with asyncio.timeout(PATIENCE):
        question = await pair.worker.inbox().next()
    await pair.worker.reply(question, "pong")
    await pair.worker.reply(question, "pong")
    assert await undone(pair.lead) == ["pong"]


async def test_a_reply_to_the_human_is_a_notification(pair: Pair, platform: Platform) -> None:
    async with platform.agent("") as human:
        await human.send(pair.worker.workspace_id, "status?")
    async with asyncio.timeout(PATIENCE):
        question = await pair.worker.inbox().next()
    assert question.from_human
    await question.ack()
    await pair.worker.reply(question, "all well")
    assert await _spoken(pair.worker) == ["all well"]
    await until(lambda: _is_empty(pair.worker))  # it never comes back as inbox


async def _spoken(agent: Agent) -> list[object]:
    """What the agent has said to the human."""
    request = pb.ListActivityRequest(workspace_id=agent.workspace_id, type="a2a_receive")
    stub = agent.connection.delegations.ListActivity
    rows = (await agent.connection.call(stub, request, retry=True)).activities
    bodies = [row.response_body for row in rows if row.method == "notify"]
    return [json_format.MessageToDict(body)["result"] for body in bodies]


# The inbox.


async def test_a_loop_acks_an_item_when_it_asks_for_the_next(pair: Pair) -> None:
    for text in ("one", "two", "three"):
        await pair.lead.send(pair.worker.workspace_id, text)
    seen: list[str] = []
    async with asyncio.timeout(PATIENCE):
        async for item in pair.worker.inbox():
            seen.append(item.text)
            if item.text == "three":
                break
    await until(lambda: _left(pair.worker, ["three"]))
    assert seen == ["one", "two", "three"]


async def _left(agent: Agent, texts: list[str]) -> bool:
    return await undone(agent) == texts


async def test_an_item_acked_before_a_break_is_done(pair: Pair) -> None:
    await pair.lead.send(pair.worker.workspace_id, "only")
    async with asyncio.timeout(PATIENCE):
        async for item in pair.worker.inbox():
            await item.ack()
            break
    await until(lambda: _is_empty(pair.worker))


async def test_what_was_not_handed_out_is_not_counted_as_delivered(pair: Pair) -> None:
    for text in ("one", "two"):
        await pair.lead.send(pair.worker.workspace_id, text)
    async with asyncio.timeout(PATIENCE):
        for _ in range(2):
            async with pair.worker.inbox() as inbox:
                assert (await inbox.next()).text == "one"
                await asyncio.sleep(0.1)  # time for more to come, if more was asked for
        async with pair.worker.inbox() as inbox:
            found = [await inbox.next(), await inbox.next()]
    assert [(item.text, item.delivery) for item in found] == [("one", 3), ("two", 1)]


async def test_leaving_in_good_order_never_makes_poison(pair: Pair) -> None:
    await pair.lead.send(pair.worker.workspace_id, "patient")
    async with asyncio.timeout(PATIENCE):
        for _ in range(7):
            async with pair.worker.inbox() as inbox:
                assert (await inbox.next()).text == "patient"


async def test_an_error_in_the_block_gives_the_item_back(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("molecule_grpc.client.inbox._RETRY_AFTER_SECONDS", 0.1)
    await pair.lead.send(pair.worker.workspace_id, "difficult")
    with contextlib.suppress(ZeroDivisionError):
        async with asyncio.timeout(PATIENCE), pair.worker.inbox() as inbox:
            async for _ in inbox:
                raise ZeroDivisionError
    async with asyncio.timeout(PATIENCE):
        again = await pair.worker.inbox().next()
    assert (again.text, again.delivery) == ("difficult", 2)


async def test_an_open_inbox_is_a_sign_of_life(pair: Pair, platform: Platform) -> None:
    async def online() -> bool:
        found = await platform.workspace(pair.worker.workspace_id)
        return found.status == workspace_pb2.Workspace.Status.online

    assert not await online()
    async with pair.worker.inbox(heartbeat_every=0.1):
        await until(online)


async def test_another_consumer_is_refused_by_name(pair: Pair) -> None:
    async with pair.worker.inbox(consumer_id="first") as first:
        await pair.lead.send(pair.worker.workspace_id, "hello")
        await first.next()
        with pytest.raises(errors.InboxBusy) as refused:
            await pair.worker.inbox(consumer_id="second").next()
    assert refused.value.holder == "first"


async def test_a_takeover_ends_the_consumer_before(pair: Pair) -> None:
    async with pair.worker.inbox(consumer_id="first") as first, asyncio.timeout(PATIENCE):
        await pair.lead.send(pair.worker.workspace_id, "hello")
        await first.next()
        second = pair.worker.inbox(consumer_id="second", takeover=True)
        assert (await second.next()).text == "hello"
        with pytest.raises(errors.Fenced):
            await first.next()


async def test_a_revoked_token_ends_the_inbox(pair: Pair, platform: Platform) -> None:
    (token,) = await platform.tokens(pair.worker.workspace_id)
    async with pair.worker.inbox() as inbox, asyncio.timeout(PATIENCE):
        await pair.lead.send(pair.worker.workspace_id, "hello")
        await (await inbox.next()).ack()
        await platform.revoke_token(pair.worker.workspace_id, token.id)
        with pytest.raises(errors.Unauthenticated):
            await inbox.next()


# A network that fails.


async def test_an_inbox_goes_on_by_itself_when_its_connection_breaks(
    pair: Pair, far_worker: Agent, relay: Relay
) -> None:
    async with far_worker.inbox() as inbox, asyncio.timeout(PATIENCE):
        for text in ("before", "after"):
            await pair.lead.send(pair.worker.workspace_id, text)
            item = await inbox.next()
            assert item.text == text
            # The server may have written the second item to the connection that was cut.
            assert item.delivery <= (1 if text == "before" else 2)
            await item.ack()
            relay.cut()


async def test_an_item_in_work_is_not_handed_out_again(
    pair: Pair, far_worker: Agent, relay: Relay
) -> None:
    async with far_worker.inbox() as inbox, asyncio.timeout(PATIENCE):
        await pair.lead.send(pair.worker.workspace_id, "long work")
        long_work = await inbox.next()
        relay.cut()
        await pair.lead.send(pair.worker.workspace_id, "next")
        assert (await inbox.next()).text == "next"
        await long_work.ack()
        await until(lambda: _left(pair.worker, ["next"]))


async def test_a_repeat_of_what_was_done_is_only_acked(
    pair: Pair, far_worker: Agent, relay: Relay
) -> None:
    async with far_worker.inbox() as inbox, asyncio.timeout(PATIENCE):
        await pair.lead.send(pair.worker.workspace_id, "once")
        item = await inbox.next()
        relay.lose_requests = True
        await item.ack()
        await asyncio.sleep(0.1)  # time for the ack to be lost
        assert await undone(pair.worker) == ["once"]
        waiting = asyncio.create_task(inbox.next())
        relay.cut()
        await until(lambda: _is_empty(pair.worker))
        await pair.lead.send(pair.worker.workspace_id, "another")
        assert (await waiting).text == "another"


async def test_a_delegate_whose_answer_was_lost_is_made_once(
    pair: Pair, relay: Relay, platform: Platform
) -> None:
    identity = pair.lead_identity
    async with Agent(relay.url, identity.workspace_id, identity.token) as far_lead:
        await far_lead.peers()  # the connection stands
        relay.lose_answers = True
        calling = asyncio.create_task(far_lead.delegate(pair.worker.workspace_id, "just once"))
        await until(lambda: _left(pair.worker, ["just once"]))
        relay.cut()
        made = await calling
    assert made.known
    assert [each.delegation_id async for each in pair.lead.delegations()] == [made.id]


async def test_finished_work_is_reported_when_the_network_is_back(
    pair: Pair, far_worker: Agent, relay: Relay
) -> None:
    runs, worked = 0, asyncio.Event()

    async def work(item: Item) -> str:
        nonlocal runs
        runs += 1
        relay.lose_requests = True
        worked.set()
        return "at last"

    async with serving(far_worker, work):
        made = await pair.lead.delegate(pair.worker.workspace_id, "report")
        async with asyncio.timeout(PATIENCE):
            await worked.wait()
        relay.cut()
        assert (await pair.lead.result(made.id, PATIENCE)).text == "at last"
        await until(lambda: _is_empty(pair.worker))
    assert runs == 1


async def test_an_answer_to_another_call_ends_the_wait_for_the_platform(pair: Pair) -> None:
    backoff = Backoff(first=0.1, most=10_000)
    for _ in range(20):
        backoff.next_wait()
    waiting = asyncio.create_task(pair.lead.connection.pause(backoff))
    await asyncio.sleep(0)  # it waits
    await pair.lead.peers()
    await asyncio.wait_for(waiting, PATIENCE)


# Errors.


async def test_errors_carry_their_reason(pair: Pair) -> None:
    with pytest.raises(errors.NotFound) as missing:
        await pair.lead.delegation(str(uuid.uuid4()))
    assert missing.value.reason == "DELEGATION_NOT_FOUND"
    assert missing.value.metadata["delegation_id"]


async def test_errors_name_the_malformed_fields(pair: Pair) -> None:
    with pytest.raises(errors.InvalidArgument) as wrong:
        await pair.lead.delegate("not a uuid", "task")
    assert [field for field, _ in wrong.value.violations] == ["target_id"]


async def test_a_wrong_token_is_refused_at_once(server: RunningServer, pair: Pair) -> None:
    async with Agent(server.url, pair.lead.workspace_id, "wrong") as agent:
        with pytest.raises(errors.Unauthenticated):
            await agent.peers()
        with pytest.raises(errors.Unauthenticated):
            await agent.inbox().next()


async def test_nobody_there_is_unavailable_when_time_is_up() -> None:
    async with Platform("http://127.0.0.1:1", "token", timeout=0.5) as platform:
        with pytest.raises(errors.Unavailable):
            await platform.organizations()
        assert not await platform.is_healthy()


async def test_a_card_survives_registration(pair: Pair) -> None:
    card = {"name": "worker", "skills": [{"id": "a"}], "version": 1, "url": None}
    await pair.worker.register(card)
    (peer,) = await pair.lead.peers(pair.worker_identity.name)
    assert json_format.MessageToDict(peer.agent_card) == card
