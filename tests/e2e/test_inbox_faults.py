"""Inboxes when servers die, drain or do not hear of each other."""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import grpc
import pytest
from google.api import httpbody_pb2
from moleculeai.delegation.v1 import delegation_service_pb2 as pb
from moleculeai.delegation.v1 import delegation_service_pb2_grpc as stubs
from moleculeai.delegation.v1 import inbox_pb2

from tests.conftest import LONG, execute, with_database
from tests.e2e.parties import Agent, Organization, Refused, found, wire_to
from tests.e2e.readers import Holder, Reader, holding, listening, reading, tell, tell_many
from tests.running import RunningServer
from tests.waiting import PATIENCE

pytestmark = pytest.mark.slow

Start = Callable[..., RunningServer]


@pytest.fixture(scope="module")
def two_workers(
    postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """One server with two workers for all tests of this module that change nothing of it."""
    with _serving(postgres, template, tmp_path_factory.mktemp("two")) as running:
        yield running


@pytest.fixture(scope="module")
def deaf_workers(
    postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """A server with two workers that hear nothing of each other's news."""
    directory = tmp_path_factory.mktemp("deaf")
    with _serving(postgres, template, directory, MOLECULE_INBOX_NOTIFY="0") as running:
        yield running


@contextlib.contextmanager
def _serving(
    postgres: str, template: str, directory: Path, **environment: str
) -> Iterator[RunningServer]:
    name = f"faults_{uuid.uuid4().hex[:12]}"
    asyncio.run(execute(postgres, f"CREATE DATABASE {name} TEMPLATE {template}"))
    url = with_database(postgres, name)
    running = RunningServer(url, directory, WORKERS="2", **environment)
    running.start()
    yield running
    running.kill()
    asyncio.run(execute(postgres, f"DROP DATABASE {name} WITH (FORCE)"))


@contextlib.asynccontextmanager
async def staff_of(server: RunningServer) -> AsyncIterator[Organization]:
    """An organisation at this server."""
    async with wire_to(server) as wire:
        yield await found(wire, wire.party(server.admin_token))


@dataclass
class Consumer:
    """Acts on each item once it has it, acks, and comes back whenever its stream breaks."""

    agent: Agent
    total: int
    news: asyncio.Event
    # Items in the order of arrival: sequence number and delivery count.
    seen: list[tuple[int, int]] = field(default_factory=list)

    async def work(self) -> None:
        """Until all are done."""
        while len({seq for seq, _ in self.seen}) < self.total:
            with contextlib.suppress(Refused, EOFError, grpc.RpcError):
                async with holding(self.agent, "worker", max_in_flight=32) as held:
                    await self._take(held)
            await asyncio.sleep(0.05)

    async def _take(self, held: Holder) -> None:
        while True:
            item = await held.item()
            self.seen.append((item.seq, item.delivery))
            self.news.set()
            if item.seq % 5 == 0 or item.seq == self.total:
                await held.ack(up_to=item.seq)
            if item.seq == self.total:
                return

    def check(self) -> None:
        """Nothing lost, in order, and whatever came twice said so."""
        known: list[int] = []
        for seq, delivery in self.seen:
            if seq in known:
                assert delivery > 1, f"item {seq} came again unmarked"
            else:
                known.append(seq)
        assert known == list(range(1, self.total + 1))


async def pour(sender: Agent, targets: list[Agent], count: int) -> None:
    """So many messages to each, some at once, each tried until it is taken."""
    stub = stubs.DelegationServiceStub(sender.wire.channel)
    left = [(target, n) for n in range(count) for target in targets][::-1]

    async def send() -> None:
        while left:
            target, n = left.pop()
            parts = [{"kind": "text", "text": str(n)}]
            message = {"messageId": uuid.uuid4().hex, "parts": parts}
            body = {"method": "message/send", "params": {"message": message}}
            request = pb.SendMessageRequest(
                workspace_id=target.id, body=httpbody_pb2.HttpBody(data=json.dumps(body).encode())
            )
            while not await _taken(stub, sender, request):
                await asyncio.sleep(0.1)

    await asyncio.gather(*(send() for _ in range(16)))


async def _taken(
    stub: stubs.DelegationServiceAsyncStub, sender: Agent, request: pb.SendMessageRequest
) -> bool:
    """Whether the server acknowledged the message; if not, it may be stored or lost."""
    try:
        await stub.SendMessage(request, metadata=tuple(sender.headers.items()), timeout=5)
    except grpc.aio.AioRpcError as error:
        if error.code() not in _OUTAGE:
            raise
        return False
    return True


_OUTAGE = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
)


def crew(agents: list[Agent], total: int) -> list[Consumer]:
    """A consumer for each, who tell of their progress together."""
    news = asyncio.Event()
    return [Consumer(agent, total, news) for agent in agents]


async def seen(consumers: list[Consumer], share: float) -> None:
    """Return when so large a share of all items has come."""
    while sum(len(c.seen) for c in consumers) < share * sum(c.total for c in consumers):
        consumers[0].news.clear()
        await consumers[0].news.wait()


# How many items each of four consumers gets, and after which shares of them the server is killed.
_ITEMS, _KILLS = (2500, (0.1, 0.3, 0.5, 0.7, 0.9)) if LONG else (300, (0.2, 0.6))


@pytest.mark.timeout(900 if LONG else 300)
async def test_killed_server_loses_and_repeats_nothing_unmarked(own_server: Start) -> None:
    """Acceptance 1: SIGKILL, again and again, in the middle of writing and reading."""
    server = own_server()
    async with staff_of(server) as org:
        sender, *agents = [await org.hire() for _ in range(5)]
        consumers = crew(agents, _ITEMS)
        async with asyncio.timeout(800 if LONG else 2 * PATIENCE):
            working = asyncio.gather(
                pour(sender, agents, _ITEMS), *(consumer.work() for consumer in consumers)
            )
            for share in _KILLS:
                await seen(consumers, share)
                await asyncio.to_thread(server.restart)
            await working
    for consumer in consumers:
        consumer.check()


async def test_killed_worker_is_replaced_and_loses_nothing(two_workers: RunningServer) -> None:
    """Acceptance 1, with one of two workers."""
    async with staff_of(two_workers) as org:
        sender, *agents = [await org.hire() for _ in range(5)]
        consumers = crew(agents, 100)
        async with asyncio.timeout(PATIENCE):
            working = asyncio.gather(
                pour(sender, agents, 100), *(consumer.work() for consumer in consumers)
            )
            await seen(consumers, 0.3)
            two_workers.workers()[0].kill()
            await working
    for consumer in consumers:
        consumer.check()


def memory_of(server: RunningServer) -> int:
    """What its workers hold, in bytes."""
    return sum(worker.memory_info().rss for worker in server.workers())


@contextlib.asynccontextmanager
async def readers_everywhere(agent: Agent, server: RunningServer) -> AsyncIterator[list[Reader]]:
    """Streams of one inbox by connections of their own, so that all workers hold some.

    Where each process has connections of its own, the kernel draws one of two for each: with
    sixteen streams all are at the same one in one of 32,768 runs.
    """
    async with contextlib.AsyncExitStack() as stack:
        readers = []
        for _ in range(16):
            wire = await stack.enter_async_context(wire_to(server))
            own = Agent(wire, agent.headers, agent.id, agent.token)
            readers.append(await stack.enter_async_context(reading(own)))
        yield readers


async def delays(
    sender: Agent, target: Agent, readers: list[Reader], count: int, pause: float
) -> list[float]:
    """From the answer to the sender until each reader has the item, in seconds."""
    clock = asyncio.get_running_loop().time
    took = []

    async def arrival(reader: Reader) -> float:
        await reader.item()
        return clock()

    for _ in range(count):
        arrivals = asyncio.gather(*(arrival(reader) for reader in readers))
        await tell(sender, target, "hi")
        told = clock()
        took += [max(0.0, arrived - told) for arrived in await arrivals]
        await asyncio.sleep(pause)
    return took


async def test_without_signals_items_come_within_the_safety_check(
    deaf_workers: RunningServer,
) -> None:
    """Acceptance 3: 5 s, and one for the way."""
    async with staff_of(deaf_workers) as org:
        sender, target = await org.hire(), await org.hire()
        async with readers_everywhere(target, deaf_workers) as readers:
            took = await delays(sender, target, readers, count=3, pause=0.7)
    assert max(took) < 6
    assert min(took) < 1


async def test_signals_cross_workers_at_once(two_workers: RunningServer) -> None:
    """Acceptance 4: whichever worker the writer meets. The exact percentile is a benchmark's."""
    async with staff_of(two_workers) as org:
        sender, target = await org.hire(), await org.hire()
        async with readers_everywhere(target, two_workers) as readers:
            took = await delays(sender, target, readers, count=40, pause=0.01)
    assert statistics.median(took) < 0.25
    assert statistics.quantiles(took, n=100)[98] < 1


async def test_pull_never_shows_what_was_acked_at_another_worker(
    deaf_workers: RunningServer,
) -> None:
    """Not even while that worker's streams read from memory, and nobody tells it."""
    async with staff_of(deaf_workers) as org:
        sender = await org.hire()
        for _ in range(16):  # which worker serves a call is a matter of chance
            target = await org.hire()
            path = f"/workspaces/{target.id}/inbox"
            async with reading(target), reading(target), reading(target):
                for _ in range(4):
                    await target.rest("GET", path)
                await tell(sender, target, "hi")
                await target.rest("POST", f"{path}/ack", {"up_to_seq": 1})
                page = (await target.rest("GET", path)).json()
                assert (page["items"], page["acked_seq"]) == ([], 1)


async def test_never_acking_consumer_costs_no_memory(two_workers: RunningServer) -> None:
    """Acceptance 5: 40 MB wait in the table, not in the server."""
    async with staff_of(two_workers) as org:
        sender, target = await org.hire(), await org.hire()
        await tell(sender, target, "x" * 100_000)
        async with holding(target, max_in_flight=4) as held:
            await held.item()
            before = memory_of(two_workers)
            for _ in range(40):
                await asyncio.gather(*(tell(sender, target, "x" * 100_000) for _ in range(10)))
            await held.items(3)
            grown = memory_of(two_workers) - before
    assert grown < 30_000_000


async def test_lost_listener_ends_no_stream(two_workers: RunningServer) -> None:
    """Tokens and inboxes are read anew: valid tokens keep their streams, and news still comes."""
    async with staff_of(two_workers) as org:
        sender, target = await org.hire(), await org.hire()
        async with readers_everywhere(target, two_workers) as readers:
            connection = await asyncpg.connect(two_workers.database_url)
            try:
                lost = [row["pid"] for row in await connection.fetch(_LISTENERS)]
                await connection.fetch(
                    "SELECT pg_terminate_backend(p) FROM unnest($1::int[]) p", lost
                )
                async with asyncio.timeout(PATIENCE):
                    while True:
                        back = [row["pid"] for row in await connection.fetch(_LISTENERS)]
                        if len(back) == len(lost) == 2 and not set(back) & set(lost):
                            break
                        await asyncio.sleep(0.05)
            finally:
                await connection.close()
            for n in (1, 2):
                await tell(sender, target, "hi")
                assert [(await reader.item()).seq for reader in readers] == [n] * len(readers)


_LISTENERS = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'molecule-grpc-listener'
"""


async def test_stream_that_nobody_reads_is_ended(own_server: Start) -> None:
    """The inbox of a client that holds its connection and reads nothing is free for another.

    And the client hears why, if it reads before the edge resets the stream, here after two minutes.
    """
    server = own_server(MOLECULE_STREAM_WRITE_SECONDS="1", MOLECULE_INBOX_BEAT_SECONDS="60")
    async with staff_of(server) as org:
        sender, target = await org.hire(), await org.hire()
        for _ in range(10):
            await asyncio.gather(*(tell(sender, target, "x" * 200_000) for _ in range(10)))
        # With a probe the client's window grows, at times to the 4 MiB that an inbox sends unacked:
        # then the client's transport takes all, and no write waits.
        async with wire_to(server, ("grpc.http2.bdp_probe", 0)) as wire:
            own = Agent(wire, target.headers, target.id, target.token)
            async with holding(own, "deaf", max_in_flight=256) as deaf:
                assert (await _when_it_is_free(target)).delivery == 2
                with pytest.raises(Refused) as ended:
                    await _read_out(deaf)
    assert (ended.value.code, ended.value.reason) == ("RESOURCE_EXHAUSTED", "SLOW_CONSUMER"), (
        ended.value
    )


async def test_dead_servers_lease_lapses(own_server: Start) -> None:
    """Nobody can take it before, everybody after; what it had sent is marked."""
    server = own_server(MOLECULE_INBOX_LEASE_SECONDS="4")
    async with staff_of(server) as org:
        sender, target = await org.hire(), await org.hire()
        await tell(sender, target, "hi")
        async with holding(target, "first") as held:
            await held.item()
            await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        item = await _when_it_is_free(target)
    assert (item.seq, item.delivery) == (1, 2)


async def _read_out(reader: Reader) -> None:
    """Read what was on its way, maybe `end` among it, up to the status."""
    while True:
        await reader.frame()


async def _when_it_is_free(target: Agent) -> inbox_pb2.InboxItem:
    """What another consumer gets first, as soon as it may have the inbox."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                async with holding(target, "another") as held:
                    return await held.item()
            except Refused as busy:
                if busy.reason != "INBOX_BUSY":
                    raise
                await asyncio.sleep(0.1)


async def test_living_sessions_lease_is_renewed(own_server: Start) -> None:
    """An idle holder keeps its inbox for longer than one lease."""
    server = own_server(MOLECULE_INBOX_LEASE_SECONDS="1", MOLECULE_INBOX_BEAT_SECONDS="1")
    async with staff_of(server) as org:
        target = await org.hire()
        async with holding(target, "first") as held:
            for _ in range(3):
                await held.of("beat")
            with pytest.raises(Refused) as refused:
                async with holding(target, "second"):
                    pass
    assert refused.value.reason == "INBOX_BUSY"


async def test_stopping_server_drains_its_streams(own_server: Start) -> None:
    """Drain; acks are still taken; then UNAVAILABLE, and SSE says so in its last frame."""
    server = own_server(MOLECULE_DRAIN_SECONDS="8")
    async with staff_of(server) as org:
        sender, target, other = await org.hire(), await org.hire(), await org.hire()
        await tell_many(sender, target, 2)
        async with holding(target) as held, listening(other) as feed:
            await feed.frame()
            await held.items(2)
            stopping = asyncio.create_task(asyncio.to_thread(server.stop))
            drain = (await feed.frame())["drain"]
            assert 0 <= drain["reconnect_after_ms"] <= 5000
            end = (await feed.frame())["end"]
            assert (end["code"], end["reason"]) == (14, "DRAINING")
            assert 0 <= (await held.of("drain")).reconnect_after_ms <= 5000
            assert (await held.ack(1)).acked_seq == 1
            assert (await held.ack(2)).acked_seq == 2
            last, status = await held.end()
            assert (status.code, status.reason, last.code) == ("UNAVAILABLE", "DRAINING", 14)
            assert await stopping == 0


async def test_item_of_a_drained_session_has_not_failed(own_server: Start) -> None:
    """A deploy is not the item's fault, however often; it comes again, marked."""
    server = own_server(MOLECULE_DRAIN_SECONDS="1")
    async with staff_of(server) as org:
        sender, target = await org.hire(), await org.hire()
        await tell(sender, target, "hi")
        async with holding(target) as held:
            await held.item()
            stopping = asyncio.create_task(asyncio.to_thread(server.stop))
            await held.of("drain")
            with contextlib.suppress(Refused, EOFError):
                await held.frame()
            await stopping
        await asyncio.to_thread(server.start)
        async with holding(target) as held:
            assert (await held.item()).delivery == 2
    connection = await asyncpg.connect(server.database_url)
    try:
        assert await connection.fetchval("SELECT failures FROM inbox_items") == 0
    finally:
        await connection.close()


async def test_old_stream_asks_to_come_back(own_server: Start) -> None:
    server = own_server(MOLECULE_INBOX_MAX_AGE_SECONDS="1", MOLECULE_INBOX_BEAT_SECONDS="1")
    async with staff_of(server) as org:
        target = await org.hire()
        async with reading(target) as reader:
            await reader.of("drain")
            end, status = await reader.end()
    assert (status.code, status.reason, end.reason) == ("UNAVAILABLE", "DRAINING", "DRAINING")
