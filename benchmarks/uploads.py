"""Staging and fetching files, against writing and reading the same bytes without the platform.

    python -m benchmarks.uploads [--rounds 5] [--stores postgres,s3]

1 file of 25 MiB and 64 of 1 MiB, over gRPC and REST, all through Envoy. The floor writes and reads
the same bytes with asyncpg in chunk rows of 1 MiB, or with boto3's own transfers (parts in
parallel), on the same disk and in turn with the platform. Client, Envoy, worker and store share
the machine's cores. Targets: 0.7 of the floor, memory flat.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import statistics
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp
import asyncpg
import grpc
import psutil
import uvloop
from moleculeai.upload.v1 import upload_service_pb2 as pb
from moleculeai.upload.v1.upload_service_pb2_grpc import UploadServiceStub
from rich.console import Console
from rich.table import Table

from benchmarks.harness import Agent, durable_postgres, make_agents
from tests.running import RunningServer
from tests.seaweed import BUCKET, Seaweed, new_prefix

MIB = 1024 * 1024
FRAME = 256 * 1024
SHAPES = {"1 x 25 MiB": [25 * MIB], "64 x 1 MiB": [MIB] * 64}
Contents = list[bytes]
_FLOOR_TABLE = (
    "CREATE TABLE floor (id text, at int, data bytea STORAGE EXTERNAL, PRIMARY KEY (id, at))"
)


@dataclass(slots=True)
class Side:
    """One way to write and read files, and the seconds of each round."""

    stage: Callable[[Contents], Awaitable[list[str]]]
    fetch: Callable[[list[str], Contents], Awaitable[None]]
    staging: list[float] = field(default_factory=list)
    fetching: list[float] = field(default_factory=list)

    async def round(self, contents: Contents) -> None:
        """Stage all files, then fetch all of them."""
        begun = time.perf_counter()
        names = await self.stage(contents)
        staged = time.perf_counter()
        await self.fetch(names, contents)
        self.staging.append(staged - begun)
        self.fetching.append(time.perf_counter() - staged)


class GrpcSide:
    """A gRPC client with generated stubs."""

    def __init__(self, channel: grpc.aio.Channel, agent: Agent) -> None:
        self._stub = UploadServiceStub(channel)
        self._agent = agent

    async def stage(self, contents: Contents) -> list[str]:
        answer = await self._stub.StageUploads(
            self._frames(contents), metadata=self._agent.metadata
        )
        return [file.uri.rpartition("/")[2] for file in answer.files]

    async def fetch(self, names: list[str], contents: Contents) -> None:
        for name, data in zip(names, contents, strict=True):
            request = pb.GetUploadContentRequest(workspace_id=str(self._agent.id), file_id=name)
            size = 0
            async for piece in self._stub.GetUploadContent(request, metadata=self._agent.metadata):
                size += len(piece.data)
            assert size == len(data)

    async def _frames(self, contents: Contents) -> AsyncIterator[pb.StageUploadsRequest]:
        yield pb.StageUploadsRequest(
            begin=pb.StageUploadsRequest.Begin(workspace_id=str(self._agent.id))
        )
        for data in contents:
            yield pb.StageUploadsRequest(file=pb.StageUploadsRequest.File(name="a.bin"))
            for at in range(0, len(data), FRAME):
                yield pb.StageUploadsRequest(chunk=data[at : at + FRAME])


class RestSide:
    """A REST client that uploads a multipart form, as a browser does."""

    def __init__(self, session: aiohttp.ClientSession, url: str, agent: Agent) -> None:
        self._session = session
        self._url = f"{url}/workspaces/{agent.id}"
        self._headers = {"authorization": f"Bearer {agent.token}"}

    async def stage(self, contents: Contents) -> list[str]:
        async with self._session.post(
            f"{self._url}/chat/uploads",
            data=_multipart(contents),
            headers={**self._headers, "content-type": "multipart/form-data; boundary=xx"},
        ) as answer:
            assert answer.status == 200, await answer.text()
            return [file["uri"].rpartition("/")[2] for file in (await answer.json())["files"]]

    async def fetch(self, names: list[str], contents: Contents) -> None:
        for name, data in zip(names, contents, strict=True):
            url = f"{self._url}/pending-uploads/{name}/content"
            async with self._session.get(url, headers=self._headers) as answer:
                size = 0
                async for piece in answer.content.iter_any():
                    size += len(piece)
                assert size == len(data)


async def _multipart(contents: Contents) -> AsyncIterator[bytes]:
    for data in contents:
        yield b'\r\n--xx\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
        for at in range(0, len(data), FRAME):
            yield data[at : at + FRAME]
    yield b"\r\n--xx--\r\n"


class PostgresFloor:
    """The floor of the Postgres store: asyncpg alone."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection

    async def stage(self, contents: Contents) -> list[str]:
        names = [str(uuid.uuid4()) for _ in contents]
        async with self._connection.transaction():
            for name, data in zip(names, contents, strict=True):
                for at in range(0, len(data), MIB):
                    await self._connection.execute(
                        "INSERT INTO floor (id, at, data) VALUES ($1, $2, $3)",
                        name,
                        at,
                        data[at : at + MIB],
                    )
        return names

    async def fetch(self, names: list[str], contents: Contents) -> None:
        for name, data in zip(names, contents, strict=True):
            size = 0
            for at in range(0, len(data), MIB):
                piece = await self._connection.fetchval(
                    "SELECT data FROM floor WHERE id = $1 AND at = $2", name, at
                )
                size += len(piece)
            assert size == len(data)


class S3Floor:
    """The floor of the S3 store: boto3 alone."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def stage(self, contents: Contents) -> list[str]:
        return await asyncio.to_thread(self._stage, contents)

    async def fetch(self, names: list[str], contents: Contents) -> None:
        await asyncio.to_thread(self._fetch, names, contents)

    def _stage(self, contents: Contents) -> list[str]:
        names = [f"floor/{uuid.uuid4()}" for _ in contents]
        for name, data in zip(names, contents, strict=True):
            self._client.upload_fileobj(io.BytesIO(data), BUCKET, name)
        return names

    def _fetch(self, names: list[str], contents: Contents) -> None:
        for name, data in zip(names, contents, strict=True):
            size = 0
            for piece in self._client.get_object(Bucket=BUCKET, Key=name)["Body"].iter_chunks(MIB):
                size += len(piece)
            assert size == len(data)


class Peak:
    """Peak memory of a process inside the `with` block, in MiB above the start of the block."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self.grown = 0.0

    async def __aenter__(self) -> Self:
        self._before = self._process.memory_info().rss
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._watching.cancel()

    async def _watch(self) -> None:
        while True:
            grown = (self._process.memory_info().rss - self._before) / MIB
            self.grown = max(self.grown, grown)
            await asyncio.sleep(0.005)


async def measure(dsn: str, store: str, rounds: int, directory: Path, table: Table) -> None:
    """Measure one store: both shapes over gRPC, over REST, and on the floor."""
    environment: dict[str, str] = {}
    seaweed = Seaweed(directory / "weed") if store == "s3" else None
    if seaweed is not None:
        seaweed.start()
        environment = seaweed.environment(new_prefix())
    server = RunningServer(
        dsn,
        directory / store,
        MOLECULE_UPLOAD_MAX_BYTES=str(64 * MIB),
        MOLECULE_UPLOAD_QUOTA_BYTES=str(2_000_000_000),
        MOLECULE_UPLOAD_QUOTA_FILES="100000",
        MOLECULE_INBOX_MAX_ITEMS="1000000",
        LOG_LEVEL="error",
        **environment,
    )
    server.start()
    (agent,) = await make_agents(dsn, 1)
    floor_connection = await asyncpg.connect(dsn)
    try:
        [worker] = server.workers()
        async with (
            grpc.aio.insecure_channel(server.grpc_target) as channel,
            aiohttp.ClientSession() as session,
        ):
            floor: PostgresFloor | S3Floor = PostgresFloor(floor_connection)
            if seaweed is not None:
                floor = S3Floor(seaweed.client)
            typed, browser = GrpcSide(channel, agent), RestSide(session, server.url, agent)
            for shape, sizes in SHAPES.items():
                contents = [os.urandom(size) for size in sizes]
                sides = {
                    "floor": Side(floor.stage, floor.fetch),
                    "gRPC": Side(typed.stage, typed.fetch),
                    "REST": Side(browser.stage, browser.fetch),
                }
                await _compare(sides, contents, rounds, worker, table, f"{store}, {shape}")
    finally:
        await floor_connection.close()
        server.stop()
        if seaweed is not None:
            seaweed.kill()


async def _compare(
    sides: dict[str, Side],
    contents: Contents,
    rounds: int,
    worker: psutil.Process,
    table: Table,
    title: str,
) -> None:
    peaks = {name: Peak(worker) for name in sides}
    for number in range(rounds + 1):
        for name, side in sides.items():
            async with peaks[name]:
                await side.round(contents)
            if number == 0:  # round 0 only warms up
                side.staging.clear()
                side.fetching.clear()
                peaks[name].grown = 0.0
    size = sum(map(len, contents)) / 1e6
    floor = sides["floor"]
    for name, side in sides.items():
        cells = []
        for ours, theirs in ((side.staging, floor.staging), (side.fetching, floor.fetching)):
            ratio = statistics.median(t / o for o, t in zip(ours, theirs, strict=True))
            cells += [f"{size / statistics.median(ours):.0f}", f"{ratio:.2f}"]
        grown = "" if name == "floor" else f"{peaks[name].grown:+.0f}"
        table.add_row(title, name, *cells, grown)


async def run(dsn: str, rounds: int, stores: list[str]) -> None:
    """Measure all stores, one after the other, and print the table."""
    table = Table(title="Uploads: MB/s, and the ratio to the floor of the same round")
    for column in ("what", "way", "stage", "ratio", "fetch", "ratio", "worker MiB"):
        table.add_column(column, justify="left" if column in ("what", "way") else "right")
    connection = await asyncpg.connect(dsn)
    await connection.execute(_FLOOR_TABLE)
    await connection.close()
    with tempfile.TemporaryDirectory(prefix="molecule-bench-") as directory:
        for store in stores:
            await measure(dsn, store, rounds, Path(directory), table)
    Console().print(table)


def main() -> None:
    """Entry of `python -m benchmarks.uploads`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--stores", default="postgres,s3")
    arguments = parser.parse_args()
    with durable_postgres() as dsn:
        uvloop.run(run(dsn, arguments.rounds, arguments.stores.split(",")))


if __name__ == "__main__":
    main()
