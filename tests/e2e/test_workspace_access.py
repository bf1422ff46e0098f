"""Files, logs and terminals of workspaces in containers, through the real server and engine."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import pty
import select
import subprocess
import sys
import termios
import time
import urllib.parse
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import docker
import grpc
import httpx
import pytest
from google.api import httpbody_pb2
from moleculeai.workspace.v1 import workspace_service_pb2 as pb
from moleculeai.workspace.v1 import workspace_service_pb2_grpc as rpc

from tests.conftest import as_server, execute, with_database
from tests.e2e.parties import Agent, Organization, Party, Refused, Wire, found, refused, wire_to
from tests.e2e.test_docs import shell_blocks
from tests.engine.docker import DockerEngine
from tests.engine.image import IMAGE
from tests.running import RunningServer
from tests.waiting import PATIENCE, until

pytestmark = pytest.mark.e2e

HOSTILE = [
    "empty",
    "a b+c%2Fd#e?f&g=h",
    "a:b",
    "größe/ünder/日本",
    'it\'s "quoted"; rm -rf $HOME',
    "-rf",
    "line\nbreak",
    "x" * 255,
]


@dataclass(frozen=True, slots=True)
class Scene:
    """A workspace that runs, those who may reach into it, and the engine as a witness sees it."""

    operator: Party
    org: Organization
    id: str
    own: Party
    other: Agent
    database: asyncpg.Connection[asyncpg.Record]
    witness: docker.DockerClient

    @property
    def wire(self) -> Wire:
        return self.org.wire

    def path(self, rest: str = "") -> str:
        return f"/workspaces/{self.id}{rest}"

    def file(self, name: str) -> str:
        return self.path(f"/files/{urllib.parse.quote(name)}")

    async def put(self, name: str, content: bytes, **params: str) -> httpx.Response:
        headers = {**self.org.headers, "content-type": "application/octet-stream"}
        return await self.wire.http.put(
            self.file(name), content=content, params=params, headers=headers
        )

    async def get(self, name: str, **params: str) -> httpx.Response:
        return await self.org.rest("GET", self.file(name), **params)

    async def ls(self, **params: Any) -> httpx.Response:
        return await self.wire.http.get(
            self.path("/files"),
            params={"root": "/workspace", **params},
            headers=self.org.headers,
        )

    def run(self, command: str) -> str:
        """Run a command in the container, behind the platform's back."""
        done = self.witness.containers.get(f"ws-{self.id}").exec_run(["sh", "-c", command])
        assert isinstance(done.output, bytes)
        return done.output.decode()

    def stub(self) -> rpc.WorkspaceServiceAsyncStub:
        return rpc.WorkspaceServiceStub(self.wire.channel)


@pytest.fixture(scope="module")
def platform(
    postgres: str,
    template: str,
    docker_engine: DockerEngine,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RunningServer]:
    """A server beside the session's engine."""
    name = f"access_{uuid.uuid4().hex[:12]}"
    asyncio.run(execute(postgres, f"CREATE DATABASE {name} TEMPLATE {template}"))
    database = with_database(postgres, name)
    running = RunningServer(
        database,
        tmp_path_factory.mktemp("access"),
        entry=docker_engine.namespace.entry,
        DATABASE_URL=as_server(database),
        MOLECULE_HOST=docker_engine.namespace.inside,
        MOLECULE_BACKEND="docker",
        MOLECULE_DOCKER_HOST=docker_engine.url,
        MOLECULE_DOCKER_IMAGES=f"*={IMAGE}",
    )
    running.start()
    yield running
    running.kill()
    asyncio.run(execute(postgres, f"DROP DATABASE {name} WITH (FORCE)"))


async def there(witness: docker.DockerClient, workspace: str) -> bool:
    """Whether the workspace's container is there."""
    listed = await asyncio.to_thread(witness.api.containers, all=True)
    return any(f"/ws-{workspace}" in each["Names"] for each in listed)


@pytest.fixture
async def scene(platform: RunningServer, witness: docker.DockerClient) -> AsyncIterator[Scene]:
    """A workspace of a new organisation, online; nothing of it is left."""
    async with wire_to(platform) as wire:
        operator = wire.party(platform.admin_token)
        org = await found(wire, operator)
        answer = await org.rest(
            "POST", "/workspaces", {"name": "researcher", "runtime": "langgraph"}
        )
        assert answer.status_code == 201, answer.text
        workspace = answer.json()["id"]

        async def status() -> str:
            return str((await org.rest("GET", f"/workspaces/{workspace}")).json()["status"])

        await until(status, lambda found: found == "online")
        token = (await org.rest("POST", f"/workspaces/{workspace}/tokens")).json()["auth_token"]
        database = await asyncpg.connect(platform.database_url)
        yield Scene(
            operator, org, workspace, wire.party(token), await org.hire(), database, witness
        )
        await database.close()
        await org.rest("DELETE", f"/workspaces/{workspace}", purge="true")
        await until(lambda: there(witness, workspace), lambda found: not found)


async def test_files_make_a_round_trip_with_any_name_and_in_both_forms(scene: Scene) -> None:
    """W36, W37, R-9.2, R-9.6: what existing clients send and read, and the bytes themselves."""
    body = {"content": "name: agent\ncolour: grün\n"}
    answer = await scene.org.rest("PUT", scene.path("/files/config.yaml"), body)
    assert (answer.status_code, answer.json()["status"]) == (200, "saved"), answer.text
    answer = await scene.get("config.yaml")
    assert answer.json() == {"path": "config.yaml", "content": body["content"], "size": 26}
    assert scene.run("cat /configs/config.yaml") == body["content"]

    content = {name: bytes(range(256)) * 3 if name != "empty" else b"" for name in HOSTILE}
    for name, data in content.items():
        answer = await scene.put(name, data, root="/workspace")
        assert (answer.status_code, answer.json()["size"]) == (200, len(data)), (name, answer.text)
        assert answer.json()["path"] == name
        answer = await scene.get(name, root="/workspace", raw="true")
        assert (answer.status_code, answer.content) == (200, data), (name, answer.text)
    answer = await scene.get(HOSTILE[1], root="/workspace")
    assert (answer.status_code, "raw=true" in answer.json()["error"]) == (400, True)

    listed = await scene.ls(depth=3)
    files = {each["path"]: each["size"] for each in listed.json() if not each["dir"]}
    assert files == {name: len(data) for name, data in content.items()}
    paths = [each["path"] for each in listed.json()]
    assert paths == sorted(paths)
    listed = await scene.ls()
    assert {each["path"] for each in listed.json() if each["dir"]} == {"größe"}
    paged: list[str] = []
    token = ""
    while token or not paged:
        page = await scene.ls(depth=3, limit=2, page_token=token)
        assert len(page.json()) <= 2
        paged += [each["path"] for each in page.json()]
        token = page.headers.get("x-next-page-token", "")
    assert paged == paths
    below = await scene.ls(path="größe/ünder")
    assert [each["path"] for each in below.json()] == [HOSTILE[3]]

    for name in content:
        answer = await scene.org.rest("DELETE", scene.file(name), root="/workspace")
        assert answer.json() == {"status": "deleted", "path": name}
    answer = await scene.org.rest("DELETE", scene.file("-rf"), root="/workspace")
    assert answer.status_code == 404
    assert (await scene.get("-rf", root="/workspace")).status_code == 404
    assert scene.run("find /workspace -type f") == ""


async def test_no_path_and_no_link_leads_out_of_its_root(scene: Scene) -> None:
    scene.run(
        "cd /workspace; echo secret > /etc/hidden; ln -s /etc/hidden out; ln -s /etc away;"
        "mkdir in; echo kept > in/file; ln -s in/file inner; ln -s loop loop"
    )
    for name in ("out", "away/hidden"):
        answer = await scene.get(name, root="/workspace")
        assert (answer.status_code, "link" in answer.json()["error"]) == (400, True), answer.text
    for path in ("away", "away/sub"):
        listed = await scene.ls(path=path)
        assert listed.status_code == 400, listed.text
    answer = await scene.put("away/written", b"x", root="/workspace")
    assert answer.status_code == 400, answer.text
    answer = await scene.org.rest("DELETE", scene.file("away/hidden"), root="/workspace")
    assert answer.status_code == 400, answer.text
    assert (await scene.get("loop", root="/workspace")).status_code in (400, 404, 502)
    assert scene.run("cat /etc/hidden; ls /etc/written 2>&1").startswith("secret\nls:")
    assert (await scene.get("inner", root="/workspace")).json()["content"] == "kept\n"
    # A write and a delete mean the link, and not what the link names.
    assert (await scene.put("out", b"new", root="/workspace")).status_code == 200
    assert scene.run("cat /workspace/out /etc/hidden") == "newsecret\n"
    for path in ("..", "a/../../etc/hidden", "/etc/hidden", "./a", "a//b", "a/", "a\0b", "x" * 256):
        for request in (
            pb.ReadWorkspaceFileRequest(workspace_id=scene.id, path=path, root="/workspace"),
            pb.DeleteWorkspaceFileRequest(workspace_id=scene.id, path=path, root="/workspace"),
        ):
            with pytest.raises(Refused) as caught:
                await first_of(scene, request)
            assert caught.value.code == "INVALID_ARGUMENT", path
    answer = await scene.get("hidden", root="/etc")
    assert answer.status_code == 400


async def first_of(scene: Scene, request: Any) -> Any:
    """The first answer of an RPC to the organisation."""
    if not isinstance(request, pb.ReadWorkspaceFileRequest):
        return await scene.org.rpc(request)
    call = scene.stub().ReadWorkspaceFile(
        request, metadata=tuple(scene.org.headers.items()), timeout=PATIENCE
    )
    try:
        return await call.read()
    except grpc.aio.AioRpcError as error:
        raise refused(error) from None


async def test_logs_are_read_followed_and_resumed(scene: Scene) -> None:
    scene.run("for i in 1 2 3; do echo line $i > /proc/1/fd/1; done")
    headers = {**scene.org.headers, "accept": "application/x-ndjson"}

    async def printed(**params: str) -> list[dict[str, Any]]:
        answer = await scene.wire.http.get(scene.path("/logs"), params=params, headers=headers)
        assert answer.status_code == 200, answer.text
        return [json.loads(line)["chunk"] for line in answer.text.splitlines()]

    last = (await until(printed, lambda chunks: "line 3\n" in chunks[-1]["text"]))[-1]
    tail = await printed(tail="2")
    assert [chunk["text"] for chunk in tail] == ["line 2\nline 3\n"]
    assert await printed(resume_after=last["resume_token"]) == []

    async with scene.wire.http.stream(
        "GET",
        scene.path("/logs"),
        params={"follow": "true", "resume_after": last["resume_token"]},
        headers={**scene.own.headers, "accept": "text/event-stream"},
    ) as answer:
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream")
        lines = answer.aiter_lines()
        assert "beat" in await anext(lines)
        scene.run("echo line 4 > /proc/1/fd/1")
        async for line in lines:
            if line and "chunk" in line:
                assert json.loads(line.removeprefix("data:"))["chunk"]["text"] == "line 4\n"
                break


async def rest_of(call: Any) -> AsyncIterator[Any]:
    """What a stream still brings before it ends, well or not."""
    with contextlib.suppress(grpc.aio.AioRpcError):
        while (frame := await call.read()) is not grpc.aio.EOF:
            yield frame


async def frames_of(call: Any) -> list[pb.ExecWorkspaceResponse]:
    """All further frames of a command but beats."""
    return [frame async for frame in rest_of(call) if not frame.HasField("beat")]


def start(scene: Scene, *argv: str, **terminal: int) -> pb.ExecWorkspaceRequest:
    made = pb.ExecWorkspaceRequest.Start(workspace_id=scene.id, argv=argv)
    if terminal:
        made.terminal.columns, made.terminal.rows = terminal["columns"], terminal["rows"]
    return pb.ExecWorkspaceRequest(start=made)


def open_exec(scene: Scene, party: Party) -> Any:
    return scene.stub().ExecWorkspace(metadata=tuple(party.headers.items()), timeout=PATIENCE)


async def test_a_command_has_input_streams_signals_a_terminal_and_an_exit_code(
    scene: Scene,
) -> None:
    call = open_exec(scene, scene.own)
    await call.write(start(scene, "sh", "-c", "cat; echo problem >&2; exit 7"))
    await call.write(pb.ExecWorkspaceRequest(input=b"hel"))
    await call.write(pb.ExecWorkspaceRequest(input=b"lo\n"))
    await call.write(pb.ExecWorkspaceRequest(end_input=pb.ExecWorkspaceRequest.EndInput()))
    frames = await frames_of(call)
    assert frames[0].HasField("started")
    assert b"".join(frame.output for frame in frames) == b"hello\n"
    assert b"".join(frame.error for frame in frames) == b"problem\n"
    assert frames[-1].exited.exit_code == 7

    call = open_exec(scene, scene.org)
    waiting = "trap 'stty size; exit 3' USR1; while :; do stty size; sleep 0.1; done"
    await call.write(start(scene, "sh", "-c", waiting, columns=91, rows=33))
    printed = b""
    while b"33 91\r\n" not in printed:
        printed += (await call.read()).output
    resize = pb.ExecWorkspaceRequest()
    resize.resize.columns, resize.resize.rows = 80, 24
    await call.write(resize)
    await call.write(pb.ExecWorkspaceRequest(signal="USR1"))
    frames = await frames_of(call)
    assert b"24 80" in b"".join(frame.output for frame in frames)
    assert frames[-1].exited.exit_code == 3

    call = open_exec(scene, scene.operator)
    await call.write(start(scene, "sleep", "1000"))
    assert (await call.read()).HasField("started")
    await call.write(pb.ExecWorkspaceRequest(signal="TERM"))
    assert (await frames_of(call))[-1].exited.exit_code == 143

    call = open_exec(scene, scene.org)
    await call.write(start(scene, "no-such-program"))
    frames = await frames_of(call)
    assert frames[-1].exited.exit_code in (126, 127)

    # An hour's output at once: bounded on its way, and whole.
    call = open_exec(scene, scene.org)
    await call.write(start(scene, "sh", "-c", "head -c 4000000 /dev/zero"))
    assert sum(len(frame.output) for frame in await frames_of(call)) == 4_000_000

    async def noted() -> list[dict[str, Any]]:
        log = await scene.operator.rest("GET", "/admin/audit-log", workspace_id=scene.id)
        return [each for each in log.json() if each["rpc"].endswith("/ExecWorkspace")]

    entries = await until(noted, lambda entries: len(entries) == 5)
    assert {each["outcome"] for each in entries} == {"OK"}
    assert {each["party"] for each in entries} == {"workspace", "organization", "operator"}


async def test_a_terminal_keeps_its_workspace_awake_and_ends_with_its_client(
    scene: Scene,
) -> None:
    """H-1: idle is the time since the last task, message or terminal."""
    await scene.database.execute(
        "UPDATE workspaces SET last_active_at = now() - interval '1 day' WHERE id = $1",
        uuid.UUID(scene.id),
    )
    call = open_exec(scene, scene.org)
    await call.write(start(scene, "sleep", "4321"))
    assert (await call.read()).HasField("started")

    async def idle() -> bool:
        found: bool = await scene.database.fetchval(
            "SELECT last_active_at < now() - interval '1 hour' FROM workspaces WHERE id = $1",
            uuid.UUID(scene.id),
        )
        return found

    await until(idle, lambda found: not found)

    # The entry of the audit log is there although the terminal is open.
    async def noted() -> str:
        return (await scene.org.rest("GET", "/admin/audit-log", workspace_id=scene.id)).text

    await until(noted, lambda text: "ExecWorkspace" in text)
    call.cancel()

    async def processes() -> str:
        return await asyncio.to_thread(scene.run, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")

    await until(processes, lambda seen: "sleep 4321" not in seen)


async def test_nobody_else_gets_in_and_a_revoked_token_is_put_out(scene: Scene) -> None:
    """A workspace's token cannot exec, read logs or files of another."""
    for request in (
        pb.ListWorkspaceFilesRequest(workspace_id=scene.id),
        pb.DeleteWorkspaceFileRequest(workspace_id=scene.id, path="config.yaml"),
        pb.GetWorkspaceStatsRequest(workspace_id=scene.id),
    ):
        with pytest.raises(Refused) as caught:
            await scene.other.rpc(request)
        assert caught.value.code == "UNAUTHENTICATED"
    headers = tuple(scene.other.headers.items())
    call: Any
    for call in (
        scene.stub().WatchWorkspaceLogs(
            pb.WatchWorkspaceLogsRequest(workspace_id=scene.id), metadata=headers
        ),
        scene.stub().ReadWorkspaceFile(
            pb.ReadWorkspaceFileRequest(workspace_id=scene.id, path="a"), metadata=headers
        ),
    ):
        assert await call.code() is grpc.StatusCode.UNAUTHENTICATED
    call = open_exec(scene, scene.other)
    await call.write(start(scene, "true"))
    assert await call.code() is grpc.StatusCode.UNAUTHENTICATED

    # The workspace's token opens log stream and terminal; its revocation ends both.
    own = tuple(scene.own.headers.items())
    follow = pb.WatchWorkspaceLogsRequest(workspace_id=scene.id, follow=True)
    logs = scene.stub().WatchWorkspaceLogs(follow, metadata=own, timeout=PATIENCE)
    assert await logs.read() is not grpc.aio.EOF
    terminal = open_exec(scene, scene.own)
    await terminal.write(start(scene, "sleep", "1234"))
    assert (await terminal.read()).HasField("started")
    writing = scene.stub().WriteWorkspaceFile(metadata=own, timeout=PATIENCE)
    await writing.write(
        pb.WriteWorkspaceFileRequest(
            workspace_id=scene.id, path="half", body=httpbody_pb2.HttpBody(data=b"half")
        )
    )
    tokens = await scene.org.rest("GET", scene.path("/tokens"))
    for token in tokens.json()["tokens"]:
        await scene.org.rest("DELETE", scene.path(f"/tokens/{token['id']}"))
    for call in (logs, terminal):
        frames = [frame async for frame in rest_of(call)]
        assert frames[-1].end.message == "the token was revoked"
    for call in (logs, terminal, writing):
        assert await call.code() is grpc.StatusCode.UNAUTHENTICATED
    assert (await scene.get("half")).status_code == 404


async def test_one_workspace_cannot_use_up_what_all_share(scene: Scene) -> None:
    """Ten calls reach into a workspace at once; the eleventh is told so, and others are served."""
    follow = pb.WatchWorkspaceLogsRequest(workspace_id=scene.id, follow=True)
    metadata = tuple(scene.own.headers.items())
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(10):
            call = scene.stub().WatchWorkspaceLogs(follow, metadata=metadata, timeout=PATIENCE)
            stack.callback(call.cancel)
            assert await call.read() is not grpc.aio.EOF
        answer = await scene.org.rest("GET", scene.path("/files"))
        assert (answer.status_code, "at once" in answer.json()["error"]) == (429, True), answer.text
        assert (await scene.org.rest("GET", "/stats/workspaces")).status_code == 200
    await until(
        lambda: scene.org.rest("GET", scene.path("/files")),
        lambda answer: answer.status_code == 200,
    )


async def test_what_a_workload_uses_is_measured(scene: Scene) -> None:
    answer = await scene.org.rest("GET", scene.path("/stats"))
    assert answer.status_code == 200, answer.text
    measured = answer.json()
    assert 0 < measured["memory_bytes"] < measured["memory_limit_bytes"] == 2048 * 1024 * 1024
    assert measured["pids"] >= 2
    listed = (await scene.org.rest("GET", "/stats/workspaces")).json()["stats"]
    assert [each["workspace_id"] for each in listed] == [scene.id]
    assert listed[0]["pids"] >= 2
    answer = await scene.org.rest("GET", scene.path("/console"))
    assert (answer.status_code, "console" in answer.json()["error"]) == (501, True)


async def test_a_file_of_100_mib_passes_and_one_more_byte_does_not(scene: Scene) -> None:
    size = 100 * 1024 * 1024 if os.environ.get("TEST_LONG") else 8 * 1024 * 1024
    piece = bytes(range(256)) * 4096

    async def pieces(count: int) -> AsyncIterator[bytes]:
        for start in range(0, count, len(piece)):
            yield piece[: min(len(piece), count - start)]

    headers = {**scene.org.headers, "content-type": "application/octet-stream"}
    path = scene.file("large")
    answer = await scene.wire.http.put(
        path, params={"root": "/workspace"}, headers=headers, content=pieces(size)
    )
    assert (answer.status_code, answer.json()["size"]) == (200, size), answer.text
    answer = await scene.get("large", root="/workspace", raw="true")
    assert (
        hashlib.sha256(answer.content).digest()
        == hashlib.sha256(piece * (size // len(piece))).digest()
    )
    answer = await scene.get("large", root="/workspace")
    assert (answer.status_code, answer.json()["max"]) == (413, 1024 * 1024)
    if os.environ.get("TEST_LONG"):
        answer = await scene.wire.http.put(
            path, params={"root": "/workspace"}, headers=headers, content=pieces(size + 1)
        )
        assert (answer.status_code, answer.json()["max"]) == (413, size), answer.text


async def test_the_volumes_and_the_last_words_of_a_stopped_workspace_are_reached(
    scene: Scene,
) -> None:
    """What was printed before death stays readable, over the next start, too."""
    scene.run("mkdir -p /workspace/a/b; echo kept > /workspace/a/b/file")
    scene.run("echo last words > /proc/1/fd/1")
    paused = await scene.org.rest("POST", scene.path("/pause"))
    assert paused.status_code == 200, paused.text
    await until(lambda: there(scene.witness, scene.id), lambda found: not found)
    listed = await scene.ls(depth=5)
    assert [each["path"] for each in listed.json()] == ["a", "a/b", "a/b/file"], listed.text
    assert (await scene.get("a/b/file", root="/workspace")).json()["content"] == "kept\n"
    assert (await scene.put("a/new", b"new", root="/workspace")).status_code == 200
    assert (await scene.get("a/new", root="/workspace")).json()["content"] == "new"
    removed = await scene.org.rest("DELETE", scene.file("a/new"), root="/workspace")
    assert removed.status_code == 200, removed.text
    assert (await scene.get("a/new", root="/workspace")).status_code == 404
    call = open_exec(scene, scene.org)
    await call.write(start(scene, "true"))
    assert await call.code() is grpc.StatusCode.FAILED_PRECONDITION

    async def printed(**params: str) -> str:
        answer = await scene.wire.http.get(
            scene.path("/logs"),
            params=params,
            headers={**scene.org.headers, "accept": "application/x-ndjson"},
        )
        assert answer.status_code == 200, answer.text
        return "".join(json.loads(line)["chunk"]["text"] for line in answer.text.splitlines())

    assert (await printed()).endswith("last words\n")
    assert await printed(tail="1") == "last words\n"
    resumed = await scene.org.rest("POST", scene.path("/resume"))
    assert resumed.status_code == 200, resumed.text
    both = await until(printed, lambda text: text.count("registered") == 2)
    assert both.index("last words") < both.rindex("registered")
    assert "last words" not in await printed(tail="50")


async def test_the_commands_of_people(
    scene: Scene, platform: RunningServer, tmp_path: Path
) -> None:
    """Those of docs/workspace-access.md as they stand there, and `exec` in pipes and terminals."""
    token = scene.org.headers["authorization"].removeprefix("Bearer ")
    environment = {**os.environ, "MOLECULE_URL": platform.url, "MOLECULE_TOKEN": token}
    environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment["ID"] = scene.id
    blocks = shell_blocks("docs/workspace-access.md", "From the command line")
    script = "set -e\n" + "\n".join(blocks)
    done = await asyncio.to_thread(
        subprocess.run,
        ["bash", "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "copy.yaml").read_text() == "name: researcher\n"
    assert b"registered" in done.stdout
    assert scene.id.encode() in done.stdout
    program = [sys.executable, "-m", "molecule_grpc.cli.main", "workspace", "exec", "researcher"]
    done = await asyncio.to_thread(
        subprocess.run,
        [*program, "--", "sh", "-c", "cat; echo problem >&2; exit 5"],
        input=b"typed\n",
        env=environment,
        capture_output=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stdout, done.stderr) == (5, b"typed\n", b"problem\n")
    environment |= {"COLUMNS": "80", "LINES": "24"}  # Not the terminal's.
    code, seen = await asyncio.to_thread(in_a_terminal, [*program, "--", "sh"], environment)
    assert (code, b"33 91" in seen) == (4, True), seen


def in_a_terminal(argv: list[str], environment: dict[str, str]) -> tuple[int, bytes]:
    """Type into an interactive command. Returns the exit code and the terminal's output."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (33, 91))
    before = termios.tcgetattr(theirs)
    with subprocess.Popen(
        argv, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
    ) as process:
        deadline = time.monotonic() + PATIENCE
        seen = b""
        while not seen and time.monotonic() < deadline:  # The shell's prompt.
            if select.select([ours], [], [], 0.1)[0]:
                seen += os.read(ours, 65536)
        os.write(ours, b"until stty size | grep '33 91'; do sleep 0.1; done; exit 4\r")
        while process.poll() is None and time.monotonic() < deadline:
            if select.select([ours], [], [], 0.1)[0]:
                seen += os.read(ours, 65536)
        process.kill()
    while select.select([ours], [], [], 0)[0]:
        seen += os.read(ours, 65536)
    after = termios.tcgetattr(theirs)
    os.close(ours)
    os.close(theirs)
    assert after == before, f"the terminal was not given back as it was: {seen!r}"
    return process.returncode, seen
