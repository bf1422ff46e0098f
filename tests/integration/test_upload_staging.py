"""Staging: files become visible all together or not at all."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
import structlog
from moleculeai.upload.v1 import upload_service_pb2 as pb

from molecule_grpc.db.pool import Pool
from molecule_grpc.kernel.errors import Aborted, Conflict, Exhausted, Invalid, NotFound, Unavailable
from molecule_grpc.kernel.ids import new_id
from molecule_grpc.upload import intake
from tests.integration.agents import hire
from tests.integration.uploads import (
    Begin,
    FileFrame,
    UploadSlice,
    call_of,
    file_id_of,
    form,
    frames,
    posts,
    uploads_of,
)
from tests.seaweed import Seaweed, new_prefix

MIB = 1024 * 1024
PNG = b"\x89PNG\r\n\x1a\n" + os.urandom(5000)


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


async def nothing_is_there(uploads: UploadSlice, agent: UUID) -> None:
    assert await uploads.count("pending_uploads") == 0
    assert await uploads.notices(agent) == []
    assert await uploads.count("activity_logs") == 0


async def test_files_arrive_in_order_with_their_notices(uploads: UploadSlice, agent: UUID) -> None:
    """D25, D26: bytes, names, types, sizes, hashes; one inbox row for each, in client order."""
    big = os.urandom(7 * MIB + 3)
    told = await uploads.post(
        agent,
        ("my cat.png", PNG, "image/png"),
        ("../big file.bin", big, "application/x-thing; v=1"),
        ("é.txt", b"x", ""),
    )
    assert [(one["name"], one["mimeType"], one["size"]) for one in told] == [
        ("my_cat.png", "image/png", len(PNG)),
        ("big_file.bin", "application/x-thing", len(big)),
        ("_.txt", "", 1),
    ]
    assert all(one["uri"].startswith(f"platform-pending:{agent}/") for one in told)
    ids = [file_id_of(one["uri"]) for one in told]
    for file_id, data in zip(ids, (PNG, big, b"x"), strict=True):
        assert await uploads.read(agent, file_id) == data
        row = await uploads.row(file_id)
        assert row is not None
        assert row["sha256"] == hashlib.sha256(data).digest()
        assert row["storage"] == uploads.settings.upload.store
    assert await uploads.notices(agent) == [
        {"file_id": str(file_id), **one} for file_id, one in zip(ids, told, strict=True)
    ]
    assert uploads.woken == [agent]
    assert await uploads.count("loose_blobs") == 0


async def test_both_faces_store_the_same(uploads: UploadSlice, agent: UUID) -> None:
    """D32: the same name, type and bytes over gRPC and REST."""
    file = ("C:\\a b\\ü.txt", b"hello", "text/plain;charset=utf-8")
    (rest,) = await uploads.post(agent, file)
    (grpc,) = await uploads.stage(agent, file)
    assert (rest["name"], rest["mimeType"], rest["size"]) == (grpc.name, grpc.mime_type, grpc.size)
    assert grpc.name == "C__a_b__.txt"


async def test_a_notice_is_what_pollers_look_for(uploads: UploadSlice, agent: UUID) -> None:
    """D39: `a2a_receive`, told apart by its method."""
    file_id = await uploads.one(agent, name="a b.txt")
    (row,) = await uploads.pool.fetch("SELECT * FROM activity_logs")
    assert (row["activity_type"], row["method"]) == ("a2a_receive", "chat_upload_receive")
    assert (row["workspace_id"], row["target_id"], row["source_id"]) == (agent, agent, None)
    assert row["summary"] == "chat_upload_receive: a_b.txt"
    assert json.loads(row["request_body"]) == {
        "file_id": str(file_id),
        "name": "a_b.txt",
        "mimeType": "text/plain",
        "size": 4,
        "uri": f"platform-pending:{agent}/{file_id}",
    }


async def test_a_repeat_is_answered_like_the_first(uploads: UploadSlice, agent: UUID) -> None:
    """A browser that did not hear the answer sends all of it again."""
    files = [("a.bin", os.urandom(2 * MIB), ""), ("b.txt", b"b", "")]
    first = await uploads.post(agent, *files, key="k")
    assert await uploads.post(agent, *files, key="k") == first
    again = await uploads.stage(agent, *files, key="k")
    assert [one.uri for one in again] == [one["uri"] for one in first]
    assert await uploads.count("pending_uploads") == 2
    assert len(await uploads.notices(agent)) == 2


async def test_a_key_is_for_one_content_and_one_workspace(uploads: UploadSlice, pool: Pool) -> None:
    one, other = await hire(pool, 2)
    await uploads.post(one, ("a", b"1", ""), key="k")
    await uploads.post(other, ("a", b"2", ""), key="k")
    with pytest.raises(Aborted) as caught:
        await uploads.post(one, ("a", b"3", ""), key="k")
    assert caught.value.reason == "IDEMPOTENCY_MISMATCH"
    assert await uploads.count("pending_uploads") == 2


async def test_two_repeats_at_once_make_one_set(uploads: UploadSlice, agent: UUID) -> None:
    file = ("a", os.urandom(3 * MIB), "")
    answers = await asyncio.gather(*(uploads.post(agent, file, key="k") for _ in range(5)))
    assert all(answer == answers[0] for answer in answers)
    assert await uploads.count("pending_uploads") == 1
    assert len(await uploads.notices(agent)) == 1


@pytest.mark.parametrize("size", [25 * MIB, 25 * MIB + 1])
async def test_a_file_of_25_mib_fits_and_one_byte_more_does_not(
    uploads: UploadSlice, agent: UUID, size: int
) -> None:
    """D31: nothing is stored of what is too large."""
    data = bytes(size)
    if size == 25 * MIB:
        (told,) = await uploads.post(agent, ("z.bin", data, ""))
        assert told["size"] == size
        return
    with pytest.raises(Invalid) as caught:
        await uploads.post(agent, ("ok", b"x", ""), ("z z.bin", data, ""))
    assert caught.value.reason == "FILE_TOO_LARGE"
    assert caught.value.body["filename"] == "z_z.bin"
    assert caught.value.body["max"] == 25 * MIB
    await nothing_is_there(uploads, agent)


async def test_the_cap_is_felt_while_reading(uploads: UploadSlice, agent: UUID) -> None:
    """D31: an endless file ends at the cap, whatever was announced."""
    sent = 0

    async def endless() -> AsyncIterator[pb.StageUploadsRequest]:
        nonlocal sent
        yield pb.StageUploadsRequest(begin=Begin(workspace_id=str(agent)))
        yield pb.StageUploadsRequest(file=FileFrame(name="x", size=10))
        while True:
            sent += MIB
            yield pb.StageUploadsRequest(chunk=bytes(MIB))

    with pytest.raises(Invalid) as caught:
        await uploads.service.StageUploads(endless(), call_of())
    assert caught.value.reason == "FILE_TOO_LARGE"
    assert sent == 26 * MIB
    await nothing_is_there(uploads, agent)


async def test_all_files_together_have_a_cap(uploads: UploadSlice, agent: UUID) -> None:
    with pytest.raises(Invalid) as caught:
        await uploads.stage(agent, *[(f"{n}", bytes(11 * MIB), "") for n in range(5)], piece=MIB)
    assert caught.value.reason == "BODY_TOO_LARGE"
    await nothing_is_there(uploads, agent)


@pytest.mark.parametrize(
    ("announced", "reason"),
    [
        ({"size": 3}, "CHECKSUM_MISMATCH"),
        ({"size": 5}, "CHECKSUM_MISMATCH"),
        ({"sha256": "0" * 64}, "CHECKSUM_MISMATCH"),
        ({"size": 200 * MIB}, "FILE_TOO_LARGE"),
    ],
)
async def test_what_is_announced_must_arrive(
    uploads: UploadSlice, agent: UUID, announced: dict[str, Any], reason: str
) -> None:
    async def lying() -> AsyncIterator[pb.StageUploadsRequest]:
        yield pb.StageUploadsRequest(begin=Begin(workspace_id=str(agent)))
        yield pb.StageUploadsRequest(file=FileFrame(name="x", **announced))
        yield pb.StageUploadsRequest(chunk=b"four")

    with pytest.raises(Invalid) as caught:
        await uploads.service.StageUploads(lying(), call_of())
    assert caught.value.reason == reason
    await nothing_is_there(uploads, agent)


async def test_an_empty_file_fails_the_request(uploads: UploadSlice, agent: UUID) -> None:
    with pytest.raises(Invalid, match="file is empty: b"):
        await uploads.post(agent, ("a", b"x", ""), ("b", b"", ""))
    await nothing_is_there(uploads, agent)


async def test_no_file_is_an_error(uploads: UploadSlice, agent: UUID) -> None:
    with pytest.raises(Invalid, match="no files"):
        await uploads.stage(agent)
    body, kind = form([("a", b"x", "")], field_name="other")
    with pytest.raises(Invalid, match="no files field in request"):
        await uploads.service.PostUploads(posts(agent, kind, [body]), call_of())
    await nothing_is_there(uploads, agent)


async def test_the_65th_file_fails_the_request(uploads: UploadSlice, agent: UUID) -> None:
    files = [(f"{n}", b"x", "") for n in range(65)]
    with pytest.raises(Invalid, match=r"too many files \(limit 64\)"):
        await uploads.stage(agent, *files)
    with pytest.raises(Invalid, match=r"too many files \(limit 64\)"):
        await uploads.post(agent, *files)
    await nothing_is_there(uploads, agent)
    assert len(await uploads.post(agent, *files[:64])) == 64


async def test_a_client_that_breaks_off_leaves_nothing_visible(
    uploads: UploadSlice, agent: UUID
) -> None:
    """And what was stored is on the list of what will be deleted."""

    async def broken() -> AsyncIterator[pb.StageUploadsRequest]:
        async for frame in frames(agent, [("a", b"x", ""), ("b", bytes(7 * MIB), "")]):
            yield frame
        raise ConnectionResetError

    with pytest.raises((ConnectionResetError, Unavailable)):
        await uploads.service.StageUploads(broken(), call_of())
    await nothing_is_there(uploads, agent)
    assert await uploads.count("loose_blobs") >= 1


async def test_a_body_cut_short_leaves_nothing_visible(uploads: UploadSlice, agent: UUID) -> None:
    body, kind = form([("a", b"x" * 100, ""), ("b", b"y" * 100, "")])
    with pytest.raises(Invalid, match="malformed multipart body"):
        await uploads.service.PostUploads(posts(agent, kind, [body[:-20]]), call_of())
    await nothing_is_there(uploads, agent)


async def test_a_client_that_falls_silent_is_given_up(
    uploads: UploadSlice, agent: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "IDLE_SECONDS", 0.2)

    async def silent() -> AsyncIterator[pb.StageUploadsRequest]:
        yield pb.StageUploadsRequest(begin=Begin(workspace_id=str(agent)))
        await asyncio.Event().wait()

    with pytest.raises(Aborted) as caught:
        await uploads.service.StageUploads(silent(), call_of())
    assert caught.value.reason == "UPLOAD_STALLED"


async def test_a_chunk_before_its_file_is_refused(uploads: UploadSlice, agent: UUID) -> None:
    async def wrong() -> AsyncIterator[pb.StageUploadsRequest]:
        yield pb.StageUploadsRequest(begin=Begin(workspace_id=str(agent)))
        yield pb.StageUploadsRequest(chunk=b"x")

    with pytest.raises(Invalid, match="must come before"):
        await uploads.service.StageUploads(wrong(), call_of())


async def test_a_workspace_that_is_not_there_is_not_found(uploads: UploadSlice, pool: Pool) -> None:
    (removed,) = await hire(pool, 1, status="removed")
    for workspace_id in (new_id(), removed):
        with pytest.raises(NotFound) as caught:
            await uploads.post(workspace_id, ("a", b"x", ""))
        assert caught.value.reason == "WORKSPACE_NOT_FOUND"


async def test_a_workspace_that_is_removed_meanwhile_gets_nothing(
    uploads: UploadSlice, agent: UUID
) -> None:
    async def slow() -> AsyncIterator[pb.StageUploadsRequest]:
        async for frame in frames(agent, [("a", b"x", "")]):
            yield frame
        await uploads.pool.execute("UPDATE workspaces SET status = 'removed' WHERE id = $1", agent)

    with pytest.raises(NotFound):
        await uploads.service.StageUploads(slow(), call_of())
    await nothing_is_there(uploads, agent)


@pytest.mark.parametrize(
    ("mode", "kind", "reason"),
    [
        ("push", Unavailable, "URL_NOT_REGISTERED"),
        (None, Conflict, "NO_DISPATCH_PATH"),
    ],
)
async def test_without_a_url_only_push_is_worth_a_retry(
    uploads: UploadSlice, pool: Pool, mode: str | None, kind: type[Exception], reason: str
) -> None:
    """D41: and over both faces."""
    (agent,) = await hire(pool, 1, delivery_mode=mode, runtime="langgraph")
    for way in (uploads.post, uploads.stage):
        with pytest.raises(kind) as caught:
            await way(agent, ("a", b"x", ""))
        assert caught.value.reason == reason  # type: ignore[attr-defined]


async def test_an_installation_without_staging_says_that_no_way_exists(pool: Pool) -> None:
    """D38, D41: poll mode without staging is refused as before staging existed."""
    (agent,) = await hire(pool, 1)
    async with uploads_of(pool, {"MOLECULE_UPLOAD_STORE": "off"}) as uploads:
        with pytest.raises(Conflict) as caught:
            await uploads.post(agent, ("a", b"x", ""))
    assert caught.value.reason == "NO_DISPATCH_PATH"


async def test_a_full_workspace_takes_no_more_files(pool: Pool) -> None:
    (agent, other) = await hire(pool, 2)
    async with uploads_of(pool, {"MOLECULE_UPLOAD_QUOTA_FILES": "3"}) as uploads:
        await uploads.post(agent, ("a", b"x", ""), ("b", b"x", ""))
        with pytest.raises(Exhausted) as caught:
            await uploads.post(agent, ("c", b"x", ""), ("d", b"x", ""))
        assert caught.value.reason == "UPLOAD_QUOTA_EXCEEDED"
        await uploads.post(other, ("c", b"x", ""), ("d", b"x", ""))
        assert await uploads.count("pending_uploads") == 4


async def test_a_full_workspace_takes_no_more_bytes(pool: Pool) -> None:
    (agent,) = await hire(pool, 1)
    async with uploads_of(pool, {"MOLECULE_UPLOAD_QUOTA_BYTES": "1000"}) as uploads:
        await uploads.post(agent, ("a", bytes(600), ""))
        with pytest.raises(Exhausted):
            await uploads.post(agent, ("b", bytes(401), ""))
        await uploads.post(agent, ("b", bytes(400), ""))


async def test_acknowledged_files_make_room(pool: Pool) -> None:
    """Their retention is a courtesy."""
    (agent,) = await hire(pool, 1)
    async with uploads_of(pool, {"MOLECULE_UPLOAD_QUOTA_FILES": "1"}) as uploads:
        for _ in range(3):
            await uploads.ack(agent, await uploads.one(agent))
        assert await uploads.count("pending_uploads") == 1


async def test_many_requests_at_once_do_not_pass_the_quota(pool: Pool) -> None:
    (agent,) = await hire(pool, 1)
    async with uploads_of(pool, {"MOLECULE_UPLOAD_QUOTA_FILES": "5"}) as uploads:
        answers = await asyncio.gather(
            *(uploads.post(agent, (f"{n}", b"x", "")) for n in range(12)),
            return_exceptions=True,
        )
        assert sum(isinstance(answer, list) for answer in answers) == 5
        assert await uploads.count("pending_uploads") == len(await uploads.notices(agent)) == 5


async def test_a_full_inbox_refuses_the_files_with_their_notices(pool: Pool) -> None:
    """I-UP-2: no file without its inbox row."""
    (agent,) = await hire(pool, 1)
    async with uploads_of(pool, {"MOLECULE_INBOX_MAX_ITEMS": "3"}) as small:
        await small.post(agent, ("a", b"x", ""), ("b", b"x", ""), ("c", b"x", ""))
        with pytest.raises(Exhausted) as caught:
            await small.post(agent, ("d", b"x", ""))
        assert caught.value.reason == "INBOX_FULL"
        assert await small.count("pending_uploads") == 3


async def test_one_line_of_the_log_for_each_file(uploads: UploadSlice, agent: UUID) -> None:
    """D40: staged, fetched, acked, swept; cleaned names only."""
    raw = "secret\x1b[31m name?.txt"
    with structlog.testing.capture_logs() as lines:
        (told,) = await uploads.stage(agent, (raw, b"1234", ""))
        file_id = file_id_of(told.uri)
        await uploads.read(agent, file_id)
        await uploads.ack(agent, file_id)
        await uploads.sweeper(0).sweep()
    ours = [line for line in lines if line.get("file_id") == str(file_id)]
    assert [line["event"] for line in ours] == [
        "upload staged", "upload fetched", "upload acked", "upload swept"
    ]  # fmt: skip
    for line in ours:
        assert line["workspace_id"] == str(agent)
        assert line["name"] == told.name
        assert line["size"] == 4
    assert raw not in repr(lines)
