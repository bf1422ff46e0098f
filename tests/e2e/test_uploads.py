"""Files through the real server and Envoy, over both faces, in good and bad weather."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil
import pytest
from moleculeai.upload.v1 import upload_service_pb2 as pb

from molecule_grpc.client.agent import Agent
from molecule_grpc.db.pool import Pool
from tests.conftest import LONG
from tests.e2e.outcomes import answer_of
from tests.e2e.parties import refused
from tests.e2e.uploading import (
    MIB,
    Door,
    file_id_of,
    frames,
    new_door,
    png,
    sha256,
)
from tests.file_agent import file_agent
from tests.forked import run_command
from tests.running import RunningServer
from tests.seaweed import Seaweed, new_prefix
from tests.waiting import PATIENCE

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

Make = Callable[..., RunningServer]


@contextlib.asynccontextmanager
async def door_to(server: RunningServer, **fields: Any) -> AsyncIterator[Door]:
    async with (
        httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as http,
        grpc.aio.insecure_channel(server.grpc_target) as channel,
    ):
        door = await new_door(server, http, channel, **fields)
        async with door.http:
            yield door


@pytest.fixture
async def door(server: RunningServer) -> AsyncIterator[Door]:
    async with door_to(server) as opened:
        yield opened


@pytest.fixture
async def other(server: RunningServer) -> AsyncIterator[Door]:
    async with door_to(server) as opened:
        yield opened


# --- the promise ---


@pytest.mark.parametrize("store", ["postgres", "s3"])
async def test_files_reach_an_agent_behind_nat(
    own_server: Make, request: pytest.FixtureRequest, tmp_path: Path, store: str
) -> None:
    """D25, D26, D30: a picture and 25 MiB, posted by curl; the agent has no open port."""
    environment: dict[str, str] = {}
    if store == "s3":
        seaweed: Seaweed = request.getfixturevalue("seaweed")
        environment = seaweed.environment(new_prefix())
    contents = {"my cat.png": png(), "big.bin": os.urandom(25 * MIB)}
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    folder = tmp_path / "received"
    async with door_to(own_server(**environment)) as door:
        worker = await _python(
            "tests.e2e.file_worker", door.server.url, door.workspace_id, door.token, str(folder)
        )
        answer = await _curl(
            *(f"-Ffiles=@{tmp_path / name}" for name in contents),
            f"-HAuthorization: Bearer {door.token}",
            f"{door.server.url}{door.path}/chat/uploads",
        )
        told = json.loads(answer)["files"]
        message = {
            "method": "message/send",
            "params": {
                "message": {
                    "role": "user",
                    "parts": [{"kind": "file", "file": {"uri": one["uri"]}} for one in told],
                }
            },
        }
        await door.hear(message)
        assert worker.stdout is not None
        async with asyncio.timeout(PATIENCE):
            got = json.loads(await worker.stdout.readline())
        assert not [c for c in psutil.Process(worker.pid).net_connections() if c.status == "LISTEN"]
        worker.kill()
        await worker.wait()
        uris = [part["file"]["uri"] for part in got["params"]["message"]["parts"]]
        for uri, data in zip(uris, contents.values(), strict=True):
            path = Path(uri.removeprefix("workspace:"))
            assert path.parent == folder
            assert path.stat().st_mode & 0o777 == 0o600
            assert sha256(path.read_bytes()) == sha256(data)
        assert await door.waiting() == []


async def _curl(*arguments: str) -> bytes:
    process = await asyncio.create_subprocess_exec(
        "curl", "-sS", "--fail-with-body", *arguments, stdout=asyncio.subprocess.PIPE
    )
    answer, _ = await process.communicate()
    assert process.returncode == 0, answer
    return answer


async def _python(module: str, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, stdout=asyncio.subprocess.PIPE
    )


# --- both faces ---


async def test_rest_stages_reads_and_acknowledges(door: Door) -> None:
    """D27, D28, D29, D39: statuses, headers and bodies that existing clients read."""
    data = png()
    answer = await door.post(("my cat.png", data, "image/png"), ("b.txt", b"hello", "text/plain"))
    assert answer.status_code == 200
    first, second = answer.json()["files"]
    assert set(first) == {"uri", "name", "mimeType", "size"}
    assert (first["name"], first["mimeType"], first["size"]) == (
        "my_cat.png",
        "image/png",
        len(data),
    )
    file_id = file_id_of(first["uri"])
    got = await door.get(file_id)
    assert (got.status_code, got.content) == (200, data)
    assert got.headers["content-type"] == "image/png"
    assert got.headers["content-length"] == str(len(data))
    assert got.headers["content-disposition"].startswith('attachment; filename="my_cat.png"')
    assert "x-content-length" not in got.headers
    assert [row["uri"] for row in await door.notices()] == [first["uri"], second["uri"]]
    listed = await door.waiting()
    assert [row["name"] for row in listed] == ["my_cat.png", "b.txt"]
    assert (listed[0]["sha256"], "fetched_at" in listed[0]) == (sha256(data), True)
    acked = await door.ack(file_id)
    assert (acked.status_code, acked.json()["acked"]) == (200, True)
    assert (await door.ack(file_id)).status_code == 200
    gone = await door.get(file_id)
    assert (gone.status_code, gone.json()) == (404, {"error": "upload not found"})


async def test_grpc_stages_reads_and_acknowledges(door: Door) -> None:
    """D27, D28, D32: the same for typed clients."""
    data = os.urandom(3 * MIB)
    answer = await door.grpc.StageUploads(
        frames(door.workspace_id, [("my cat.bin", data, "a/b")]), metadata=door.metadata
    )
    (file,) = answer.files
    assert (file.name, file.mime_type, file.size) == ("my_cat.bin", "a/b", len(data))
    whose, which = door.workspace_id, file_id_of(file.uri)
    wanted = pb.GetUploadContentRequest(workspace_id=whose, file_id=which)
    call = door.grpc.GetUploadContent(wanted, metadata=door.metadata)
    assert b"".join([piece.data async for piece in call]) == data
    headers = dict(await call.initial_metadata() or ())
    assert headers["etag"] == f'"{sha256(data)}"'
    for again in (False, True):
        done = pb.AckUploadRequest(workspace_id=whose, file_id=which)
        acked = await door.grpc.AckUpload(done, metadata=door.metadata)
        assert acked.already_acked is again
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        _ = [piece async for piece in door.grpc.GetUploadContent(wanted, metadata=door.metadata)]
    error = refused(caught.value)
    assert (error.code, error.reason) == ("NOT_FOUND", "UPLOAD_NOT_FOUND")


async def test_a_part_of_a_file_is_a_206(door: Door) -> None:
    """D27: downloads go on where they broke off, also packed text."""
    data = b"0123456789" * 1000
    file_id = await door.one(data)
    part = await door.get(file_id, Range="bytes=5-9", **{"accept-encoding": "gzip"})
    assert (part.status_code, part.content) == (206, b"56789")
    assert part.headers["content-range"] == "bytes 5-9/10000"
    assert part.headers["content-length"] == "5"
    rest = await door.get(file_id, Range="bytes=9995-")
    assert (rest.status_code, rest.content) == (206, b"56789")
    outside = await door.get(file_id, Range="bytes=10000-")
    assert outside.status_code == 416


async def test_one_workspace_cannot_reach_the_files_of_another(door: Door, other: Door) -> None:
    """D26, D27, I-UP-1: and cannot tell whether they exist."""
    file_id = await door.one()
    unknown = "01900000-0000-7000-8000-000000000000"
    mine = [await other.get(wanted) for wanted in (file_id, unknown)]
    assert [(one.status_code, one.content) for one in mine] == [(404, mine[0].content)] * 2
    acks = [await other.ack(wanted) for wanted in (file_id, unknown)]
    assert [(one.status_code, one.content) for one in acks] == [(404, acks[0].content)] * 2
    theirs = await other.http.get(door.content(file_id))
    assert theirs.status_code == 401
    posted = await other.http.post(f"{door.path}/chat/uploads", files=[("files", ("a", b"x", ""))])
    assert posted.status_code == 401
    for call in (
        answer_of(other.grpc.StageUploads(frames(door.workspace_id, []), metadata=other.metadata)),
        other.grpc.AckUpload(
            pb.AckUploadRequest(workspace_id=door.workspace_id, file_id=file_id),
            metadata=other.metadata,
        ),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert refused(caught.value).code == "UNAUTHENTICATED"
    assert len(await door.waiting()) == 1


async def test_what_is_wrong_reads_as_it_always_did(door: Door) -> None:
    """D31, 11.2: statuses and texts of the old API."""
    url = f"{door.path}/chat/uploads"
    raw = await door.http.post(url, content=b"hello", headers={"content-type": "text/plain"})
    assert (raw.status_code, raw.json()["error"]) == (400, "malformed multipart body")
    nothing = await door.http.post(url, files=[("other", ("a", b"x", ""))])
    assert (nothing.status_code, nothing.json()["error"]) == (400, "no files field in request")
    many = await door.post(*[(f"{n}", b"x", "") for n in range(65)])
    assert (many.status_code, many.json()["error"]) == (400, "too many files (limit 64)")
    empty = await door.post(("e", b"", ""))
    assert empty.status_code == 400
    bad = await door.http.post("/workspaces/nope/chat/uploads", files=[("files", ("a", b"x", ""))])
    assert bad.status_code in (400, 401)
    big = await door.post(("z.bin", bytes(25 * MIB + 1), ""))
    assert big.status_code == 413
    told = big.json()
    assert told["error"] == "file exceeds per-file cap"
    assert (told["filename"], told["max"]) == ("z.bin", 25 * MIB)
    assert told["size"] > 25 * MIB
    assert await door.waiting() == []
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await answer_of(
            door.grpc.StageUploads(
                frames(door.workspace_id, [("z.bin", bytes(25 * MIB + 1), "")]),
                metadata=door.metadata,
            )
        )
    error = refused(caught.value)
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "FILE_TOO_LARGE")


async def test_an_unknown_workspace_is_a_404(server: RunningServer, door: Door) -> None:
    answer = await door.http.post(
        "/workspaces/01900000-0000-7000-8000-000000000000/chat/uploads",
        files=[("files", ("a", b"x", ""))],
        headers={"authorization": f"Bearer {server.admin_token}"},
    )
    assert (answer.status_code, answer.json()["error"]) == (404, "workspace not found")


async def test_the_limits_are_told(door: Door) -> None:
    answer = await door.http.get("/uploads/limits")
    assert answer.json() == {
        "per_file_bytes": 25 * MIB,
        "per_request_bytes": 50 * MIB,
        "max_files_per_request": 64,
        "max_attachments_per_message": 10,
    }


async def test_a_repeated_request_makes_no_second_set(door: Door) -> None:
    """11.7: by header over REST, by field over gRPC."""
    file = ("a.txt", b"hello", "text/plain")
    first = await door.post(file, idempotency_key="once")
    again = await door.post(file, idempotency_key="once")
    assert first.json() == again.json()
    typed = await door.grpc.StageUploads(
        frames(door.workspace_id, [file], key="once"), metadata=door.metadata
    )
    assert typed.files[0].uri == first.json()["files"][0]["uri"]
    differs = await door.post(("a.txt", b"other", "text/plain"), idempotency_key="once")
    assert differs.status_code == 409
    assert len(await door.waiting()) == 1


async def test_a_file_in_steps_over_rest(door: Door) -> None:
    """A broken connection resumes at `committed_bytes`."""
    data = os.urandom(3 * MIB + 17)
    started = await door.http.post(
        f"{door.path}/uploads", json={"name": "a b.bin", "size": len(data)}
    )
    assert started.status_code == 201
    url = f"{door.path}/uploads/{started.json()['upload_id']}"
    half = await door.http.put(url, params={"offset": 0}, content=data[: 2 * MIB])
    assert half.json()["committed_bytes"] == 2 * MIB
    wrong = await door.http.put(url, params={"offset": 0}, content=data)
    assert (wrong.status_code, wrong.json()["committed_bytes"]) == (409, 2 * MIB)
    early = await door.http.post(f"{url}/commit", json={"sha256": sha256(data)})
    assert early.status_code == 409
    await door.http.put(url, params={"offset": 2 * MIB}, content=data[2 * MIB :])
    done = await door.http.post(f"{url}/commit", json={"sha256": sha256(data)})
    assert done.status_code == 200, done.text
    assert (await door.http.get(url)).json()["file"] == done.json()["file"]
    got = await door.get(file_id_of(done.json()["file"]["uri"]))
    assert sha256(got.content) == sha256(data)


# --- ways ---


async def test_without_staging_or_url_no_way_exists(own_server: Make, pool: Pool) -> None:
    """D38, D41: 422 where no retry helps, 503 where one does."""
    async with door_to(own_server(MOLECULE_UPLOAD_STORE="off")) as door:
        for mode, status in (("poll", 422), (None, 422), ("push", 503)):
            await pool.execute("UPDATE workspaces SET delivery_mode = $1, url = ''", mode)
            answer = await door.post(("a", b"x", ""))
            assert answer.status_code == status, (mode, answer.text)
            assert ("retry_after" in answer.json()) is (status == 503)
        limits = await door.http.get("/uploads/limits")
        assert limits.status_code == 200


async def test_an_agent_at_a_url_gets_the_body_and_serves_downloads(
    own_server: Make, pool: Pool
) -> None:
    """D42, D43, 12.3: through Envoy in both directions, with status and headers."""
    data = os.urandom(3 * MIB)
    async with (
        file_agent() as agent,
        door_to(own_server(MOLECULE_ENV="development")) as door,
    ):
        await pool.execute(
            "UPDATE workspaces SET delivery_mode = 'push', url = $1, platform_inbound_secret = 's'",
            agent.url,
        )
        answer = await door.post(("my cat.png", data, "image/png"))
        assert answer.status_code == 200
        assert answer.json()["extra"] == [1, None]
        assert agent.got == [("my cat.png", "image/png", data)]
        agent.status = 413
        no = await door.post(("a", b"x", ""))
        assert (no.status_code, no.json()) == (413, {"error": "no thanks"})
        agent.files["/workspace/a b.txt"] = data
        url = f"{door.path}/chat/download"
        got = await door.http.get(url, params={"path": "/workspace/a b.txt"})
        assert (got.status_code, got.content) == (200, data)
        assert got.headers["content-length"] == str(len(data))
        assert got.headers["content-disposition"] == "attachment"
        for path, status in (("", 400), ("/etc/passwd", 400), ("/workspace/none", 404)):
            refusal = await door.http.get(url, params={"path": path})
            assert refusal.status_code == status, path
        await pool.execute("UPDATE workspaces SET url = 'http://127.0.0.1:1'")
        gone = await door.post(("a", b"x", ""))
        assert (gone.status_code, gone.json()["error"]) == (502, "workspace unreachable")
        assert (await door.http.get(url, params={"path": "/workspace/a"})).status_code == 502


# --- bad weather ---


async def test_a_kill_while_staging_leaves_nothing(own_server: Make, pool: Pool) -> None:
    """No notice and no list shows a part of a file, and its bytes are deleted when due."""
    server = own_server()
    async with door_to(server) as door:
        sending = asyncio.Event()

        async def endless() -> AsyncIterator[bytes]:
            yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
            for _ in range(20):
                yield os.urandom(MIB)
            sending.set()
            await asyncio.Event().wait()

        posting = asyncio.create_task(
            door.http.post(
                f"{door.path}/chat/uploads",
                content=endless(),
                headers={"content-type": "multipart/form-data; boundary=x"},
            )
        )
        await sending.wait()
        async with asyncio.timeout(PATIENCE):
            while not await pool.fetchval("SELECT count(*) > 5 FROM upload_chunks"):
                await asyncio.sleep(0.02)
        server.kill()
        posting.cancel()
        await asyncio.gather(posting, return_exceptions=True)
        await pool.execute("UPDATE loose_blobs SET due_at = now()")
        server.start()
        assert await door.waiting() == []
        assert await door.notices() == []
        async with asyncio.timeout(PATIENCE):
            while await pool.fetchval("SELECT count(*) FROM upload_chunks"):
                await asyncio.sleep(0.05)


async def test_a_kill_while_fetching_costs_nothing(own_server: Make, tmp_path: Path) -> None:
    """The SDK reads on where it was, and acknowledges only what is on disk."""
    server = own_server()
    data = os.urandom(25 * MIB)
    folder = tmp_path / "files"
    async with door_to(server) as door:
        file_id = await door.one(data, "big.bin")
        async with Agent(server.url, door.workspace_id, door.token) as agent:
            files = agent.files(folder)
            fetching = asyncio.create_task(files.fetch(file_id, "big.bin"))
            async with asyncio.timeout(PATIENCE):
                while not any(part.stat().st_size > MIB for part in folder.glob(".*.part")):
                    await asyncio.sleep(0.001)
            server.restart()
            path = await fetching
        assert path is not None
        assert sha256(path.read_bytes()) == sha256(data)
        assert list(folder.iterdir()) == [path]
        assert await door.waiting() == []


async def test_a_crash_between_write_and_ack_costs_no_second_file(
    door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At least once: the next run finds the file on disk, and only acknowledges it."""
    file_id = await door.one(b"hello", "a.txt")

    class Crash(Exception):
        pass

    async with Agent(door.server.url, door.workspace_id, door.token) as agent:
        first = agent.files(tmp_path)

        async def crash(file_id: str) -> None:
            raise Crash

        monkeypatch.setattr(first, "_ack", crash)
        with pytest.raises(Crash):
            await first.fetch(file_id, "a.txt")
        assert len(await door.waiting()) == 1
        path = await agent.files(tmp_path).fetch(file_id, "a.txt")
    assert path is not None
    assert path.read_bytes() == b"hello"
    assert list(tmp_path.iterdir()) == [path]
    assert await door.waiting() == []


async def test_a_client_that_hangs_up_in_the_body_leaves_nothing(door: Door) -> None:
    """Wrong lengths: the body is shorter than its Content-Length says."""
    _, writer = await asyncio.open_connection("127.0.0.1", door.server.port)
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
    head = (
        f"POST {door.path}/chat/uploads HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {door.token}\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 1000000\r\n\r\n"
    )
    writer.write(head.encode() + body + bytes(300_000))
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert (await door.post(("b", b"x", ""))).status_code == 200
    assert [row["name"] for row in await door.waiting()] == ["b"]


async def test_endless_bodies_and_thousands_of_parts_end_early(door: Door) -> None:
    """D31: the server stops reading, and says why to those who stop sending."""
    part = b'--x\r\nContent-Disposition: form-data; name="y"\r\n\r\nv\r\n'
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(10_000):
            yield part

    sent = 0

    async def long(most: int) -> AsyncIterator[bytes]:
        nonlocal sent
        yield head
        for _ in range(most):
            sent += MIB
            yield bytes(MIB)

    async def post(body: AsyncIterator[bytes]) -> httpx.Response:
        return await door.http.post(
            f"{door.path}/chat/uploads",
            content=body,
            headers={"content-type": "multipart/form-data; boundary=x"},
        )

    assert (await post(parts())).status_code == 400
    assert (await post(long(80))).status_code == 413
    sent = 0
    with contextlib.suppress(httpx.TransportError):
        assert (await post(long(10_000))).status_code == 413
    assert sent < 200 * MIB
    assert await door.waiting() == []


async def test_while_s3_is_down_files_are_refused_and_the_rest_works(
    own_server: Make, seaweed: Seaweed, tmp_path: Path
) -> None:
    """D37: a clear 503, nothing half-visible, and the rest of the platform goes on."""
    own = Seaweed(tmp_path / "weed")
    own.start()
    try:
        server = own_server(**own.environment(new_prefix()))
        async with door_to(server) as door:
            file_id = await door.one(b"hello")
            own.kill()
            refusals = [await door.post(("b", b"x", "")), await door.get(file_id)]
            for answer in refusals:
                assert answer.status_code == 503, answer.text
                assert answer.json()["error"] == "files cannot be stored or read now, try again"
            assert [row["file_id"] for row in await door.waiting()] == [file_id]
            assert len(await door.notices()) == 1
            assert (await door.ack(file_id)).status_code == 200
    finally:
        own.kill()


async def test_a_restart_sweeps_what_became_due_while_down(own_server: Make, pool: Pool) -> None:
    """D30, D35."""
    server = own_server()
    async with door_to(server) as door:
        await door.one()
        server.kill()
        await pool.execute("UPDATE pending_uploads SET expires_at = now()")
        server.start()
        async with asyncio.timeout(PATIENCE):
            while await pool.fetchval("SELECT count(*) FROM pending_uploads"):
                await asyncio.sleep(0.05)


async def test_a_removed_workspace_keeps_no_bytes(own_server: Make, pool: Pool) -> None:
    """I-UP-8: within a second or two, not a day."""
    server = own_server()
    async with door_to(server) as door:
        await door.one(bytes(2 * MIB))
        await door.http.delete(door.path, headers={"authorization": f"Bearer {server.admin_token}"})
        async with asyncio.timeout(PATIENCE):
            while await pool.fetchval("SELECT count(*) FROM upload_chunks"):
                await asyncio.sleep(0.02)
        assert await pool.fetchval("SELECT count(*) FROM pending_uploads") == 0


async def test_the_counters_are_there_before_the_first_sweep_counts(server: RunningServer) -> None:
    """D36: three outcomes at zero."""
    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as http:
        text = (await http.get("/metrics")).text
    for outcome in ("acked", "expired", "error"):
        assert f'molecule_pending_uploads_swept_total{{outcome="{outcome}"}}' in text


async def test_memory_stays_flat(own_server: Make, capsys: pytest.CaptureFixture[str]) -> None:
    """No file is ever whole in memory: files of 25 MiB in and out, four at a time."""
    files = 20 if LONG else 12
    server = own_server(MOLECULE_UPLOAD_QUOTA_BYTES=str(2000 * MIB), LOG_LEVEL="warning")
    data = os.urandom(25 * MIB)
    async with door_to(server) as door:
        processes = psutil.Process(server.pid).children(recursive=True)
        [worker] = server.workers()
        envoy = next(p for p in processes if "envoy" in p.name())

        async def round_trip(name: str) -> None:
            file_id = await door.one(data, name)
            async with door.http.stream("GET", door.content(file_id)) as answer:
                async for _ in answer.aiter_raw():
                    pass

        await round_trip("warm-up")
        before = (worker.memory_info().rss, envoy.memory_info().rss)
        most = list(before)

        async def watch() -> None:
            while True:
                for n, process in enumerate((worker, envoy)):
                    most[n] = max(most[n], process.memory_info().rss)
                await asyncio.sleep(0.01)

        watching = asyncio.create_task(watch())
        for at in range(0, files, 4):
            await asyncio.gather(*(round_trip(f"{n}") for n in range(at, at + 4)))
        watching.cancel()
        grown = [(m - b) / MIB for m, b in zip(most, before, strict=True)]
    with capsys.disabled():
        print(f"\n{files} files of 25 MiB: worker +{grown[0]:.0f}, Envoy +{grown[1]:.0f} MiB")
    assert grown[0] < 100
    assert server.inside or grown[1] < 50  # one process holds both


# --- sdk and command line ---


async def test_links_in_the_folder_lead_nowhere(door: Door, tmp_path: Path) -> None:
    """Whoever can write to the folder cannot make the agent write or read elsewhere."""
    file_id = await door.one(b"hello", "a.txt")
    folder, target = tmp_path / "folder", tmp_path / "target"
    folder.mkdir()
    (folder / f"{file_id.replace('-', '')}-a.txt").symlink_to(target)
    async with Agent(door.server.url, door.workspace_id, door.token) as agent:
        with pytest.raises(FileExistsError):
            await agent.files(folder).fetch(file_id, "a.txt")
        assert not target.exists()
        assert len(await door.waiting()) == 1
        (tmp_path / "link").symlink_to(folder)
        with pytest.raises(OSError, match="link"):
            await agent.files(tmp_path / "link").fetch(file_id, "a.txt")


async def test_a_handler_sees_files_where_they_are(door: Door, tmp_path: Path) -> None:
    """D26: `serve` receives files and rewrites messages; notices never reach the handler."""
    answer = await door.post(("a.txt", b"hello", "text/plain"))
    uri = answer.json()["files"][0]["uri"]
    gone = f"platform-pending:{door.workspace_id}/01900000-0000-7000-8000-000000000000"
    parts = [{"kind": "file", "file": {"uri": each}} for each in (uri, gone)]
    await door.hear({"method": "message/send", "params": {"message": {"parts": parts}}})
    seen: asyncio.Queue[Any] = asyncio.Queue()

    async with Agent(door.server.url, door.workspace_id, door.token) as agent:
        serving = asyncio.create_task(agent.serve(seen.put, files=agent.files(tmp_path)))
        async with asyncio.timeout(PATIENCE):
            item = await seen.get()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
    assert item.method == "message/send"
    here, missing = [part["file"]["uri"] for part in item.json()["params"]["message"]["parts"]]
    assert Path(here.removeprefix("workspace:")).read_bytes() == b"hello"
    assert missing == gone


async def test_a_file_that_expired_is_not_waited_for(door: Door, tmp_path: Path) -> None:
    async with Agent(door.server.url, door.workspace_id, door.token) as agent:
        files = agent.files(tmp_path)
        assert await files.fetch("01900000-0000-7000-8000-000000000000", "a") is None
    assert list(tmp_path.iterdir()) == []


async def test_the_command_line_sends_lists_and_fetches(door: Door, tmp_path: Path) -> None:
    source = tmp_path / "my notes.txt"
    source.write_text("hello")
    sent = json.loads(await _cli(door, "upload", door.workspace_id, str(source), "--json"))
    assert [one["name"] for one in sent] == ["my_notes.txt"]
    listed = json.loads(await _cli(door, "files", "ls", door.workspace_id, "--json"))
    assert [one["file_id"] for one in listed] == [file_id_of(sent[0]["uri"])]
    got = json.loads(
        await _cli(
            door, "files", "get", door.workspace_id, "my_notes.txt", "--to", str(tmp_path), "--json"
        )
    )
    assert Path(got["path"]).read_text() == "hello"
    assert json.loads(await _cli(door, "files", "ls", door.workspace_id, "--json")) == []


async def _cli(door: Door, *arguments: str) -> str:
    environment = {
        **os.environ,
        "MOLECULE_URL": door.server.url,
        "MOLECULE_TOKEN": door.server.admin_token,
    }
    done = await asyncio.to_thread(run_command, arguments, environment, PATIENCE)
    assert done.returncode == 0, done.stderr
    return done.stdout
