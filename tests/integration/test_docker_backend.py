"""The Docker backend against a real engine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import docker
import pytest

from molecule_grpc.backends.contract.entering import TerminalSize
from molecule_grpc.backends.contract.failures import (
    BackendFailure,
    FailureReason,
    FileMissing,
    RootReadOnly,
)
from molecule_grpc.backends.contract.workloads import (
    Absent,
    Resource,
    Running,
    StartRequest,
    Stopped,
)
from molecule_grpc.backends.docker.backend import DockerBackend
from molecule_grpc.settings.docker import DockerSettings
from tests.engine.docker import DockerEngine
from tests.engine.image import IMAGE
from tests.waiting import PATIENCE, until


def request(**changes: Any) -> StartRequest:
    """A start of a workspace that only sleeps."""
    given = StartRequest(
        operation_id=uuid.uuid4(),
        workspace_id=uuid.uuid4(),
        organization_id=uuid.uuid4(),
        name="agent",
        runtime="test",
        tier=2,
        image=IMAGE,
        env={"AGENT_MODE": "quiet"},
    )
    return replace(given, **changes)


@pytest.fixture
async def backend(docker_engine: DockerEngine) -> AsyncIterator[DockerBackend]:
    """A backend of an installation of this test's own; nothing of it is left."""
    made = DockerBackend(
        DockerSettings(host=docker_engine.url), uuid.uuid4().hex, platform_port=8080
    )
    yield made
    for owned in await made.list_owned(deadline=PATIENCE):
        await made.stop(Resource(workspace_id=owned.workspace_id), deadline=PATIENCE)
        await made.remove_volumes(owned.workspace_id, deadline=PATIENCE)
    assert await made.list_owned(deadline=PATIENCE) == []
    await made.close()


async def test_a_workspace_starts_once_and_is_gone_after_its_stop(
    backend: DockerBackend, witness: docker.DockerClient
) -> None:
    wanted = request()
    started = await backend.start(wanted, deadline=PATIENCE)
    again = await backend.start(wanted, deadline=PATIENCE)
    assert again == started
    assert started.url.startswith("http://127.0.0.1:")
    assert started.image_digest.startswith("sha256:")
    status = await backend.status(wanted.resource, deadline=PATIENCE)
    assert isinstance(status, Running)
    assert status.operation_id == wanted.operation_id

    found = witness.containers.get(f"ws-{wanted.workspace_id}")
    assert found.labels["molecule.workspace"] == str(wanted.workspace_id)
    assert found.labels["molecule.operation"] == str(wanted.operation_id)

    await backend.stop(wanted.resource, deadline=PATIENCE)
    await backend.stop(wanted.resource, deadline=PATIENCE)
    assert await backend.status(wanted.resource, deadline=PATIENCE) == Absent()
    await backend.remove_volumes(wanted.workspace_id, deadline=PATIENCE)
    await backend.remove_volumes(wanted.workspace_id, deadline=PATIENCE)
    assert [v for v in witness.volumes.list() if str(wanted.workspace_id) in v.name] == []


async def test_another_operation_replaces_the_container_and_keeps_the_volumes(
    backend: DockerBackend,
) -> None:
    first = request(config_files={"config.yaml": b"name: one\n"})
    one = await backend.start(first, deadline=PATIENCE)
    second = replace(first, operation_id=uuid.uuid4(), config_files={})
    two = await backend.start(second, deadline=PATIENCE)
    assert one.resource_id != two.resource_id
    assert await read(backend, second.resource, "/configs/config.yaml") == b"name: one\n"
    # The older operation finds nothing of its own, and stops nothing.
    await backend.stop(first.resource, deadline=PATIENCE)
    assert isinstance(await backend.status(second.resource, deadline=PATIENCE), Running)


async def read(backend: DockerBackend, resource: Resource, path: str) -> bytes:
    """A whole file."""
    chunks = backend.read_file(resource, path, deadline=PATIENCE)
    return b"".join([chunk async for chunk in chunks])


async def chunks_of(data: bytes) -> AsyncIterator[bytes]:
    """Content in small pieces."""
    for start in range(0, len(data), 1000):
        yield data[start : start + 1000]


@pytest.mark.parametrize(
    ("tier", "memory", "cpus", "dropped", "read_only"),
    [
        (1, 0, 0, ["ALL"], True),
        (2, 512, 1, None, False),
        (3, 2048, 2, None, False),
        (4, 4096, 4, None, False),
    ],
)
async def test_what_a_tier_may_do_is_as_the_engine_reads_it_back(
    backend: DockerBackend,
    witness: docker.DockerClient,
    tier: int,
    memory: int,
    cpus: int,
    dropped: list[str] | None,
    read_only: bool,
) -> None:
    wanted = request(tier=tier)
    await backend.start(wanted, deadline=PATIENCE)
    found = witness.containers.get(f"ws-{wanted.workspace_id}")
    host = found.attrs["HostConfig"]
    assert host["Memory"] == memory * 1024 * 1024
    assert host["CpuQuota"] == cpus * host["CpuPeriod"]
    assert host["CapDrop"] == dropped
    assert host["ReadonlyRootfs"] is read_only
    assert host["PidsLimit"] == 1024
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["Privileged"] is False
    assert host["PidMode"] == ""
    assert host["Binds"] is None
    status = str(found.exec_run(["cat", "/proc/self/status"]).output)
    assert "NoNewPrivs:\\t1" in status
    assert "Seccomp:\\t2" in status
    if dropped:
        assert "CapEff:\\t0000000000000000" in status


async def test_files_survive_a_round_trip_with_any_name_and_size(backend: DockerBackend) -> None:
    wanted = request()
    await backend.start(wanted, deadline=PATIENCE)
    files = {
        "/workspace/empty": b"",
        '/workspace/sub/deeper/a file\'s "name"\n; rm -rf $HOME': b"hostile",
        "/workspace/-rf": b"dash",
        f"/workspace/{'long' * 50}": b"x" * 100,
        "/workspace/größe": bytes(range(256)) * 4000,
    }
    for path, content in files.items():
        await backend.write_file(
            wanted.resource, path, chunks_of(content), len(content), deadline=PATIENCE
        )
    for path, content in files.items():
        assert await read(backend, wanted.resource, path) == content
    found = await backend.list_files(wanted.resource, "/workspace", limit=100, deadline=PATIENCE)
    sizes = {f"/workspace/{entry.path}": entry.size for entry in found if not entry.directory}
    assert sizes == {path: len(content) for path, content in files.items()}
    await backend.delete_file(wanted.resource, "/workspace/-rf", deadline=PATIENCE)
    with pytest.raises(FileMissing):
        await backend.delete_file(wanted.resource, "/workspace/-rf", deadline=PATIENCE)
    with pytest.raises(FileMissing):
        await read(backend, wanted.resource, "/workspace/-rf")
    with pytest.raises(FileMissing):
        await read(backend, wanted.resource, "/workspace/sub")

    # The volumes of a stopped workspace can be read and written, too.
    await backend.stop(wanted.resource, deadline=PATIENCE)
    whole = Resource(workspace_id=wanted.workspace_id)
    assert await read(backend, whole, "/workspace/größe") == files["/workspace/größe"]
    await backend.write_file(whole, "/configs/new", chunks_of(b"new"), 3, deadline=PATIENCE)
    assert await read(backend, whole, "/configs/new") == b"new"
    listed = await backend.list_files(whole, "/workspace", limit=100, deadline=PATIENCE)
    assert {entry.path for entry in listed} == {entry.path for entry in found} - {"-rf"}
    await backend.delete_file(whole, "/configs/new", deadline=PATIENCE)
    with pytest.raises(FileMissing):
        await read(backend, whole, "/configs/new")


async def test_a_read_only_root_is_named_by_the_refusal(backend: DockerBackend) -> None:
    wanted = request(tier=1)
    await backend.start(wanted, deadline=PATIENCE)
    with pytest.raises(RootReadOnly):
        await backend.write_file(wanted.resource, "/etc/x", chunks_of(b"x"), 1, deadline=PATIENCE)
    await backend.write_file(wanted.resource, "/configs/x", chunks_of(b"x"), 1, deadline=PATIENCE)
    assert await read(backend, wanted.resource, "/configs/x") == b"x"


async def test_secrets_as_files_are_shown_by_no_inspect(
    backend: DockerBackend, witness: docker.DockerClient
) -> None:
    wanted = request(secret_files={"API_KEY": b"very-secret"})
    await backend.start(wanted, deadline=PATIENCE)
    assert await read(backend, wanted.resource, "/run/secrets/API_KEY") == b"very-secret"
    found = witness.api.inspect_container(f"ws-{wanted.workspace_id}")
    assert "very-secret" not in str(found)
    # A secret that was taken back is gone with the next start.
    second = replace(wanted, operation_id=uuid.uuid4(), secret_files={"OTHER": b"1"})
    await backend.start(second, deadline=PATIENCE)
    with pytest.raises(FileMissing):
        await read(backend, second.resource, "/run/secrets/API_KEY")


async def test_an_agent_that_ends_is_told_of_with_its_code_and_its_words(
    backend: DockerBackend,
) -> None:
    wanted = request(env={"AGENT_MODE": "exit:3"})
    with contextlib.suppress(BackendFailure):  # It may have ended already.
        await backend.start(wanted, deadline=PATIENCE)
    status = await until(
        lambda: backend.status(wanted.resource, deadline=PATIENCE),
        lambda found: isinstance(found, Stopped) and found.exit_code == 3,
    )
    assert isinstance(status, Stopped)
    assert status.signal is None
    lines = [chunk.data async for chunk in backend.logs(wanted.resource)]
    assert b"cannot go on\n" in lines


async def test_an_agent_that_takes_too_much_memory_is_told_of_as_such(
    backend: DockerBackend, witness: docker.DockerClient
) -> None:
    wanted = request(env={"AGENT_MODE": "memory"}, tier=2)
    wanted = replace(wanted, limits=replace(wanted.limits, memory_mb=48))
    await backend.start(wanted, deadline=PATIENCE)

    async def look() -> object:
        return await backend.status(wanted.resource, deadline=PATIENCE)

    status = await until(look, lambda found: isinstance(found, Stopped) and found.oom_killed)
    assert isinstance(status, Stopped)
    assert (status.exit_code, status.signal) == (137, 9)


async def test_an_agent_that_the_engine_starts_again_is_called_where_it_was(
    backend: DockerBackend, witness: docker.DockerClient
) -> None:
    wanted = request()
    started = await backend.start(wanted, deadline=PATIENCE)
    container = witness.containers.get(started.resource_id)
    os.kill(int(container.top()["Processes"][-1][1]), signal.SIGKILL)

    async def restarts() -> int:
        container.reload()
        return int(container.attrs["RestartCount"])

    async def look() -> object:
        return await backend.status(wanted.resource, deadline=PATIENCE)

    await until(restarts, lambda count: count == 1)
    status = await until(look, lambda found: isinstance(found, Running))
    assert isinstance(status, Running)
    assert status.url == started.url


async def test_a_port_is_one_agents_alone_and_none_left_is_said(
    docker_engine: DockerEngine,
) -> None:
    settings = DockerSettings(host=docker_engine.url, ports=(19990, 19991))
    few = DockerBackend(settings, uuid.uuid4().hex, platform_port=8080)
    wanted = [request() for _ in range(3)]
    urls = [(await few.start(each, deadline=PATIENCE)).url for each in wanted[:2]]
    assert set(urls) == {"http://127.0.0.1:19990", "http://127.0.0.1:19991"}
    with pytest.raises(BackendFailure) as failed:
        await few.start(wanted[2], deadline=PATIENCE)
    assert failed.value.reason is FailureReason.PORT_TAKEN
    # The port of what has stopped is somebody else's.
    await few.stop(wanted[0].resource, deadline=PATIENCE)
    assert (await few.start(wanted[2], deadline=PATIENCE)).url == urls[0]
    for each in wanted:
        await few.stop(each.resource, deadline=PATIENCE)
        await few.remove_volumes(each.workspace_id, deadline=PATIENCE)
    await few.close()


async def test_logs_resume_and_follow_to_the_end(backend: DockerBackend) -> None:
    wanted = request()
    started = await backend.start(wanted, deadline=PATIENCE)

    async def printed() -> list[Any]:
        return [chunk async for chunk in backend.logs(wanted.resource) if chunk.data]

    await until(printed, lambda found: len(found) == 1)
    session = await backend.exec(
        wanted.resource,
        ["sh", "-c", "for i in 1 2 3; do echo line $i > /proc/1/fd/1; done"],
        deadline=PATIENCE,
    )
    assert await session.exit_code() == 0
    await session.close()
    chunks = await until(printed, lambda found: len(found) == 4)
    assert [chunk.data for chunk in chunks][1:] == [b"line 1\n", b"line 2\n", b"line 3\n"]
    resumed = [chunk.data async for chunk in backend.logs(wanted.resource, since=chunks[1].offset)]
    # The first chunk says that the engine has answered.
    assert resumed == [b"", b"line 2\n", b"line 3\n"]
    last = [chunk.data async for chunk in backend.logs(wanted.resource, tail=1)]
    assert last == [b"", b"line 3\n"]

    async def follow() -> list[bytes]:
        return [
            chunk.data
            async for chunk in backend.logs(
                Resource(workspace_id=wanted.workspace_id, resource_id=started.resource_id),
                since=chunks[-1].offset,
                follow=True,
            )
        ]

    following = asyncio.create_task(follow())
    await asyncio.sleep(0.1)
    await backend.stop(wanted.resource, deadline=PATIENCE)
    assert await asyncio.wait_for(following, PATIENCE) == [b""]


async def test_a_command_has_streams_a_terminal_signals_and_an_exit_code(
    backend: DockerBackend,
) -> None:
    wanted = request()
    await backend.start(wanted, deadline=PATIENCE)
    script = "cat; echo problem >&2; exit 7"
    session = await backend.exec(wanted.resource, ["sh", "-c", script], deadline=PATIENCE)
    await session.write(b"hello\n")
    await session.close_input()
    printed = [output async for output in session.output()]
    assert [(one.data, one.error) for one in printed] == [(b"hello\n", False), (b"problem\n", True)]
    assert await session.exit_code() == 7
    await session.close()

    size = TerminalSize(columns=91, rows=33)
    session = await backend.exec(
        wanted.resource,
        ["sh", "-c", "sleep 0.2; stty size; sleep 1000"],
        terminal=size,
        deadline=PATIENCE,
    )
    first = await anext(aiter(session.output()))
    assert first.data == b"33 91\r\n"
    await session.signal("TERM")
    assert await session.exit_code() == 143
    await session.close()


async def test_a_closed_session_leaves_no_process(
    backend: DockerBackend, witness: docker.DockerClient
) -> None:
    wanted = request()
    await backend.start(wanted, deadline=PATIENCE)
    session = await backend.exec(wanted.resource, ["sleep", "4321"], deadline=PATIENCE)
    await session.close()
    found = witness.containers.get(f"ws-{wanted.workspace_id}")

    async def processes() -> list[list[str]]:
        return list(found.top()["Processes"])

    await until(processes, lambda seen: not any("4321" in str(line) for line in seen))


async def test_usage_is_measured(backend: DockerBackend) -> None:
    wanted = request()
    await backend.start(wanted, deadline=PATIENCE)
    usage = await backend.stats(wanted.resource, deadline=PATIENCE)
    assert usage.memory_limit_bytes == 512 * 1024 * 1024
    assert 0 < usage.memory_bytes < usage.memory_limit_bytes
    assert usage.pids >= 2
    assert usage.cpu >= 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"image": "127.0.0.1:9/nothing:1"}, FailureReason.IMAGE_MISSING),
        ({"image": "Not A Name"}, FailureReason.CONFIGURATION),
        ({"oci_runtime": "runsc"}, FailureReason.CONFIGURATION),
        (
            {"workspace_dir": "/not/there", "workspace_access": "read_write"},
            FailureReason.CONFIGURATION,
        ),
        ({"egress": ("example.com",)}, FailureReason.EGRESS_UNENFORCED),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else str(value),
)
async def test_what_cannot_start_says_why(
    backend: DockerBackend, changes: dict[str, Any], reason: FailureReason
) -> None:
    wanted = request(**changes)
    with pytest.raises(BackendFailure) as caught:
        await backend.start(wanted, deadline=PATIENCE)
    assert caught.value.reason is reason
    await backend.stop(wanted.resource, deadline=PATIENCE)
    await backend.remove_volumes(wanted.workspace_id, deadline=PATIENCE)


async def test_nothing_of_another_installation_is_seen_or_touched(
    backend: DockerBackend, docker_engine: DockerEngine
) -> None:
    mine = request()
    await backend.start(mine, deadline=PATIENCE)
    other = DockerBackend(DockerSettings(host=docker_engine.url), "other", platform_port=8080)
    assert await other.list_owned(deadline=PATIENCE) == []
    await other.stop(mine.resource, deadline=PATIENCE)
    await other.remove_volumes(mine.workspace_id, deadline=PATIENCE)
    with pytest.raises(BackendFailure) as caught:
        await other.start(mine, deadline=PATIENCE)
    assert caught.value.reason in (FailureReason.ENGINE, FailureReason.CONFIGURATION)
    await other.close()
    assert isinstance(await backend.status(mine.resource, deadline=PATIENCE), Running)


async def test_no_network_is_left_after_the_last_workspace(
    backend: DockerBackend, witness: docker.DockerClient
) -> None:
    wanted = request()
    await backend.start(wanted, deadline=PATIENCE)
    labels = witness.containers.get(f"ws-{wanted.workspace_id}").labels
    mine = {"label": f"molecule.installation={labels['molecule.installation']}"}
    assert len(witness.networks.list(filters=mine)) == 1
    await backend.stop(wanted.resource, deadline=PATIENCE)
    await backend.remove_volumes(wanted.workspace_id, deadline=PATIENCE)
    assert witness.networks.list(filters=mine) == []
