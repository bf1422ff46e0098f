"""One contract for every store of bytes."""

from __future__ import annotations

import asyncio
import hashlib
import os
import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from molecule_grpc.db.pool import Pool
from molecule_grpc.kernel.errors import NotFound, Unavailable
from molecule_grpc.settings.settings import Settings
from molecule_grpc.settings.upload import UploadSettings
from molecule_grpc.upload.blobs.port import BlobBatch, BlobStore
from molecule_grpc.upload.blobs.postgres import PostgresBlobs
from molecule_grpc.upload.blobs.s3 import PART_BYTES, S3Blobs
from molecule_grpc.upload.store import loose
from tests.seaweed import BUCKET, Seaweed, new_prefix

MIB = 1024 * 1024
SIZES = [1, 1000, MIB - 1, MIB, MIB + 1, PART_BYTES, PART_BYTES + 1, 3 * PART_BYTES + 7]


def s3_settings(seaweed: Seaweed, prefix: str, **more: str) -> UploadSettings:
    """Settings of an installation that keeps its files under this prefix."""
    return Settings.from_env({**seaweed.environment(prefix), **more}).upload


@pytest.fixture(params=["postgres", "s3"])
async def store(request: pytest.FixtureRequest, pool: Pool) -> AsyncIterator[BlobStore]:
    if request.param == "postgres":
        yield PostgresBlobs(pool)
        return
    seaweed: Seaweed = request.getfixturevalue("seaweed")
    blobs = S3Blobs(pool, s3_settings(seaweed, new_prefix()))
    yield blobs
    await blobs.close()


async def write(batch: BlobBatch, data: bytes, piece: int = 256 * 1024) -> UUID:
    """A blob, written in pieces."""
    blob_id = uuid.uuid4()
    await batch.begin(blob_id)
    for at in range(0, len(data), piece):
        await batch.write(data[at : at + piece])
    await batch.end()
    return blob_id


async def keep(pool: Pool, batch: BlobBatch) -> None:
    """Give the blobs of a batch an owner."""
    await batch.flush()
    async with pool.acquire() as conn, conn.transaction():
        await batch.settle(conn)


async def stored(store: BlobStore, pool: Pool, data: bytes) -> UUID:
    """A blob with an owner."""
    async with store.batch() as batch:
        blob_id = await write(batch, data)
        await keep(pool, batch)
    return blob_id


async def read(store: BlobStore, blob_id: UUID, start: int, stop: int) -> bytes:
    return b"".join([piece async for piece in store.read(blob_id, start, stop)])


async def nothing_known(blob_ids: Sequence[UUID]) -> set[UUID]:
    return set()


@pytest.mark.parametrize("size", SIZES)
async def test_what_is_written_is_read(store: BlobStore, pool: Pool, size: int) -> None:
    """D37: byte for byte, at and around the sizes of chunks and parts."""
    data = os.urandom(size)
    blob_id = await stored(store, pool, data)
    assert await read(store, blob_id, 0, size) == data


async def test_a_part_is_read_alone(store: BlobStore, pool: Pool) -> None:
    """D37: also across the borders of chunks."""
    data = os.urandom(3 * MIB)
    blob_id = await stored(store, pool, data)
    for start, stop in [(0, 1), (MIB - 2, MIB + 2), (MIB, 2 * MIB), (3 * MIB - 1, 3 * MIB)]:
        assert await read(store, blob_id, start, stop) == data[start:stop]


async def test_a_batch_keeps_its_blobs_apart(store: BlobStore, pool: Pool) -> None:
    """D37: blobs above and below `PART_BYTES`, mixed in a batch, read back unchanged."""
    contents = [os.urandom(n) for n in (10, 2 * MIB, 1, PART_BYTES + 5, 900_000, 900_000)]
    async with store.batch() as batch:
        ids = [await write(batch, data, piece=70_001) for data in contents]
        await keep(pool, batch)
    for blob_id, data in zip(ids, contents, strict=True):
        got = await read(store, blob_id, 0, len(data))
        assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest()


async def test_a_batch_that_is_not_settled_is_deleted_when_it_is_due(
    store: BlobStore, pool: Pool
) -> None:
    """D37: nothing that nobody owns stays."""
    async with store.batch() as batch:
        blob_id = await write(batch, os.urandom(6 * MIB))
    await pool.execute("UPDATE loose_blobs SET due_at = now() - interval '1 second'")
    due = await loose.take_due(pool, store.name, limit=10, again_in=timedelta(minutes=1))
    assert due == [blob_id]
    assert await store.delete(due) == set()
    with pytest.raises(NotFound):
        await read(store, blob_id, 0, 10)
    assert await pool.fetchval("SELECT count(*) FROM upload_chunks") == 0


async def test_a_settled_batch_is_off_the_list(store: BlobStore, pool: Pool) -> None:
    await stored(store, pool, os.urandom(6 * MIB))
    assert await pool.fetchval("SELECT count(*) FROM loose_blobs") == 0


async def test_a_batch_that_was_given_up_cannot_be_settled(store: BlobStore, pool: Pool) -> None:
    """D37: or files would be visible whose bytes are gone."""
    async with store.batch() as batch:
        await write(batch, os.urandom(6 * MIB))
        await pool.execute("DELETE FROM loose_blobs")
        with pytest.raises(Unavailable):
            await keep(pool, batch)


async def test_after_a_flush_settling_does_not_wait_for_the_store(
    store: BlobStore, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a slow store would hold a transaction, with its locks."""
    async with store.batch() as batch:
        blob_id = await write(batch, os.urandom(1000))
        await batch.flush()
        with monkeypatch.context() as patched:
            if isinstance(store, S3Blobs):
                patched.setattr(store, "run", None)
            await keep(pool, batch)
    assert len(await read(store, blob_id, 0, 1000)) == 1000


async def test_a_rollback_leaves_the_blobs_loose(store: BlobStore, pool: Pool) -> None:
    async def settle_and_fail() -> None:
        await batch.flush()
        async with pool.acquire() as conn, conn.transaction():
            await batch.settle(conn)
            raise ZeroDivisionError

    async with store.batch() as batch:
        await write(batch, os.urandom(6 * MIB))
        before = await pool.fetchval("SELECT count(*) FROM loose_blobs")
        with pytest.raises(ZeroDivisionError):
            await settle_and_fail()
    assert await pool.fetchval("SELECT count(*) FROM loose_blobs") == before == 1


async def test_deleting_is_repeatable(store: BlobStore, pool: Pool) -> None:
    blob_id = await stored(store, pool, b"x")
    for _ in range(2):
        await store.delete([blob_id, uuid.uuid4()])
    with pytest.raises(NotFound):
        await read(store, blob_id, 0, 1)


async def test_a_blob_that_is_being_deleted_gets_no_owner(store: BlobStore, pool: Pool) -> None:
    """Whatever the store does with it: the sweep may have died, and is repeated later."""
    async with store.batch() as batch:
        blob_id = await write(batch, os.urandom(6 * MIB))
        await pool.execute("UPDATE loose_blobs SET due_at = now() - interval '1 second'")
        in_no_time, later = timedelta(0), timedelta(minutes=1)
        assert await loose.take_due(pool, store.name, limit=10, again_in=in_no_time) == [blob_id]
        with pytest.raises(Unavailable):
            await keep(pool, batch)
    assert await loose.take_due(pool, store.name, limit=10, again_in=later) == [blob_id]
    assert await loose.take_due(pool, store.name, limit=10, again_in=later) == []
    await loose.forget(pool, store.name, [blob_id])
    assert await pool.fetchval("SELECT count(*) FROM loose_blobs") == 0


async def test_a_blob_that_is_not_there_is_not_found(store: BlobStore) -> None:
    with pytest.raises(NotFound) as caught:
        await read(store, uuid.uuid4(), 0, 1)
    assert caught.value.reason == "UPLOAD_NOT_FOUND"


async def test_a_blob_that_is_shorter_than_asked_never_reads_as_whole(
    store: BlobStore, pool: Pool
) -> None:
    """D27: a truncated download must fail, not end."""
    blob_id = await stored(store, pool, b"12345")
    with pytest.raises(NotFound):
        await read(store, blob_id, 0, 6)


async def test_a_reader_that_leaves_early_leaves_nothing_open(store: BlobStore, pool: Pool) -> None:
    blob_id = await stored(store, pool, os.urandom(8 * MIB))
    tasks = len(asyncio.all_tasks())
    pieces = store.read(blob_id, 0, 8 * MIB)
    await anext(pieces)
    await pieces.aclose()  # type: ignore[attr-defined]
    assert len(asyncio.all_tasks()) == tasks


async def test_orphans_go_and_the_known_stay(store: BlobStore, pool: Pool) -> None:
    """D37: by age, and only what the database does not know."""
    known_id = await stored(store, pool, b"known")
    orphan_id = await stored(store, pool, b"orphan")

    async def known(blob_ids: Sequence[UUID]) -> set[UUID]:
        return {known_id} & set(blob_ids)

    assert await store.sweep_orphans(known, timedelta(hours=1)) == 0
    swept = await store.sweep_orphans(known, timedelta(seconds=-60))
    assert await read(store, known_id, 0, 5) == b"known"
    if store.name == "s3":  # Postgres has no orphans: bytes and row commit together.
        assert swept == 1
        with pytest.raises(NotFound):
            await read(store, orphan_id, 0, 6)


async def test_other_peoples_objects_stay(pool: Pool, seaweed: Seaweed) -> None:
    """D37: outside of our prefix, and inside under names that are not ours."""
    prefix = new_prefix()
    for key in ("elsewhere/x", "ours/README"):
        seaweed.client.put_object(Bucket=BUCKET, Key=prefix + key, Body=b"x")
    blobs = S3Blobs(pool, s3_settings(seaweed, f"{prefix}ours/"))
    await blobs.sweep_orphans(nothing_known, timedelta(seconds=-60))
    await blobs.close()
    assert set(seaweed.keys(prefix)) == {"elsewhere/x", "ours/README"}


async def test_open_parts_are_aborted_with_age(pool: Pool, seaweed: Seaweed) -> None:
    """D37: a server that died in the midst of a file leaves parts that cost money."""
    prefix = new_prefix()
    blobs = S3Blobs(pool, s3_settings(seaweed, prefix))
    await blobs.run(blobs.begin_parts, blobs.key(uuid.uuid4()))

    def parts() -> int:
        page = seaweed.client.list_multipart_uploads(Bucket=BUCKET, Prefix=prefix)
        return len(page.get("Uploads", ()))

    await blobs.sweep_orphans(nothing_known, timedelta(hours=1))
    assert parts() == 1
    await blobs.sweep_orphans(nothing_known, timedelta(seconds=-60))
    assert parts() == 0
    await blobs.close()


async def test_a_store_that_is_down_is_unavailable(pool: Pool, seaweed: Seaweed) -> None:
    """D37: a read, a write and a delete all raise `Unavailable`."""
    down = s3_settings(seaweed, new_prefix(), MOLECULE_S3_ENDPOINT="http://127.0.0.1:1")
    blobs = S3Blobs(pool, down)
    with pytest.raises(Unavailable) as caught:
        await read(blobs, uuid.uuid4(), 0, 1)
    assert caught.value.reason == "UPLOAD_STORE_UNAVAILABLE"
    with pytest.raises(Unavailable):
        await stored(blobs, pool, b"x")
    with pytest.raises(Unavailable):
        await blobs.delete([uuid.uuid4()])
    await blobs.close()


async def test_objects_that_s3_will_not_delete_are_told(pool: Pool, seaweed: Seaweed) -> None:
    """S3 answers 200 and names them in the body."""

    def refuse(parsed: dict[str, Any], **_: object) -> None:
        parsed["Errors"] = [{"Key": blobs.key(locked), "Code": "AccessDenied"}]

    blobs = S3Blobs(pool, s3_settings(seaweed, new_prefix()))
    locked, free = [await stored(blobs, pool, b"x") for _ in range(2)]
    blobs.client.meta.events.register("after-call.s3.DeleteObjects", refuse)
    assert await blobs.delete([locked, free]) == {locked}
    await blobs.close()


async def test_s3_is_not_asked_while_a_connection_is_held(pool: Pool, seaweed: Seaweed) -> None:
    blobs = S3Blobs(pool, s3_settings(seaweed, new_prefix()))
    async with pool.acquire():
        with pytest.raises(RuntimeError, match="connection was held"):
            await blobs.delete([uuid.uuid4()])
    await blobs.delete([uuid.uuid4()])
    await blobs.close()
