"""Outages of what an installation uses: disk, object store, name server."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time

import grpc
from moleculeai.upload.v1 import upload_service_pb2_grpc as upload_stubs

from benchmarks.harness import Agent as Identity
from benchmarks.harness import make_agents
from benchmarks.havoc.bystanders import stage
from benchmarks.havoc.installation import Installation, Onset
from molecule_grpc.client import Agent
from molecule_grpc.client.errors import CallError
from molecule_grpc.db.pool import connect
from tests.small_disk import fill

_SECONDS = 5.0
_PATIENCE_SECONDS = 90.0
_AWAY = "http://agent.example:8000/"


async def full_disk(installation: Installation) -> Onset:
    """Another program takes the last byte for 5 s; the clock starts when space is free again."""
    ballast = installation.server.data_dir / "ballast"
    fill(ballast)
    await asyncio.sleep(_SECONDS)
    ballast.unlink()
    clock = time.monotonic()
    ended = "Postgres is down" in installation.server.log.read_text()
    postgres = "ended" if ended else "ran on"
    return Onset(clock, f"from free space, after {_SECONDS:.0f} s; Postgres {postgres}")


async def object_store(installation: Installation) -> Onset:
    """The object store freezes for 5 s in the midst of an upload. Nobody else may notice."""
    assert installation.store is not None
    [target] = await make_agents(installation.dsn, 1)
    async with grpc.aio.insecure_channel(installation.server.grpc_target) as channel:
        stub = upload_stubs.UploadServiceStub(channel)
        await stage(stub, target, "before.bin", bytes(1024))
        installation.store.signal(signal.SIGSTOP)
        began = time.monotonic()
        uploading = asyncio.create_task(_until_staged(stub, target))
        await asyncio.sleep(_SECONDS)
        installation.store.signal(signal.SIGCONT)
        await uploading
    seconds = time.monotonic() - began
    return Onset(began, f"the upload took {seconds:.1f} s, {_SECONDS:.0f} of them frozen")


async def _until_staged(stub: upload_stubs.UploadServiceAsyncStub, target: Identity) -> None:
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                return await stage(stub, target, "meanwhile.bin", bytes(1024 * 1024))
            await asyncio.sleep(0.1)


async def name_server(installation: Installation) -> Onset:
    """Twenty messages to agents whose names nobody answers for. Nobody else may notice."""
    made = await make_agents(installation.dsn, 21)
    await _listen_at(installation.dsn, made[1:], _AWAY)
    async with Agent(installation.server.url, str(made[0].id), made[0].token) as sender:
        began = time.monotonic()
        await asyncio.gather(*(_send(sender, target) for target in made[1:]))
    seconds = time.monotonic() - began
    return Onset(began, f"the last message was queued or refused after {seconds:.1f} s")


async def _send(sender: Agent, target: Identity) -> None:
    with contextlib.suppress(CallError):
        await sender.send(str(target.id), "hello")


async def _listen_at(dsn: str, agents: list[Identity], url: str) -> None:
    """Registration would ask the name server for the address."""
    connection = await connect(dsn)
    try:
        await connection.execute(
            "UPDATE workspaces SET url = $2, delivery_mode = 'push' WHERE id = ANY($1)",
            [agent.id for agent in agents],
            url,
        )
    finally:
        await connection.close()
