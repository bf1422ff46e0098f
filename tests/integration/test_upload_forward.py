"""Files of agents that can be called: passed on, and read."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from moleculeai.upload.v1 import upload_service_pb2 as pb

from molecule_grpc.db.pool import Pool
from molecule_grpc.kernel.errors import Conflict, Invalid, MoleculeError, NotFound, Unavailable
from molecule_grpc.server.call import Call
from molecule_grpc.upload import forward
from tests.file_agent import FileAgent, file_agent
from tests.integration.agents import hire
from tests.integration.uploads import UploadSlice, call_of, form, posts, rest_call, uploads_of

MIB = 1024 * 1024
DEV = {"MOLECULE_ENV": "development"}


@pytest.fixture
async def agent() -> AsyncIterator[FileAgent]:
    async with file_agent() as made:
        yield made


@contextlib.asynccontextmanager
async def called(
    pool: Pool, url: str, mode: str | None = "push", secret: str | None = "s3cret"
) -> AsyncIterator[tuple[UploadSlice, UUID]]:
    """A workspace whose agent listens there."""
    (workspace_id,) = await hire(
        pool, 1, delivery_mode=mode, url=url, platform_inbound_secret=secret
    )
    async with uploads_of(pool, DEV) as uploads:
        yield uploads, workspace_id


async def post(
    uploads: UploadSlice, workspace_id: UUID, call: Call, *files: tuple[str, bytes, str]
) -> Any:
    body, kind = form(files)
    pieces = [body[at : at + 100_000] for at in range(0, len(body), 100_000)]
    return await uploads.service.PostUploads(posts(workspace_id, kind, pieces), call)


@pytest.mark.parametrize("mode", ["push", None, ""])
async def test_the_body_passes_as_it_is_and_so_does_the_answer(
    pool: Pool, agent: FileAgent, mode: str | None
) -> None:
    """D42: push, and NULL with a URL."""
    await pool.execute("ALTER TABLE workspaces DROP CONSTRAINT workspaces_delivery_mode_check")
    data = os.urandom(2 * MIB)
    async with called(pool, agent.url, mode) as (uploads, workspace_id):
        call = rest_call()
        answer = await post(uploads, workspace_id, call, ("my cat.png", data, "image/png"))
        assert agent.got == [("my cat.png", "image/png", data)]
        assert agent.bearers == ["Bearer s3cret"]
        assert json.loads(answer.data)["extra"] == [1, None]
        assert answer.content_type.startswith("application/json")
        assert call.headers["x-http-code"] == "200"
        assert await uploads.count("pending_uploads") == 0
        assert await uploads.notices(workspace_id) == []


async def test_grpc_clients_reach_it_too_with_clean_names(pool: Pool, agent: FileAgent) -> None:
    """D32, D42."""
    data = os.urandom(MIB)
    async with called(pool, agent.url) as (uploads, workspace_id):
        (told,) = await uploads.stage(workspace_id, ("a b.png", data, "image/png; x=1"))
    assert agent.got == [("a_b.png", "image/png", data)]
    assert (told.uri, told.size) == ("workspace:/x/a_b.png", MIB)


async def test_a_refusal_of_the_agent_passes_with_its_status(pool: Pool, agent: FileAgent) -> None:
    agent.status = 413
    async with called(pool, agent.url) as (uploads, workspace_id):
        call = rest_call()
        answer = await post(uploads, workspace_id, call, ("a", b"x", ""))
        assert call.headers["x-http-code"] == "413"
        assert json.loads(answer.data) == {"error": "no thanks"}
        with pytest.raises(Conflict, match="status 413"):
            await uploads.stage(workspace_id, ("a", b"x", ""))


async def test_a_body_that_is_too_large_is_our_refusal(pool: Pool, agent: FileAgent) -> None:
    """D31: nobody blames the agent for it."""
    agent.status = 500  # reads everything first
    async with called(pool, agent.url) as (uploads, workspace_id):

        async def endless() -> AsyncIterator[pb.PostUploadsRequest]:
            async for first in posts(workspace_id, "multipart/form-data; boundary=x", [b"--x"]):
                yield first
            while True:
                yield pb.PostUploadsRequest(body={"data": bytes(MIB)})

        with pytest.raises(Invalid) as caught:
            await uploads.service.PostUploads(endless(), rest_call())
    assert caught.value.reason == "BODY_TOO_LARGE"


async def test_an_agent_that_is_not_there_is_unreachable(pool: Pool) -> None:
    async with called(pool, "http://127.0.0.1:1") as (uploads, workspace_id):
        with pytest.raises(Unavailable, match="workspace unreachable") as caught:
            await post(uploads, workspace_id, rest_call(), ("a", b"x", ""))
        assert caught.value.reason == "AGENT_UNREACHABLE"
        with pytest.raises(Unavailable) as caught:
            await download(uploads, workspace_id, "/workspace/a.txt")
        assert caught.value.reason == "AGENT_UNREACHABLE"


async def test_an_address_that_must_not_be_called_is_not(pool: Pool, agent: FileAgent) -> None:
    """2.7: checked again before each call."""
    (workspace_id,) = await hire(
        pool, 1, delivery_mode="push", url=agent.url, platform_inbound_secret="s"
    )
    async with uploads_of(pool) as uploads:  # a public installation
        for doing in (
            post(uploads, workspace_id, rest_call(), ("a", b"x", "")),
            download(uploads, workspace_id, "/workspace/a.txt"),
        ):
            with pytest.raises(Invalid, match="workspace URL not allowed"):
                await doing
    assert agent.bearers == []


async def test_a_missing_secret_is_made_and_the_agent_must_learn_it_first(
    pool: Pool, agent: FileAgent
) -> None:
    """12.1: then a retry is right."""
    async with called(pool, agent.url, secret=None) as (uploads, workspace_id):
        with pytest.raises(Unavailable) as caught:
            await post(uploads, workspace_id, rest_call(), ("a", b"x", ""))
        assert caught.value.reason == "INBOUND_SECRET_PENDING"
        assert caught.value.retry_after == 30
        assert caught.value.body == {"retry_after_seconds": 30}
        await post(uploads, workspace_id, rest_call(), ("a", b"x", ""))
        secret = await pool.fetchval("SELECT platform_inbound_secret FROM workspaces")
    assert agent.bearers == [f"Bearer {secret}"]


async def test_a_rotated_secret_is_used_at_once(pool: Pool, agent: FileAgent) -> None:
    """D43: there is no cache to grow stale."""
    async with called(pool, agent.url) as (uploads, workspace_id):
        await post(uploads, workspace_id, rest_call(), ("a", b"x", ""))
        await pool.execute("UPDATE workspaces SET platform_inbound_secret = 'rotated'")
        await post(uploads, workspace_id, rest_call(), ("a", b"x", ""))
    assert agent.bearers == ["Bearer s3cret", "Bearer rotated"]


async def download(
    uploads: UploadSlice, workspace_id: UUID, path: str, call: Call | None = None
) -> tuple[bytes, str]:
    """A file of the agent, and its type."""
    request = pb.DownloadFileRequest(workspace_id=str(workspace_id), path=path)
    pieces = [piece async for piece in uploads.service.DownloadFile(request, call or call_of())]
    return b"".join(piece.data for piece in pieces), pieces[0].content_type


async def test_a_file_of_the_agent_is_read(pool: Pool, agent: FileAgent) -> None:
    """12.3: whatever it says, browsers save it."""
    agent.files["/workspace/a b.txt"] = data = os.urandom(3 * MIB)
    agent.files["/workspace/empty"] = b""
    async with called(pool, agent.url) as (uploads, workspace_id):
        call = rest_call()
        got = await download(uploads, workspace_id, "/workspace/a b.txt", call)
        assert got == (data, "text/html")
        assert call.headers["content-disposition"] == "attachment"
        assert call.headers["x-content-length"] == str(3 * MIB)
        assert (await download(uploads, workspace_id, "/workspace/empty"))[0] == b""
        assert agent.bearers[0] == "Bearer s3cret"


async def test_a_missing_file_is_not_found_and_a_redirect_is_not_followed(
    pool: Pool, agent: FileAgent
) -> None:
    agent.files["/workspace/a.txt"] = b"x"
    async with called(pool, agent.url) as (uploads, workspace_id):
        with pytest.raises(NotFound):
            await download(uploads, workspace_id, "/workspace/nope")
        with pytest.raises(Unavailable, match="status 302"):
            await download(uploads, workspace_id, "/workspace/redirect")
    assert len(agent.bearers) == 2


async def test_a_download_has_a_cap(
    pool: Pool, agent: FileAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, "LARGEST_DOWNLOAD", 1000)
    agent.files["/workspace/a"] = bytes(1001)
    async with called(pool, agent.url) as (uploads, workspace_id):
        with pytest.raises(Invalid) as caught:
            await download(uploads, workspace_id, "/workspace/a")
    assert caught.value.reason == "BODY_TOO_LARGE"


@pytest.mark.parametrize(
    ("mode", "url", "kind", "reason"),
    [
        ("poll", "", Conflict, "NO_DISPATCH_PATH"),
        ("poll", "http://127.0.0.1:1", Conflict, "NO_DISPATCH_PATH"),
        (None, "", Conflict, "NO_DISPATCH_PATH"),
        ("push", "", Unavailable, "URL_NOT_REGISTERED"),
    ],
)
async def test_agents_that_cannot_be_called_serve_no_downloads(
    pool: Pool, mode: str | None, url: str, kind: type[MoleculeError], reason: str
) -> None:
    """12.3."""
    async with called(pool, url, mode) as (uploads, workspace_id):
        with pytest.raises(kind) as caught:
            await download(uploads, workspace_id, "/workspace/a")
    assert caught.value.reason == reason


async def test_a_client_that_leaves_ends_the_call_to_the_agent(
    pool: Pool, agent: FileAgent
) -> None:
    async with called(pool, agent.url) as (uploads, workspace_id):
        arrived = asyncio.Event()

        async def stalling() -> AsyncIterator[pb.PostUploadsRequest]:
            async for first in posts(workspace_id, "multipart/form-data; boundary=x", [b"--x"]):
                yield first
            arrived.set()
            await asyncio.Event().wait()

        posting = asyncio.ensure_future(uploads.service.PostUploads(stalling(), rest_call()))
        await arrived.wait()
        posting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await posting
    assert agent.got == []
