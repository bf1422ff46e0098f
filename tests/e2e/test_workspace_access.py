"""Files, logs and terminals of workspaces in containers, through the real server and engine."""

from __future__ import annotations

import asyncio
import json
import urllib.parse
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import asyncpg
import docker
import grpc
import httpx
import pytest
from moleculeai.workspace.v1 import workspace_service_pb2 as pb
from moleculeai.workspace.v1 import workspace_service_pb2_grpc as rpc

from tests.conftest import as_server, execute, with_database
from tests.e2e.parties import Agent, Organization, Party, Refused, Wire, found, refused, wire_to
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


@pytest.fixture
async def scene(platform: RunningServer, witness: docker.DockerClient) -> AsyncIterator[Scene]:
    """A workspace of a new organisation, online; nothing of it is left."""
    async with wire_to(platform) as wire:
        operator = wire.party(platform.admin_token)
        org = await found(wire, operator)
        answer = await org.rest("POST", "/workspaces", {"name": "w", "runtime": "langgraph"})
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
        await until(
            lambda: asyncio.to_thread(witness.containers.list, all=True),
            lambda left: not any(workspace in str(each.name) for each in left),
        )


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
