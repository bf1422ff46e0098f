"""What else goes on while the pairs work: uploads, a followed inbox, revocations, purges.

Each of the four acts until it is told to finish, then until all that it began has ended. None of
them gives up on a failed call: a server that was killed is asked again.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import grpc
from moleculeai.delegation.v1 import delegation_service_pb2 as pb
from moleculeai.delegation.v1 import delegation_service_pb2_grpc as stubs
from moleculeai.delegation.v1 import inbox_pb2
from moleculeai.upload.v1 import upload_service_pb2 as upload_pb
from moleculeai.upload.v1 import upload_service_pb2_grpc as upload_stubs

from benchmarks.harness import Agent as Identity
from benchmarks.havoc.history import History
from molecule_grpc.client import Agent
from molecule_grpc.client.errors import CallError, NotFound
from molecule_grpc.client.platform import Platform

T = TypeVar("T")

_PAUSE_SECONDS = 0.2
_FRAME_BYTES = 256 * 1024
_LARGEST_FILE = 1024 * 1024
# A revoked token's streams end within 5 s, when Postgres is there.
_REVOKED_SECONDS = 60.0
_PURGED_TASKS = 3
# The purged callee cannot work: its delegations end at their deadline.
_PURGED_DEADLINE = 8


async def upload(
    channel: grpc.aio.Channel,
    targets: Sequence[Identity],
    folder: Path,
    history: History,
    finish: asyncio.Event,
    *,
    first: int = 0,
) -> None:
    """Send files of up to 1 MiB to the agents, until all lie in their folders.

    Args:
        first: number of the first file.
    """
    stub, dice = upload_stubs.UploadServiceStub(channel), random.Random(1)
    for number in itertools.count(first):
        if finish.is_set():
            break
        target = targets[number % len(targets)]
        data, name = dice.randbytes(dice.randrange(1, _LARGEST_FILE)), f"file-{number}.bin"

        await _insist(partial(stage, stub, target, name, data))
        history.sent_files[name] = hashlib.sha256(data).hexdigest()
        await asyncio.sleep(_PAUSE_SECONDS)
    # Not their number: a folder may hold files of a life that a restore has undone.
    await _reached(lambda: set(history.sent_files) <= {name for name, _ in received(folder)})


async def _insist(call: Callable[[], Awaitable[T]]) -> T | None:
    """Repeat a call until it is answered; None when an earlier try has removed its object."""
    while True:
        try:
            return await call()
        except NotFound:
            return None
        except (CallError, grpc.aio.AioRpcError):
            await asyncio.sleep(_PAUSE_SECONDS)


async def _reached(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  (files and lists have no event)
        await asyncio.sleep(_PAUSE_SECONDS)


async def stage(
    stub: upload_stubs.UploadServiceAsyncStub, target: Identity, name: str, data: bytes
) -> None:
    """Send one file to an agent. A repeat makes no second file."""
    await stub.StageUploads(_frames(target, name, data), metadata=target.metadata, timeout=30)


async def _frames(
    target: Identity, name: str, data: bytes
) -> AsyncIterator[upload_pb.StageUploadsRequest]:
    begin = upload_pb.StageUploadsRequest.Begin(workspace_id=str(target.id), request_id=name)
    yield upload_pb.StageUploadsRequest(begin=begin)
    yield upload_pb.StageUploadsRequest(file=upload_pb.StageUploadsRequest.File(name=name))
    for at in range(0, len(data), _FRAME_BYTES):
        yield upload_pb.StageUploadsRequest(chunk=data[at : at + _FRAME_BYTES])


def received(folder: Path) -> list[tuple[str, str]]:
    """Name and SHA-256 of every file in the agents' folders; the SDK puts an id before a name."""
    return [
        (path.name.partition("-")[2], hashlib.sha256(path.read_bytes()).hexdigest())
        for path in folder.glob("*/*-file-*.bin")
    ]


async def follow(
    url: str,
    channel: grpc.aio.Channel,
    writer: Identity,
    reader: Identity,
    history: History,
    finish: asyncio.Event,
    *,
    first: int = 0,
) -> None:
    """Write to an inbox, and read it by a plain stream that resumes after the last number seen.

    Args:
        first: number of the first message.
    """
    reading = asyncio.create_task(_read(stubs.DelegationServiceStub(channel), reader, history))
    try:
        async with Agent(url, str(writer.id), writer.token) as agent:
            for number in itertools.count(first):
                if finish.is_set():
                    break
                with contextlib.suppress(CallError):
                    await agent.send(str(reader.id), f"message {number}")
                    history.sent_messages.append(f"message {number}")
                await asyncio.sleep(_PAUSE_SECONDS / 4)
        await _reached(lambda: set(history.sent_messages) <= {text for _, text in history.followed})
    finally:
        reading.cancel()


async def _read(stub: stubs.DelegationServiceAsyncStub, reader: Identity, history: History) -> None:
    while True:
        last = history.followed[-1][0] if history.followed else 0
        request = pb.StreamInboxRequest(
            workspace_id=str(reader.id), start=inbox_pb2.StartPosition(after_seq=last)
        )
        with contextlib.suppress(grpc.aio.AioRpcError):
            async for frame in stub.StreamInbox(request, metadata=reader.metadata):
                if frame.HasField("item"):
                    history.followed.append((frame.item.seq, frame.item.text))
        await asyncio.sleep(_PAUSE_SECONDS)


async def revoke(
    platform: Platform,
    channel: grpc.aio.Channel,
    owner: Identity,
    history: History,
    finish: asyncio.Event,
) -> None:
    """Mint a token, open a stream with it, revoke it: the stream ends, and nothing opens again."""
    stub = stubs.DelegationServiceStub(channel)
    while not finish.is_set():
        with contextlib.suppress(CallError):
            minted = await platform.create_token(str(owner.id))
            await _revoked_in_use(platform, stub, owner, minted.auth_token, minted.id, history)
        await asyncio.sleep(_PAUSE_SECONDS)
    over = asyncio.Event()
    over.set()
    for token in history.revoked:
        if not await _refused(stub, Identity(owner.id, token), over):
            history.alive.add(token)


async def _revoked_in_use(
    platform: Platform,
    stub: stubs.DelegationServiceAsyncStub,
    owner: Identity,
    token: str,
    token_id: str,
    history: History,
) -> None:
    revoked = asyncio.Event()
    ended = asyncio.create_task(_refused(stub, Identity(owner.id, token), revoked))
    try:
        await asyncio.sleep(_PAUSE_SECONDS)
        await _insist(partial(platform.revoke_token, str(owner.id), token_id))
        revoked.set()
        history.revoked.append(token)
        if not await ended:
            history.alive.add(token)
    finally:
        ended.cancel()


async def _refused(
    stub: stubs.DelegationServiceAsyncStub, agent: Identity, revoked: asyncio.Event
) -> bool:
    """Hold a stream open; whether it is refused for its token within a minute of the revocation."""
    while True:
        call = stub.StreamInbox(
            pb.StreamInboxRequest(workspace_id=str(agent.id)), metadata=agent.metadata
        )
        ended = asyncio.create_task(call.code())
        reading = asyncio.create_task(_drain(call))
        try:
            known = asyncio.create_task(revoked.wait())
            await asyncio.wait({ended, known}, return_when=asyncio.FIRST_COMPLETED)
            known.cancel()
            if not (await asyncio.wait({ended}, timeout=_REVOKED_SECONDS))[0]:
                return False
            if ended.result() is grpc.StatusCode.UNAUTHENTICATED:
                return True
        finally:
            reading.cancel()
            call.cancel()
        await asyncio.sleep(_PAUSE_SECONDS)


async def _drain(
    call: grpc.aio.UnaryStreamCall[pb.StreamInboxRequest, pb.StreamInboxResponse],
) -> None:
    with contextlib.suppress(grpc.aio.AioRpcError):
        async for _ in call:
            pass


async def purge(
    url: str,
    platform: Platform,
    source: Identity,
    targets: Sequence[Identity],
    history: History,
    finish: asyncio.Event,
) -> None:
    """Hand work to agents that never work, purge them, and hear of the end of all that work."""
    async with Agent(url, str(source.id), source.token) as agent:
        hearing = asyncio.create_task(_hear(agent, history))
        try:
            for number, target in enumerate(targets):
                if finish.is_set():
                    break
                for task in (f"purged {number} {turn}" for turn in range(_PURGED_TASKS)):
                    made = await _insist(
                        partial(
                            agent.delegate,
                            str(target.id),
                            task,
                            idempotency_key=task,
                            deadline=_PURGED_DEADLINE,
                        )
                    )
                    assert made is not None, "the callee is not there before its purge"
                    history.accepted[made.id] = task
                    history.abandoned.add(made.id)
                await _insist(
                    partial(platform.remove_workspace, str(target.id), confirm=True, purge=True)
                )
                history.purged.append(target.id)
                await asyncio.sleep(_PAUSE_SECONDS * 10)
            await _reached(lambda: history.abandoned <= set(history.results))
        finally:
            hearing.cancel()


async def _hear(agent: Agent, history: History) -> None:
    async for item in agent.inbox():
        if item.method == "delegate_result":
            heard = history.results.setdefault(item.delegation_id, [])
            if heard and item.delivery == 1:
                history.unmarked += 1
            heard.append((item.seq, item.delivery))
