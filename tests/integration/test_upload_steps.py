"""Files that are written in several steps."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from google.api import httpbody_pb2
from moleculeai.upload.v1 import upload_pb2
from moleculeai.upload.v1 import upload_service_pb2 as pb

from molecule_grpc.db.pool import Pool
from molecule_grpc.kernel.errors import Aborted, Conflict, Exhausted, Invalid, NotFound, Unavailable
from molecule_grpc.kernel.ids import new_id
from tests.integration.agents import hire
from tests.integration.uploads import UploadSlice, call_of, uploads_of
from tests.seaweed import Seaweed, new_prefix

MIB = 1024 * 1024


@pytest.fixture(params=["postgres", "s3"])
async def uploads(request: pytest.FixtureRequest, pool: Pool) -> AsyncIterator[UploadSlice]:
    environment: dict[str, str] = {}
    if request.param == "s3":
        seaweed: Seaweed = request.getfixturevalue("seaweed")
        environment = seaweed.environment(new_prefix())
    async with uploads_of(pool, environment) as made:
        yield made


@pytest.fixture
async def agent(pool: Pool) -> UUID:
    return (await hire(pool, 1))[0]


async def start(uploads: UploadSlice, agent: UUID, size: int, key: str = "") -> upload_pb2.Upload:
    request = pb.StartUploadRequest(
        workspace_id=str(agent), name="a b.bin", mime_type="a/b", size=size, request_id=key
    )
    return await uploads.service.StartUpload(request, call_of())


async def write(
    uploads: UploadSlice,
    agent: UUID,
    upload_id: str,
    offset: int,
    data: bytes,
    *,
    breaking: bool = False,
) -> upload_pb2.Upload:
    """Send bytes in frames; `breaking` ends as a lost connection does."""

    async def requests() -> AsyncIterator[pb.WriteUploadRequest]:
        piece = 300_000
        for at in range(0, len(data), piece):
            yield pb.WriteUploadRequest(
                workspace_id="" if at else str(agent),
                upload_id="" if at else upload_id,
                offset=0 if at else offset,
                body=httpbody_pb2.HttpBody(data=data[at : at + piece]),
            )
        if breaking:
            raise asyncio.CancelledError

    return await uploads.service.WriteUpload(requests(), call_of())


async def get(uploads: UploadSlice, agent: UUID, upload_id: str) -> upload_pb2.Upload:
    request = pb.GetUploadRequest(workspace_id=str(agent), upload_id=upload_id)
    return await uploads.service.GetUpload(request, call_of())


async def commit(
    uploads: UploadSlice, agent: UUID, upload_id: str, data: bytes, *, sha256: str = ""
) -> upload_pb2.Upload:
    request = pb.CommitUploadRequest(
        workspace_id=str(agent),
        upload_id=upload_id,
        sha256=sha256 or hashlib.sha256(data).hexdigest(),
    )
    return await uploads.service.CommitUpload(request, call_of())


async def test_a_broken_connection_costs_only_what_was_on_its_way(
    uploads: UploadSlice, agent: UUID
) -> None:
    """The rest is sent from `committed_bytes` on, and the file is the same."""
    data = os.urandom(12 * MIB + 5)
    upload = await start(uploads, agent, len(data))
    with pytest.raises(asyncio.CancelledError):
        await write(uploads, agent, upload.upload_id, 0, data[: 7 * MIB], breaking=True)
    half = await get(uploads, agent, upload.upload_id)
    assert half.committed_bytes == 7 * MIB
    assert await uploads.notices(agent) == []
    rest = data[half.committed_bytes :]
    whole = await write(uploads, agent, upload.upload_id, half.committed_bytes, rest)
    assert whole.committed_bytes == len(data)
    done = await commit(uploads, agent, upload.upload_id, data)
    assert done.file.uri == f"platform-pending:{agent}/{upload.upload_id}"
    assert (done.file.name, done.file.mime_type) == ("a_b.bin", "a/b")
    assert await uploads.read(agent, UUID(upload.upload_id)) == data
    (notice,) = await uploads.notices(agent)
    assert notice["file_id"] == upload.upload_id
    assert await uploads.count("upload_sessions") == 0
    await uploads.sweeper().sweep()
    assert await uploads.read(agent, UUID(upload.upload_id)) == data
    assert await uploads.count("loose_blobs") == 0


async def test_bytes_belong_where_the_stored_ones_end(uploads: UploadSlice, agent: UUID) -> None:
    upload = await start(uploads, agent, 10)
    await write(uploads, agent, upload.upload_id, 0, b"01234")
    for offset in (0, 4, 6):
        with pytest.raises(Aborted) as caught:
            await write(uploads, agent, upload.upload_id, offset, b"x")
        assert caught.value.reason == "OFFSET_MISMATCH"
        assert caught.value.metadata == {"committed_bytes": "5"}
    with pytest.raises(Invalid, match="more bytes than the 10"):
        await write(uploads, agent, upload.upload_id, 5, b"567890")
    assert (await get(uploads, agent, upload.upload_id)).committed_bytes == 5


async def test_two_writers_at_one_place_do_not_mix(uploads: UploadSlice, agent: UUID) -> None:
    upload = await start(uploads, agent, 4 * MIB)
    contents = [bytes([n]) * (4 * MIB) for n in range(4)]
    answers = await asyncio.gather(
        *(write(uploads, agent, upload.upload_id, 0, data) for data in contents),
        return_exceptions=True,
    )
    won = [n for n, answer in enumerate(answers) if isinstance(answer, upload_pb2.Upload)]
    refused = [answer for answer in answers if isinstance(answer, Aborted)]
    assert len(won) + len(refused) == 4
    if won:
        await commit(uploads, agent, upload.upload_id, contents[won[0]])


async def test_a_commit_wants_every_byte(uploads: UploadSlice, agent: UUID) -> None:
    upload = await start(uploads, agent, 10)
    await write(uploads, agent, upload.upload_id, 0, b"01234")
    with pytest.raises(Aborted) as caught:
        await commit(uploads, agent, upload.upload_id, b"01234")
    assert caught.value.reason == "UPLOAD_INCOMPLETE"
    await write(uploads, agent, upload.upload_id, 5, b"56789")
    await commit(uploads, agent, upload.upload_id, b"0123456789")


async def test_other_bytes_void_the_upload(uploads: UploadSlice, agent: UUID) -> None:
    """Nothing becomes visible, and nothing stays."""
    upload = await start(uploads, agent, 5)
    await write(uploads, agent, upload.upload_id, 0, b"01234")
    with pytest.raises(Invalid) as caught:
        await commit(uploads, agent, upload.upload_id, b"other")
    assert caught.value.reason == "CHECKSUM_MISMATCH"
    with pytest.raises(NotFound):
        await get(uploads, agent, upload.upload_id)
    await uploads.sweeper().sweep()
    assert await uploads.count("upload_chunks") == 0
    assert await uploads.notices(agent) == []


async def test_every_step_may_be_repeated(uploads: UploadSlice, agent: UUID) -> None:
    """Whoever did not hear an answer asks again: start, and commit, also at once."""
    first = await start(uploads, agent, 5, key="k")
    assert await start(uploads, agent, 5, key="k") == first
    with pytest.raises(Aborted) as caught:
        await start(uploads, agent, 6, key="k")
    assert caught.value.reason == "IDEMPOTENCY_MISMATCH"
    await write(uploads, agent, first.upload_id, 0, b"01234")
    answers = await asyncio.gather(
        *(commit(uploads, agent, first.upload_id, b"01234") for _ in range(3)),
        return_exceptions=True,
    )
    done = [answer for answer in answers if isinstance(answer, upload_pb2.Upload)]
    assert done
    refused = [answer for answer in answers if not isinstance(answer, upload_pb2.Upload)]
    assert all(isinstance(answer, Aborted | Unavailable) for answer in refused), refused
    again = await commit(uploads, agent, first.upload_id, b"01234")
    assert again.file == done[0].file
    assert (await start(uploads, agent, 5, key="k")).file == again.file
    assert len(await uploads.notices(agent)) == 1
    with pytest.raises(Invalid):
        await commit(uploads, agent, first.upload_id, b"other")


async def test_a_commit_that_lost_a_race_does_not_cost_the_file(
    uploads: UploadSlice, agent: UUID
) -> None:
    """The loser's note names bytes that belong to the winner: the sweep must keep them."""
    upload = await start(uploads, agent, 5)
    await write(uploads, agent, upload.upload_id, 0, b"01234")
    await asyncio.gather(
        *(commit(uploads, agent, upload.upload_id, b"01234") for _ in range(3)),
        return_exceptions=True,
    )
    await uploads.pool.execute(
        "INSERT INTO loose_blobs VALUES ($1, $2, now()) ON CONFLICT DO NOTHING",
        UUID(upload.upload_id),
        uploads.settings.upload.store,
    )
    await uploads.pool.execute("UPDATE loose_blobs SET due_at = now()")
    await uploads.sweeper().sweep()
    assert await uploads.read(agent, UUID(upload.upload_id)) == b"01234"


async def test_nobody_else_writes_or_looks(uploads: UploadSlice, pool: Pool) -> None:
    owner, other = await hire(pool, 2)
    upload = await start(uploads, owner, 5)
    for workspace_id, upload_id in ((other, upload.upload_id), (owner, str(new_id()))):
        with pytest.raises(NotFound):
            await write(uploads, workspace_id, upload_id, 0, b"x")
        with pytest.raises(NotFound):
            await get(uploads, workspace_id, upload_id)
        with pytest.raises(NotFound):
            await commit(uploads, workspace_id, upload_id, b"x")


async def test_an_upload_that_is_never_finished_leaves(uploads: UploadSlice, agent: UUID) -> None:
    upload = await start(uploads, agent, 5)
    await write(uploads, agent, upload.upload_id, 0, b"012")
    await uploads.pool.execute("UPDATE upload_sessions SET expires_at = now()")
    with pytest.raises(NotFound):
        await write(uploads, agent, upload.upload_id, 3, b"34")
    await uploads.sweeper().sweep()
    for table in ("upload_sessions", "upload_chunks", "loose_blobs"):
        assert await uploads.count(table) == 0


async def test_what_is_announced_counts_against_the_quota(pool: Pool) -> None:
    (agent,) = await hire(pool, 1)
    async with uploads_of(pool, {"MOLECULE_UPLOAD_QUOTA_BYTES": "10"}) as uploads:
        upload = await start(uploads, agent, 8)
        with pytest.raises(Exhausted):
            await start(uploads, agent, 3)
        await write(uploads, agent, upload.upload_id, 0, b"01234567")
        await commit(uploads, agent, upload.upload_id, b"01234567")
        with pytest.raises(Exhausted):
            await start(uploads, agent, 3)


async def test_the_cap_is_checked_before_anything_is_sent(
    uploads: UploadSlice, agent: UUID
) -> None:
    """D31."""
    with pytest.raises(Invalid) as caught:
        await start(uploads, agent, 25 * MIB + 1)
    assert caught.value.reason == "FILE_TOO_LARGE"


async def test_agents_that_can_be_called_take_files_in_one_request(pool: Pool) -> None:
    (agent,) = await hire(pool, 1, delivery_mode="push", url="http://127.0.0.1:1")
    async with uploads_of(pool) as uploads:
        with pytest.raises(Conflict) as caught:
            await start(uploads, agent, 3)
    assert caught.value.reason == "NO_DISPATCH_PATH"
