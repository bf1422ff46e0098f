"""A revoked token ends uploads and downloads under way; a drain does not."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from google.api import httpbody_pb2
from moleculeai.upload.v1 import upload_service_pb2 as pb

from molecule_grpc.auth.tokens import digest
from molecule_grpc.db.pool import Pool
from molecule_grpc.kernel.errors import Unauthenticated
from molecule_grpc.server.call import Call
from tests.file_agent import FileAgent, file_agent
from tests.integration.agents import hire, someone_waits
from tests.integration.uploads import (
    UploadSlice,
    call_of,
    file_id_of,
    form,
    frames,
    posts,
    uploads_of,
)
from tests.waiting import PATIENCE

MIB = 1024 * 1024
SECRET = "a token that will be revoked"


@pytest.fixture
async def uploads(pool: Pool) -> AsyncIterator[UploadSlice]:
    async with uploads_of(pool) as made:
        yield made


@pytest.fixture
async def agent(pool: Pool) -> UUID:
    return (await hire(pool, 1))[0]


def call() -> Call:
    return call_of(authorization=f"Bearer {SECRET}")


def revoke(uploads: UploadSlice) -> None:
    uploads.core.authenticator.forget(digest(SECRET).hex())


async def nothing_is_there(uploads: UploadSlice, agent: UUID) -> None:
    assert await uploads.count("pending_uploads") == 0
    assert await uploads.notices(agent) == []


async def test_a_client_that_is_silent_hears_of_the_revocation_at_once(
    uploads: UploadSlice, agent: UUID
) -> None:
    """Not after the 60 s for which silence is borne."""
    arrived = asyncio.Event()

    async def silent() -> AsyncIterator[pb.StageUploadsRequest]:
        async for frame in frames(agent, [("a", b"x", "")]):
            yield frame
        arrived.set()
        await asyncio.Event().wait()

    staging = asyncio.create_task(uploads.service.StageUploads(silent(), call()))
    await arrived.wait()
    revoke(uploads)
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(Unauthenticated):
            await staging
    await nothing_is_there(uploads, agent)


@pytest.mark.parametrize("face", ["grpc", "rest"])
async def test_nothing_is_committed_after_a_revocation(
    uploads: UploadSlice, agent: UUID, face: str
) -> None:
    """Also when the last byte had arrived before it: here the commit waits for a lock."""
    async with uploads.pool.acquire() as conn, conn.transaction():
        await conn.execute("LOCK TABLE pending_uploads IN SHARE MODE")
        if face == "grpc":
            sent = frames(agent, [("a", b"x", "")])
            work = asyncio.create_task(uploads.service.StageUploads(sent, call()))
        else:
            body, kind = form([("a", b"x", "")])
            parts = posts(agent, kind, [body])
            work = asyncio.create_task(uploads.service.PostUploads(parts, call()))
        waiting = "SELECT true FROM pg_locks WHERE NOT granted LIMIT 1"
        async with asyncio.timeout(PATIENCE):
            while not await uploads.pool.fetchval(waiting):
                await asyncio.sleep(0.01)
        revoke(uploads)
    with pytest.raises(Unauthenticated):
        await work
    await nothing_is_there(uploads, agent)


async def test_no_upload_in_steps_is_committed_after_a_revocation(
    uploads: UploadSlice, agent: UUID
) -> None:
    """Its bytes were all there, and the commit waited for a lock. Another token may commit it."""
    start = pb.StartUploadRequest(workspace_id=str(agent), name="a", size=1)
    upload = await uploads.service.StartUpload(start, call_of())

    async def body() -> AsyncIterator[pb.WriteUploadRequest]:
        yield pb.WriteUploadRequest(
            workspace_id=str(agent),
            upload_id=upload.upload_id,
            body=httpbody_pb2.HttpBody(data=b"x"),
        )

    await uploads.service.WriteUpload(body(), call_of())
    request = pb.CommitUploadRequest(
        workspace_id=str(agent),
        upload_id=upload.upload_id,
        sha256=hashlib.sha256(b"x").hexdigest(),
    )
    async with uploads.pool.acquire() as conn, conn.transaction():
        await conn.execute("LOCK TABLE pending_uploads IN SHARE MODE")
        work = asyncio.create_task(uploads.service.CommitUpload(request, call()))
        await someone_waits(uploads.pool)
        revoke(uploads)
        # The lock is still held: the call does not wait for it.
        with pytest.raises(Unauthenticated):
            await work
    await nothing_is_there(uploads, agent)
    await uploads.service.CommitUpload(request, call_of())
    assert await uploads.count("pending_uploads") == 1


async def test_no_chunk_is_stored_after_a_revocation(uploads: UploadSlice, agent: UUID) -> None:
    """What was stored before it stays: the upload can go on with another token."""
    start = pb.StartUploadRequest(workspace_id=str(agent), name="a", size=3 * MIB)
    upload = await uploads.service.StartUpload(start, call_of())

    async def revoked_midway() -> AsyncIterator[pb.WriteUploadRequest]:
        body = httpbody_pb2.HttpBody(data=bytes(MIB))
        yield pb.WriteUploadRequest(workspace_id=str(agent), upload_id=upload.upload_id, body=body)
        yield pb.WriteUploadRequest(body={"data": b"and some more"})
        revoke(uploads)
        yield pb.WriteUploadRequest(body={"data": b"too late"})

    with pytest.raises(Unauthenticated):
        await uploads.service.WriteUpload(revoked_midway(), call())
    get = pb.GetUploadRequest(workspace_id=str(agent), upload_id=upload.upload_id)
    assert (await uploads.service.GetUpload(get, call_of())).committed_bytes == MIB


async def test_a_download_ends_with_the_token(uploads: UploadSlice, agent: UUID) -> None:
    (told,) = await uploads.stage(agent, ("a", os.urandom(2 * MIB), ""))
    file_id = file_id_of(told.uri)
    request = pb.GetUploadContentRequest(workspace_id=str(agent), file_id=str(file_id))
    pieces = uploads.service.GetUploadContent(request, call())
    await anext(pieces)
    revoke(uploads)
    with pytest.raises(Unauthenticated):
        await anext(pieces)
    row = await uploads.row(file_id)
    assert row is not None
    assert row["fetched_at"] is None


async def test_files_of_agents_that_are_called_end_with_the_token_too(pool: Pool) -> None:
    """Both ways: nothing more is passed on."""
    async with file_agent() as called, uploads_of(pool, {"MOLECULE_ENV": "development"}) as uploads:
        called.files["/workspace/a"] = bytes(3 * MIB)
        push = {"delivery_mode": "push", "url": called.url, "platform_inbound_secret": "s"}
        (agent,) = await hire(pool, 1, **push)
        request = pb.DownloadFileRequest(workspace_id=str(agent), path="/workspace/a")
        pieces = uploads.service.DownloadFile(request, call())
        await anext(pieces)
        revoke(uploads)
        with pytest.raises(Unauthenticated):
            _ = [piece async for piece in pieces]
        await _forward_ends(uploads, agent, called)


async def _forward_ends(uploads: UploadSlice, agent: UUID, called: FileAgent) -> None:
    async def revoked_midway() -> AsyncIterator[pb.StageUploadsRequest]:
        async for frame in frames(agent, [("a", bytes(MIB), "")]):
            yield frame
        revoke(uploads)
        yield pb.StageUploadsRequest(chunk=b"too late")

    with pytest.raises(Unauthenticated):
        await uploads.service.StageUploads(revoked_midway(), call())
    assert called.got == []


async def test_a_drain_lets_an_upload_finish(uploads: UploadSlice, agent: UUID) -> None:
    async def draining() -> AsyncIterator[pb.StageUploadsRequest]:
        async for frame in frames(agent, [("a", b"x", "")]):
            yield frame
        assert len(uploads.core.streams) == 1
        uploads.core.streams.drain()
        await asyncio.sleep(0.01)
        yield pb.StageUploadsRequest(chunk=b"y")

    answer = await uploads.service.StageUploads(draining(), call())
    assert [file.size for file in answer.files] == [2]
    assert len(uploads.core.streams) == 0
