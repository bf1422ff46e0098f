"""A backup under load, restored elsewhere: the promises hold, and work goes on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest
from moleculeai.delegation.v1 import delegation_service_pb2 as pb
from moleculeai.delegation.v1 import delegation_service_pb2_grpc as stubs
from moleculeai.delegation.v1 import event_pb2

from benchmarks.harness import Agent as Identity
from benchmarks.harness import make_agents
from benchmarks.havoc import bystanders
from benchmarks.havoc.checker import check
from benchmarks.havoc.history import History
from benchmarks.havoc.pairs import Pair
from molecule_grpc.client import Agent as SdkAgent
from molecule_grpc.client.connection import Connection
from molecule_grpc.client.watch import watch_inbox
from molecule_grpc.db.embedded.server import EmbeddedPostgres
from tests.conftest import execute, with_database
from tests.e2e.parties import Agent, Refused, found, wire_to
from tests.running import RunningServer
from tests.waiting import PATIENCE, until

pytestmark = pytest.mark.slow

_TASKS = [f"task {n}" for n in range(5000)]
_LATER = [f"later task {n}" for n in range(50)]
# Names of files and texts of messages after the restore begin here.
_SECOND_LIFE = 100_000


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that the account of the embedded Postgres can reach."""
    with tempfile.TemporaryDirectory(prefix="molecule-backup-") as directory:
        yield Path(directory)


@pytest.fixture
def embedded_server() -> Iterator[Any]:
    """Makes servers with an embedded Postgres."""
    made: list[RunningServer] = []

    def make(data_dir: Path) -> RunningServer:
        server = RunningServer("", data_dir, DELEGATION_SWEEPER_INTERVAL_S="5")
        made.append(server)
        server.start()
        return server

    yield make
    for server in made:
        server.stop()


def run(command: str, directory: Path, data_dir: Path, database_url: str = "") -> dict[str, Any]:
    """`molecule-grpc backup` or `restore` in a process of its own; what it prints."""
    there = {"DATABASE_URL": database_url, "MOLECULE_DATA_DIR": str(data_dir)}
    done = subprocess.run(
        [sys.executable, "-m", "molecule_grpc.cli.main", "--json", command, str(directory)],
        env={**os.environ, **there},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@dataclass(frozen=True, slots=True)
class Load:
    """Two agents that work for each other, one that writes to a reader, and files."""

    source: Identity
    target: Identity
    writer: Identity
    reader: Identity
    folder: Path

    @contextlib.asynccontextmanager
    async def on(
        self, server: RunningServer, history: History, *, first: int = 0
    ) -> AsyncIterator[Pair]:
        """Files and messages come in while inside; a pair that is ready for tasks."""
        finish = asyncio.Event()
        pair = Pair(server.url, self.source, self.target, self.folder / "agent", history)
        async with (
            grpc.aio.insecure_channel(server.grpc_target) as channel,
            pair.at_work(),
            asyncio.TaskGroup() as group,
        ):
            for work in (
                bystanders.upload(
                    channel, [self.target], self.folder, history, finish, first=first
                ),
                bystanders.follow(
                    server.url, channel, self.writer, self.reader, history, finish, first=first
                ),
            ):
                group.create_task(work)
            yield pair
            finish.set()


class _OverError(Exception):
    """The load was stopped in the middle."""


async def test_a_restored_backup_keeps_what_was_promised_before_it(
    embedded_server: Any, place: Path
) -> None:
    """P1 to P3, P5, P7: taken under load, restored into a new data directory, worked on."""
    before = History()
    server = embedded_server(place / "data")
    source, target, writer, reader = await make_agents(EmbeddedPostgres(place / "data").dsn, 4)
    load = Load(source, target, writer, reader, place / "files")
    acknowledged: dict[str, str] = {}
    messages: list[str] = []

    async def back_up_in_the_middle() -> None:
        async def seen() -> tuple[int, int, int]:
            return len(before.results), len(before.sent_files), len(before.followed)

        await until(seen, lambda counts: counts[0] >= 40 and min(counts) >= 2)
        acknowledged.update(before.accepted)
        messages.extend(before.sent_messages)
        await asyncio.to_thread(run, "backup", place / "backup", place / "data")
        assert len(before.accepted) < len(_TASKS), "the load was over before the backup was"
        raise _OverError

    with contextlib.suppress(BaseExceptionGroup):
        async with load.on(server, before) as pair, asyncio.TaskGroup() as group:
            group.create_task(pair.run(_TASKS))
            group.create_task(back_up_in_the_middle())
    assert acknowledged
    await asyncio.to_thread(server.stop)

    await asyncio.to_thread(run, "restore", place / "backup", place / "restored")
    server = embedded_server(place / "restored")
    dsn = EmbeddedPostgres(place / "restored").dsn
    after = await known(dsn, before)
    assert set(acknowledged) <= set(after.accepted)
    after.sent_messages = messages
    assert after.results
    unheard = [task for name, task in after.accepted.items() if name not in after.results]
    async with load.on(server, after, first=_SECOND_LIFE) as pair, asyncio.timeout(2 * PATIENCE):
        await pair.run([*unheard, *_LATER])
    after.received_files = [
        file for file in bystanders.received(place / "files") if file[0] in after.sent_files
    ]
    verdict = await check(dsn, after)
    assert not verdict.broken
    assert {after.accepted[name] for name in acknowledged} == set(acknowledged.values())


async def known(dsn: str, before: History) -> History:
    """What agents know that saw nothing after the moment of the backup."""
    after = History()
    connection = await asyncpg.connect(dsn)
    try:
        for name, task in await connection.fetch(
            "SELECT delegation_id, task_preview FROM delegations"
        ):
            after.accepted[name] = task
        for (name,) in await connection.fetch(
            """SELECT delegation_id FROM inbox_items i JOIN inbox_heads h USING (workspace_id)
               WHERE method = 'delegate_result' AND (done_at IS NOT NULL OR seq <= acked_seq)"""
        ):
            after.results[name] = before.results[name]
        for (name,) in await connection.fetch("SELECT filename FROM pending_uploads"):
            after.sent_files[name] = before.sent_files[name]
    finally:
        await connection.close()
    return after


# What was handed out in the future that is lost.


@dataclass(slots=True)
class Lives:
    """A server over a database that is put back to where it was at its backup."""

    server: RunningServer
    place: Path
    restored_url: str

    async def back_up(self) -> None:
        await asyncio.to_thread(
            run, "backup", self.place / "backup", self.place / "data", self.server.database_url
        )

    async def go_back(self) -> None:
        """Serve the backup at the same address."""
        self.server.kill()
        await asyncio.to_thread(
            run, "restore", self.place / "backup", self.place / "restored", self.restored_url
        )
        port = self.server.port
        self.server = RunningServer(self.restored_url, self.place / "restored", PORT=str(port))
        self.server.port = port
        await asyncio.to_thread(self.server.start)


@pytest.fixture
async def lives(postgres: str, database_url: str, tmp_path: Path) -> AsyncIterator[Lives]:
    name = f"restored_{uuid.uuid4().hex[:12]}"
    await execute(postgres, f"CREATE DATABASE {name}")
    server = RunningServer(database_url, tmp_path / "server")
    await asyncio.to_thread(server.start)
    made = Lives(server, tmp_path, with_database(postgres, name))
    yield made
    made.server.kill()
    await execute(postgres, f"DROP DATABASE {name} WITH (FORCE)")


async def say(writer: Agent, reader: Agent, *texts: str) -> None:
    """Each text is the next item of the reader's inbox."""
    for text in texts:
        message = {"role": "user", "parts": [{"kind": "text", "text": text}]}
        body = {"method": "message/send", "params": {"message": message}}
        answer = await writer.rest("POST", f"/workspaces/{reader.id}/a2a", body)
        assert answer.status_code == 200, answer.text


async def test_numbers_and_tokens_of_the_lost_future_are_refused(lives: Lives) -> None:
    """The new future gives the same numbers to other items."""
    async with wire_to(lives.server) as wire:
        org = await found(wire, wire.party(lives.server.admin_token))
        writer, reader = await org.hire("writer"), await org.hire("reader")
        await say(writer, reader, "one", "two")
        await lives.back_up()
        await say(writer, reader, "lost three", "lost four", "lost five")
        pulled = await reader.rpc(pb.PullInboxRequest(workspace_id=reader.id))
        page = await reader.rest("GET", f"/workspaces/{reader.id}/activity", limit=1)
        row_id, page_token = page.json()[0]["id"], page.headers["x-next-page-token"]
        session = await session_epoch(reader)
        event_token = await newest_event(writer)
    await lives.go_back()
    async with wire_to(lives.server) as wire:
        writer, reader = (
            Agent(wire, each.headers, each.id, each.token) for each in (writer, reader)
        )
        await say(writer, reader, "three", "four", "five")
        old: dict[str, Any] = {"workspace_id": reader.id, "generation": pulled.generation}
        for request in (
            pb.PullInboxRequest(**old, after_seq=5),
            pb.AckInboxRequest(**old, up_to_seq=5),
            pb.AckInboxRequest(**old, seqs=[3]),
            pb.NackInboxRequest(**old, seq=3),
        ):
            assert await refusal(reader, request) == ("OUT_OF_RANGE", "CURSOR_UNKNOWN")
        here: dict[str, Any] = {"workspace_id": reader.id}
        for request in (
            pb.PullInboxRequest(**here, after_seq=6),
            pb.AckInboxRequest(**here, up_to_seq=6),
            pb.AckInboxRequest(**here, seqs=[1, 6]),
        ):
            assert await refusal(reader, request) == ("OUT_OF_RANGE", "CURSOR_AHEAD")
        fenced = pb.AckInboxRequest(**here, seqs=[3], session_epoch=session)
        assert (await refusal(reader, fenced))[1] == "FENCED"
        path = f"/workspaces/{reader.id}"
        for url, params in (
            (f"{path}/inbox/stream",
             {"start.after_seq": 5, "start.generation": pulled.generation}),
            (f"{path}/inbox/stream", {"start.after_seq": 6}),
            (f"{path}/events/stream", {"resume_after": event_token}),
            (f"{path}/activity", {"since_id": row_id}),
        ):  # fmt: skip
            gone = await reader.rest("GET", url, **params)
            assert gone.status_code == 410, (url, params, gone.text)
        invalid = await reader.rest("GET", f"{path}/activity", page_token=page_token)
        assert invalid.status_code == 400
        now = await reader.rpc(pb.PullInboxRequest(workspace_id=reader.id))
        assert [item.text for item in now.items] == ["one", "two", "three", "four", "five"]
        assert now.generation not in ("", pulled.generation)
        assert (await session_epoch(reader)) > session + 1000
        resumed = await newest_event(writer)
        assert resumed.count(".") == 3
        assert resumed.rpartition(".")[2] not in event_token


async def refusal(party: Agent, request: Any) -> tuple[str, str]:
    with pytest.raises(Refused) as caught:
        await party.rpc(request)
    return caught.value.code, caught.value.reason


async def session_epoch(agent: Agent) -> int:
    """The number of a new session, which ends at once."""
    hello = pb.SubscribeInboxRequest.Hello(
        workspace_id=agent.id, consumer_id="tests", max_in_flight=1, initial_credit=0
    )
    stub = stubs.DelegationServiceStub(agent.wire.channel)
    call = stub.SubscribeInbox(
        iter([pb.SubscribeInboxRequest(hello=hello)]), metadata=tuple(agent.headers.items())
    )
    async for frame in call:
        epoch: int = frame.welcome.session_epoch
        call.cancel()
        return epoch
    raise AssertionError("no Welcome")


async def newest_event(agent: Agent) -> str:
    """The token of a beat: the place behind everything so far."""
    stub = stubs.DelegationServiceStub(agent.wire.channel)
    call = stub.SubscribeEvents(
        event_pb2.SubscribeEventsRequest(), metadata=tuple(agent.headers.items())
    )
    async for frame in call:
        if frame.HasField("beat"):
            call.cancel()
            token: str = frame.beat.resume_token
            return token
    raise AssertionError("no beat")


async def test_an_agent_that_lived_through_a_restore_misses_nothing(lives: Lives) -> None:
    """It acks items of the lost future; those that got their numbers are not done by that."""
    async with wire_to(lives.server) as wire:
        org = await found(wire, wire.party(lives.server.admin_token))
        writer, reader = await org.hire("writer"), await org.hire("reader")
        await say(writer, reader, "one")
        await lives.back_up()
        await say(writer, reader, "lost two", "lost three")
    async with SdkAgent(lives.server.url, reader.id, reader.token) as agent:
        inbox = agent.inbox()
        items = [await inbox.next() for _ in range(3)]
        await inbox.ack(items[0])
        lives.server.kill()
        await inbox.ack(items[1])  # nobody hears it
        await lives.go_back()
        async with wire_to(lives.server) as wire:
            writer = Agent(wire, writer.headers, writer.id, writer.token)
            reader = Agent(wire, reader.headers, reader.id, reader.token)
            await say(writer, reader, "two", "three")
            seen = [await inbox.next(), await inbox.next()]
            assert [item.text for item in seen] == ["two", "three"]
            await inbox.ack(items[2])
            await inbox.ack(seen[0])
            await inbox.close()
            left = await reader.rpc(pb.PullInboxRequest(workspace_id=reader.id))
    assert [item.text for item in left.items] == ["three"]


async def test_a_reader_that_follows_begins_anew_after_a_restore(lives: Lives) -> None:
    async with wire_to(lives.server) as wire:
        org = await found(wire, wire.party(lives.server.admin_token))
        writer, reader = await org.hire("writer"), await org.hire("reader")
        await say(writer, reader, "one")
        await lives.back_up()
        await say(writer, reader, "lost two", "lost three")
    async with Connection(lives.server.url, reader.token, timeout=PATIENCE) as connection:
        items = watch_inbox(connection, reader.id)
        before = [(await anext(items)).text for _ in range(3)]
        await lives.go_back()
        async with wire_to(lives.server) as wire:
            writer = Agent(wire, writer.headers, writer.id, writer.token)
            await say(writer, reader, "two", "three", "four")
        after = [(await anext(items)).text for _ in range(4)]
    assert before == ["one", "lost two", "lost three"]
    assert after == ["one", "two", "three", "four"]
