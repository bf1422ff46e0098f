"""Reading, acknowledging and sweeping staged files."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import pytest
import structlog
from moleculeai.upload.v1 import upload_service_pb2 as pb
from prometheus_client import REGISTRY

from molecule_grpc.db.pool import Pool
from molecule_grpc.kernel.errors import NotFound, OutOfRange, Unavailable
from molecule_grpc.kernel.ids import new_id
from molecule_grpc.server.tasks import BackgroundTask
from molecule_grpc.upload.store import uploads as upload_store
from molecule_grpc.upload.workers import SweepCounts
from tests.integration.agents import hire
from tests.integration.uploads import UploadSlice, call_of, file_id_of, rest_call, until, uploads_of
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


async def age(uploads: UploadSlice, file_id: UUID, column: str, **by: float) -> None:
    """Make a time of a file lie further back."""
    await uploads.pool.execute(
        f"UPDATE pending_uploads SET {column} = {column} - $2::interval WHERE file_id = $1",
        file_id,
        timedelta(**by),
    )


async def test_the_owner_reads_bytes_and_headers(uploads: UploadSlice, agent: UUID) -> None:
    """D27: type, length, name, and that browsers must not show it."""
    data = os.urandom(3 * MIB + 1)
    (told,) = await uploads.stage(agent, ("my cat.png", data, "image/png"))
    call = rest_call()
    request = pb.GetUploadContentRequest(workspace_id=str(agent), file_id=str(file_id_of(told.uri)))
    pieces = [piece async for piece in uploads.service.GetUploadContent(request, call)]
    assert b"".join(piece.data for piece in pieces) == data
    assert {piece.content_type for piece in pieces} == {"image/png"}
    assert max(len(piece.data) for piece in pieces) <= 256 * 1024
    assert call.headers["x-content-length"] == str(len(data))
    assert call.headers["content-disposition"].startswith('attachment; filename="my_cat.png"')
    assert "x-http-code" not in call.headers


async def test_a_file_without_a_type_is_bytes(uploads: UploadSlice, agent: UUID) -> None:
    """D27."""
    (told,) = await uploads.stage(agent, ("a", b"x", ""))
    request = pb.GetUploadContentRequest(workspace_id=str(agent), file_id=str(file_id_of(told.uri)))
    (piece,) = [p async for p in uploads.service.GetUploadContent(request, call_of())]
    assert piece.content_type == "application/octet-stream"


async def test_others_read_the_same_nothing_as_for_a_missing_file(
    uploads: UploadSlice, pool: Pool
) -> None:
    """D26, D27, I-UP-1: another workspace, an unknown id, an expired and an acknowledged file."""
    owner, other = await hire(pool, 2)
    file_id, expired, acked = [await uploads.one(owner) for _ in range(3)]
    await age(uploads, expired, "expires_at", hours=25)
    await uploads.ack(owner, acked)
    seen = set()
    for workspace_id, wanted in [
        (other, file_id),
        (owner, new_id()),
        (owner, expired),
        (owner, acked),
    ]:
        with pytest.raises(NotFound) as caught:
            await uploads.read(workspace_id, wanted)
        seen.add((caught.value.message, caught.value.reason, repr(caught.value.body)))
    assert seen == {("upload not found", "UPLOAD_NOT_FOUND", "{}")}
    assert await uploads.read(owner, file_id) == b"data"


async def test_a_setting_keeps_acknowledged_files_readable(pool: Pool) -> None:
    """D27: until the sweep."""
    (agent,) = await hire(pool, 1)
    async with uploads_of(pool, {"MOLECULE_UPLOAD_READ_AFTER_ACK": "1"}) as uploads:
        file_id = await uploads.one(agent)
        await uploads.ack(agent, file_id)
        assert await uploads.read(agent, file_id) == b"data"
        await uploads.sweeper(0).sweep()
        with pytest.raises(NotFound):
            await uploads.read(agent, file_id)


async def test_a_part_is_read_by_header_or_by_field(uploads: UploadSlice, agent: UUID) -> None:
    """D27: a download that broke off goes on."""
    data = os.urandom(2 * MIB)
    (told,) = await uploads.stage(agent, ("a", data, ""))
    file_id = file_id_of(told.uri)
    call = rest_call({"range": f"bytes={MIB - 5}-{MIB + 5}"})
    assert await uploads.read(agent, file_id, call) == data[MIB - 5 : MIB + 6]
    assert call.headers["x-http-code"] == "206"
    assert call.headers["content-range"] == f"bytes {MIB - 5}-{MIB + 5}/{2 * MIB}"
    assert call.headers["x-content-length"] == "11"
    assert await uploads.read(agent, file_id, offset=MIB) == data[MIB:]
    assert await uploads.read(agent, file_id, offset=3, length=4) == data[3:7]
    with pytest.raises(OutOfRange):
        await uploads.read(agent, file_id, offset=2 * MIB)
    etag = call.headers["etag"]
    same = rest_call({"range": "bytes=0-0", "if-range": etag})
    changed = rest_call({"range": "bytes=0-0", "if-range": '"other"'})
    assert len(await uploads.read(agent, file_id, same)) == 1
    assert len(await uploads.read(agent, file_id, changed)) == 2 * MIB


async def test_a_fetch_is_stamped_when_it_reached_the_end(
    uploads: UploadSlice, agent: UUID
) -> None:
    """D29."""
    (told,) = await uploads.stage(agent, ("a", bytes(MIB), ""))
    file_id = file_id_of(told.uri)
    await uploads.read(agent, file_id, offset=0, length=10)
    row = await uploads.row(file_id)
    assert row is not None
    assert row["fetched_at"] is None
    await uploads.read(agent, file_id)
    row = await uploads.row(file_id)
    assert row is not None
    assert row["fetched_at"] is not None


async def test_a_failing_stamp_does_not_fail_the_fetch(uploads: UploadSlice, agent: UUID) -> None:
    """D29: it is only logged."""
    file_id = await uploads.one(agent)
    await uploads.pool.execute(
        "ALTER TABLE pending_uploads ADD CONSTRAINT broken CHECK (fetched_at IS NULL)"
    )
    with structlog.testing.capture_logs() as lines:
        assert await uploads.read(agent, file_id) == b"data"
    assert "fetch not noted" in [line["event"] for line in lines]


async def test_an_ack_is_repeatable_and_the_first_counts(uploads: UploadSlice, agent: UUID) -> None:
    """D28."""
    file_id = await uploads.one(agent)
    first = await uploads.ack(agent, file_id)
    row = await uploads.row(file_id)
    again = await uploads.ack(agent, file_id)
    later = await uploads.row(file_id)
    assert row is not None
    assert later is not None
    assert (first.acked, first.already_acked) == (True, False)
    assert (again.acked, again.already_acked) == (True, True)
    assert row["acked_at"] == later["acked_at"]


async def test_nobody_else_acknowledges(uploads: UploadSlice, pool: Pool) -> None:
    """D28."""
    owner, other = await hire(pool, 2)
    file_id = await uploads.one(owner)
    for workspace_id, wanted in [(other, file_id), (owner, new_id())]:
        with pytest.raises(NotFound):
            await uploads.ack(workspace_id, wanted)
    assert await uploads.read(owner, file_id) == b"data"


async def test_an_ack_that_meets_the_sweep_succeeds(uploads: UploadSlice, agent: UUID) -> None:
    """D28: the file leaves between the look and the write."""
    file_id = await uploads.one(agent)
    async with uploads.pool.acquire() as conn:
        transaction = conn.transaction()
        await transaction.start()
        await conn.execute("DELETE FROM pending_uploads WHERE file_id = $1", file_id)
        ack = asyncio.create_task(uploads.ack(agent, file_id))
        await until(
            lambda: uploads.pool.fetchval("SELECT true FROM pg_locks WHERE NOT granted LIMIT 1")
        )
        await transaction.commit()
    answer = await ack
    assert (answer.acked, answer.raced) == (True, True)


async def test_the_list_shows_what_waits(uploads: UploadSlice, agent: UUID) -> None:
    first, second, acked, expired = [await uploads.one(agent, name=f"{n}") for n in range(4)]
    await uploads.ack(agent, acked)
    await age(uploads, expired, "expires_at", hours=25)
    await uploads.read(agent, second)
    request = pb.ListPendingUploadsRequest(workspace_id=str(agent))
    files = (await uploads.service.ListPendingUploads(request, call_of())).files
    assert [file.file_id for file in files] == [str(first), str(second)]
    assert [file.HasField("fetched_at") for file in files] == [False, True]
    assert files[0].uri == f"platform-pending:{agent}/{first}"
    assert len(files[0].sha256) == 64


async def test_the_sweep_takes_the_acked_after_their_time_and_the_expired(
    uploads: UploadSlice, agent: UUID
) -> None:
    """D33, D30: the acknowledged too young stays, the fresh stays, both are counted."""
    fresh, young, old, expired, both = [await uploads.one(agent) for _ in range(5)]
    for file_id in (young, old, both):
        await uploads.ack(agent, file_id)
    await age(uploads, young, "acked_at", minutes=59)
    await age(uploads, young, "expires_at", hours=25)
    await age(uploads, old, "acked_at", minutes=61)
    await age(uploads, both, "acked_at", minutes=61)
    await age(uploads, both, "expires_at", hours=25)
    await age(uploads, expired, "expires_at", hours=24, seconds=1)
    before = {name: _swept(name) for name in ("acked", "expired")}
    # What was acknowledged is never counted as expired.
    assert await uploads.sweeper().sweep() == SweepCounts(acked=2, expired=1)
    assert {name: _swept(name) - before[name] for name in before} == {"acked": 2, "expired": 1}
    assert await uploads.sweeper().sweep() == SweepCounts(0, 0)
    kept = {
        row["file_id"] for row in await uploads.pool.fetch("SELECT file_id FROM pending_uploads")
    }
    assert kept == {fresh, young}


@pytest.mark.parametrize("retention", [0, -1, -3600])
async def test_no_retention_deletes_at_once(
    uploads: UploadSlice, agent: UUID, retention: float
) -> None:
    """D34: a negative one is none."""
    acked, waiting = await uploads.one(agent), await uploads.one(agent)
    await uploads.ack(agent, acked)
    assert await uploads.sweeper(retention).sweep() == SweepCounts(acked=1, expired=0)
    assert await uploads.row(waiting) is not None


async def test_the_sweep_deletes_the_bytes_too(uploads: UploadSlice, agent: UUID) -> None:
    """D30, D33: of the acknowledged at once, of the expired when nobody can be reading them."""
    acked, expired, kept = [await uploads.one(agent, bytes(6 * MIB)) for _ in range(3)]
    await uploads.ack(agent, acked)
    await age(uploads, expired, "expires_at", hours=25)
    await uploads.sweeper(0).sweep()
    store = uploads.stores.active
    assert store is not None

    async def there(file_id: UUID) -> bool:
        try:
            return bool([piece async for piece in store.read(file_id, 0, 10)])
        except NotFound:
            return False

    assert [await there(each) for each in (acked, expired, kept)] == [False, True, True]
    await uploads.pool.execute("UPDATE loose_blobs SET due_at = now()")
    await uploads.sweeper(0).sweep()
    assert [await there(each) for each in (acked, expired, kept)] == [False, False, True]
    assert await uploads.count("loose_blobs") == 0


async def test_a_read_that_began_before_the_expiry_ends_well(
    uploads: UploadSlice, agent: UUID
) -> None:
    """D27: the sweep does not pull the bytes from under it."""
    data = os.urandom(9 * MIB)
    (told,) = await uploads.stage(agent, ("a", data, ""))
    file_id = file_id_of(told.uri)
    request = pb.GetUploadContentRequest(workspace_id=str(agent), file_id=str(file_id))
    pieces = uploads.service.GetUploadContent(request, call_of())
    got = (await anext(pieces)).data
    await age(uploads, file_id, "expires_at", hours=25)
    assert (await uploads.sweeper(0).sweep()).expired == 1
    assert got + b"".join([piece.data async for piece in pieces]) == data


async def test_a_read_whose_bytes_are_gone_fails_and_does_not_end(
    uploads: UploadSlice, agent: UUID
) -> None:
    """D27: half a file must never look like a whole one."""
    (told,) = await uploads.stage(agent, ("a", bytes(9 * MIB), ""))
    file_id = file_id_of(told.uri)
    request = pb.GetUploadContentRequest(workspace_id=str(agent), file_id=str(file_id))
    pieces = uploads.service.GetUploadContent(request, call_of())
    await anext(pieces)
    assert uploads.stores.active is not None
    await uploads.stores.active.delete([file_id])
    with pytest.raises(NotFound):
        _ = [piece async for piece in pieces]


async def test_workers_may_sweep_at_once(uploads: UploadSlice, agent: UUID) -> None:
    """D33: each file is counted by one of them."""
    for n in range(4):
        await uploads.post(agent, *[(f"{n}-{m}", b"x", "") for m in range(30)])
    await uploads.pool.execute("UPDATE pending_uploads SET acked_at = now() WHERE position % 2 = 0")
    await uploads.pool.execute(
        "UPDATE pending_uploads SET expires_at = now() WHERE position % 2 = 1"
    )
    counts = await asyncio.gather(*(uploads.sweeper(0).sweep() for _ in range(6)))
    assert (sum(c.acked for c in counts), sum(c.expired for c in counts)) == (60, 60)
    assert await uploads.count("pending_uploads") == 0


async def test_acks_and_sweeps_at_once_never_fail(uploads: UploadSlice, agent: UUID) -> None:
    """D28, I-UP-4: in whatever order."""
    ids = [await uploads.one(agent) for _ in range(30)]

    async def ack_twice(file_id: UUID) -> None:
        assert (await uploads.ack(agent, file_id)).acked
        with contextlib.suppress(NotFound):  # swept meanwhile, after an ack that succeeded
            assert (await uploads.ack(agent, file_id)).acked

    sweeps = [uploads.sweeper(0).sweep() for _ in range(5)]
    await asyncio.gather(*map(ack_twice, ids), *sweeps)


async def test_the_counters_are_there_at_zero() -> None:
    """D36: all three outcomes, before the first sweep."""
    for outcome in ("acked", "expired", "error"):
        assert _swept(outcome) is not None


async def test_a_failing_sweep_is_counted_and_the_next_one_works(
    uploads: UploadSlice, agent: UUID
) -> None:
    """D36: the background task survives the failure."""
    await uploads.ack(agent, await uploads.one(agent))
    sweeper = uploads.sweeper(0)
    await uploads.pool.execute("ALTER TABLE pending_uploads RENAME TO hidden")
    before = _swept("error")
    task = BackgroundTask("upload-sweep", 300, sweeper.sweep)
    await task.run_once()
    assert (task.failures, _swept("error") - before) == (1, 1)
    await uploads.pool.execute("ALTER TABLE hidden RENAME TO pending_uploads")
    await task.run_once()
    assert task.failures == 0
    assert await uploads.count("pending_uploads") == 0


async def test_a_start_sweeps_what_became_due_meanwhile(uploads: UploadSlice, agent: UUID) -> None:
    """D35."""
    file_id = await uploads.one(agent)
    await age(uploads, file_id, "expires_at", hours=25)
    running = asyncio.create_task(uploads.tasks[0].run())
    await until(lambda: _absent(uploads, file_id))
    running.cancel()


async def test_a_removal_lets_go_of_everything_of_a_workspace(
    uploads: UploadSlice, pool: Pool
) -> None:
    """I-UP-8: now, not in a day."""
    gone, kept = await hire(pool, 2)
    await uploads.one(gone, bytes(2 * MIB))
    await uploads.ack(gone, await uploads.one(gone))
    await uploads.service.StartUpload(
        pb.StartUploadRequest(workspace_id=str(gone), name="a", size=10), call_of()
    )
    file_id = await uploads.one(kept)
    async with pool.acquire() as conn, conn.transaction():
        await uploads.removals.remove(conn, [gone])
    await uploads.sweeper().sweep()
    assert await uploads.count("pending_uploads") == 1
    assert await uploads.count("upload_sessions") == 0
    assert await uploads.count("loose_blobs") == 0
    assert await uploads.read(kept, file_id) == b"data"


async def test_the_bytes_of_a_removed_workspace_go_at_once(
    uploads: UploadSlice, agent: UUID
) -> None:
    """I-UP-8: not at the sweep's next turn, which is minutes away."""
    await uploads.one(agent)
    running = asyncio.create_task(uploads.tasks[0].run())
    await until(lambda: _swept_once(uploads))
    async with uploads.pool.acquire() as conn, conn.transaction():
        await uploads.removals.remove(conn, [agent])
    uploads.removals.removed([agent])
    await until(lambda: _no_bytes(uploads))
    running.cancel()


async def test_files_of_a_store_that_the_settings_no_longer_name_are_unavailable(
    pool: Pool, seaweed: Seaweed
) -> None:
    """D37: not lost: unavailable until it is named again."""
    (agent,) = await hire(pool, 1)
    environment = seaweed.environment(new_prefix())
    async with uploads_of(pool, environment) as uploads:
        file_id = await uploads.one(agent)
    async with uploads_of(pool) as uploads:
        with pytest.raises(Unavailable) as caught:
            await uploads.read(agent, file_id)
        assert caught.value.reason == "UPLOAD_STORE_UNAVAILABLE"
    async with uploads_of(pool, {**environment, "MOLECULE_UPLOAD_STORE": "postgres"}) as uploads:
        assert await uploads.read(agent, file_id) == b"data"
        await uploads.one(agent)
        assert await uploads.count("upload_chunks") == 1


async def test_looking_and_sweeping_use_their_indexes_and_no_bytes(pool: Pool, agent: UUID) -> None:
    """11.1: among many rows each statement reads only the rows that it returns."""
    await pool.execute(
        """
        INSERT INTO pending_uploads (file_id, workspace_id, organization_id, filename, size_bytes,
                                     sha256, storage, acked_at, expires_at)
        SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'a', 1,
               sha256('x'), 'postgres', CASE WHEN n % 2 = 0 THEN now() END,
               now() + interval '1 day'
        FROM generate_series(1, 20000) n
        """
    )
    await pool.execute("ANALYZE pending_uploads")
    for sql, *arguments in (
        (upload_store._SWEEP, timedelta(hours=1), timedelta(0), 1000),
        (upload_store._USAGE, agent),
        (upload_store._ACK, agent, agent),
    ):
        plan = "\n".join(row[0] for row in await pool.fetch(f"EXPLAIN {sql}", *arguments))
        assert "Seq Scan on pending_uploads" not in plan
        assert "upload_chunks" not in plan


async def _swept_once(uploads: UploadSlice) -> bool:
    return uploads.tasks[0].last_success is not None


async def _no_bytes(uploads: UploadSlice) -> bool:
    return await uploads.count("loose_blobs") == 0


async def _absent(uploads: UploadSlice, file_id: UUID) -> bool:
    return await uploads.row(file_id) is None


def _swept(outcome: str) -> float:
    found = REGISTRY.get_sample_value("molecule_pending_uploads_swept_total", {"outcome": outcome})
    assert found is not None
    return found
