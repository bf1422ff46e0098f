"""The Kubernetes backend on a real cluster, by an account with no rights but the manifest's."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable
from dataclasses import replace
from typing import Any

import pytest

from molecule_grpc.backends.contract.entering import TerminalSize
from molecule_grpc.backends.contract.failures import (
    BackendFailure,
    DirectoryThere,
    FailureReason,
    FileMissing,
    OutsideRoot,
    RootReadOnly,
    TooManyFiles,
    WorkloadMissing,
)
from molecule_grpc.backends.contract.workloads import (
    Absent,
    Resource,
    Running,
    StartRequest,
    Stopped,
    Unknown,
)
from molecule_grpc.backends.kubernetes.backend import KubernetesBackend
from tests.kubernetes.cluster import NAMESPACE, KubernetesCluster
from tests.kubernetes.fixtures import backend_on
from tests.waiting import PATIENCE, until

_CORE = f"/api/v1/namespaces/{NAMESPACE}"
_APPS = f"/apis/apps/v1/namespaces/{NAMESPACE}"
_NETWORKING = f"/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}"


def request(**changes: Any) -> StartRequest:
    """A start of a workspace that only sleeps."""
    given = StartRequest(
        operation_id=uuid.uuid4(),
        workspace_id=uuid.uuid4(),
        organization_id=uuid.uuid4(),
        name="agent",
        runtime="test",
        tier=2,
        env={"AGENT_MODE": "quiet"},
    )
    return replace(given, **changes)


@pytest.fixture
async def backend(kubernetes: KubernetesCluster) -> AsyncIterator[KubernetesBackend]:
    async with backend_on(kubernetes) as made:
        yield made


async def started(backend: KubernetesBackend, wanted: StartRequest) -> Resource:
    """A workspace that runs."""
    found = await backend.start(wanted, deadline=PATIENCE)
    return Resource(workspace_id=wanted.workspace_id, resource_id=found.resource_id)


async def failure_of(start: Awaitable[object]) -> BackendFailure | None:
    """How a start failed; None if it did not."""
    try:
        await start
    except BackendFailure as failure:
        return failure
    return None


async def read(backend: KubernetesBackend, resource: Resource, path: str) -> bytes:
    """A whole file."""
    chunks = backend.read_file(resource, path, deadline=PATIENCE)
    return b"".join([chunk async for chunk in chunks])


async def chunks_of(data: bytes) -> AsyncIterator[bytes]:
    """Content in small pieces."""
    for start in range(0, len(data), 50_000):
        yield data[start : start + 50_000]


async def test_what_was_written_survives_a_stop_and_ends_with_the_volumes(
    backend: KubernetesBackend, kubernetes: KubernetesCluster
) -> None:
    """A stop is the end of the pod and of its Secret; the claims stay until their removal."""
    first = request(config_files={"config.yaml": b"name: one\n", "prompts/a b.md": b"hi"})
    one = await started(backend, first)
    assert await read(backend, one, "/configs/config.yaml") == b"name: one\n"
    assert await read(backend, one, "/configs/prompts/a b.md") == b"hi"
    await backend.write_file(one, "/workspace/note", chunks_of(b"kept"), 4, deadline=PATIENCE)
    await backend.stop(one, deadline=PATIENCE)
    name = f"ws-{first.workspace_id}"
    secrets = kubernetes.ask("GET", f"{_CORE}/secrets")["items"]
    assert name not in [each["metadata"]["name"] for each in secrets]
    owned = {each.workspace_id: each for each in await backend.list_owned(deadline=PATIENCE)}
    assert (owned[first.workspace_id].resource_id, owned[first.workspace_id].running) == ("", False)

    second = replace(first, operation_id=uuid.uuid4(), config_files={})
    two = await started(backend, second)
    assert two.resource_id != one.resource_id
    assert await read(backend, two, "/workspace/note") == b"kept"
    assert await read(backend, two, "/configs/config.yaml") == b"name: one\n"
    # The older start finds nothing of its own, and stops nothing.
    await backend.stop(one, deadline=PATIENCE)
    await backend.stop(first.resource, deadline=PATIENCE)
    assert isinstance(await backend.status(two, deadline=PATIENCE), Running)

    await backend.remove_volumes(first.workspace_id, deadline=PATIENCE)
    assert await backend.status(two, deadline=PATIENCE) == Absent()
    for path in (f"{_CORE}/persistentvolumeclaims", f"{_CORE}/secrets", f"{_APPS}/statefulsets"):
        assert str(first.workspace_id) not in json.dumps(kubernetes.ask("GET", path)), path


async def test_a_workspace_that_needs_another_disk_keeps_those_that_it_has(
    backend: KubernetesBackend,
) -> None:
    first = request(tier=1, config_files={"kept": b"1"})
    await started(backend, first)
    second = replace(first, operation_id=uuid.uuid4(), tier=2, config_files={})
    two = await started(backend, second)
    assert await read(backend, two, "/configs/kept") == b"1"
    await backend.write_file(two, "/workspace/x", chunks_of(b"x"), 1, deadline=PATIENCE)


async def test_a_pod_is_no_more_than_its_tier_and_shows_no_secret(
    backend: KubernetesBackend, kubernetes: KubernetesCluster
) -> None:
    wanted = request(
        tier=1,
        env={"AGENT_MODE": "quiet", "API_KEY": "very-secret"},
        secret_files={"OTHER": b"as-secret"},
        config_files={".auth_token": b"token-secret"},
    )
    resource = await started(backend, wanted)
    objects = json.dumps(
        [kubernetes.ask("GET", f"{_CORE}/pods"), kubernetes.ask("GET", f"{_APPS}/statefulsets")]
    )
    assert not [word for word in ("very-secret", "as-secret", "token-secret") if word in objects]
    assert await read(backend, resource, "/run/secrets/OTHER") == b"as-secret"
    assert await read(backend, resource, "/configs/.auth_token") == b"token-secret"
    status = await read(backend, resource, "/proc/1/status")
    assert b"CapEff:\t0000000000000000" in status
    assert b"NoNewPrivs:\t1" in status
    assert b"Seccomp:\t2" in status
    with pytest.raises(FileMissing):
        await read(backend, resource, "/var/run/secrets/kubernetes.io/serviceaccount/token")
    with pytest.raises(RootReadOnly):
        await backend.write_file(resource, "/etc/x", chunks_of(b"x"), 1, deadline=PATIENCE)


async def test_files_survive_a_round_trip_with_any_name_and_size(
    backend: KubernetesBackend,
) -> None:
    resource = await started(backend, request())
    files = {
        "/workspace/empty": b"",
        '/workspace/sub/deeper/a file\'s "name"\n; rm -rf $HOME': b"hostile",
        "/workspace/-rf": b"dash",
        "/workspace/größe": bytes(range(256)) * 4000,
    }
    for path, content in files.items():
        await backend.write_file(
            resource, path, chunks_of(content), len(content), deadline=PATIENCE
        )
    for path, content in files.items():
        assert await read(backend, resource, path) == content
    found = await backend.list_files(resource, "/workspace", limit=100, deadline=PATIENCE)
    sizes = {f"/workspace/{entry.path}": entry.size for entry in found if not entry.directory}
    assert sizes == {path: len(content) for path, content in files.items()}
    await backend.delete_file(resource, "/workspace/-rf", deadline=PATIENCE)
    for path in ("/workspace/-rf", "/workspace/sub", "/none"):
        with pytest.raises(FileMissing):
            await read(backend, resource, path)
    with pytest.raises(FileMissing):
        await backend.list_files(resource, "/none", limit=1, deadline=PATIENCE)
    with pytest.raises(TooManyFiles):
        await backend.list_files(resource, "/workspace", limit=2, deadline=PATIENCE)
    with pytest.raises(DirectoryThere):
        await backend.write_file(resource, "/workspace/sub", chunks_of(b"x"), 1, deadline=PATIENCE)
    await backend.stop(resource, deadline=PATIENCE)
    with pytest.raises(WorkloadMissing):
        await read(backend, resource, "/workspace/empty")


async def test_a_link_leads_nowhere_outside_of_its_top_directory(
    backend: KubernetesBackend,
) -> None:
    resource = await started(backend, request())
    script = (
        "cd /workspace && mkdir in && echo inside > in/file && ln -s /etc out &&"
        " ln -s /etc/passwd passwd && ln -s in/file near"
    )
    session = await backend.exec(resource, ["sh", "-c", script], deadline=PATIENCE)
    assert await session.exit_code() == 0
    await session.close()
    assert await read(backend, resource, "/workspace/near") == b"inside\n"
    for path in ("/workspace/passwd", "/workspace/out/passwd", "/workspace/../etc/passwd"):
        with pytest.raises(OutsideRoot):
            await read(backend, resource, path)
    with pytest.raises(OutsideRoot):
        await backend.list_files(resource, "/workspace/out", limit=9, deadline=PATIENCE)
    with pytest.raises(OutsideRoot):
        await backend.delete_file(resource, "/workspace/out/passwd", deadline=PATIENCE)
    with pytest.raises(OutsideRoot):
        await backend.write_file(
            resource, "/workspace/out/x", chunks_of(b"x"), 1, deadline=PATIENCE
        )
    # A link itself is deleted, or replaced, and what is behind it is not.
    await backend.delete_file(resource, "/workspace/near", deadline=PATIENCE)
    await backend.write_file(
        resource, "/workspace/passwd", chunks_of(b"mine"), 4, deadline=PATIENCE
    )
    assert await read(backend, resource, "/workspace/passwd") == b"mine"
    assert await read(backend, resource, "/workspace/in/file") == b"inside\n"


async def test_an_agent_that_ends_is_told_of_with_its_code_and_its_words(
    backend: KubernetesBackend,
) -> None:
    wanted = request(env={"AGENT_MODE": "exit:3"})
    # The pod may run for a moment before the agent ends.
    failure = await failure_of(backend.start(wanted, deadline=PATIENCE))
    assert failure is None or failure.reason is FailureReason.EXITED
    assert failure is None or "cannot go on" in failure.output

    async def look() -> Any:
        return await backend.status(wanted.resource, deadline=PATIENCE)

    status = await until(look, lambda found: isinstance(found, Stopped))
    assert (status.exit_code, status.oom_killed, status.signal) == (3, False, None)
    lines = [chunk.data async for chunk in backend.logs(wanted.resource)]
    assert b"cannot go on\n" in lines


async def test_an_agent_that_takes_too_much_memory_is_told_of_as_such(
    backend: KubernetesBackend,
) -> None:
    wanted = request(env={"AGENT_MODE": "memory"})
    wanted = replace(wanted, limits=replace(wanted.limits, memory_mb=48))
    failure = await failure_of(backend.start(wanted, deadline=PATIENCE))
    assert failure is None or failure.reason is FailureReason.OUT_OF_MEMORY

    async def look() -> Any:
        return await backend.status(wanted.resource, deadline=PATIENCE)

    await until(look, lambda found: isinstance(found, Stopped) and found.oom_killed)


async def test_why_a_pod_does_not_come_is_said(
    backend: KubernetesBackend, kubernetes: KubernetesCluster
) -> None:
    """By the image's name, by the node's room, by the cluster's rules."""
    cases = [
        (request(image="docker.io/library/none-such:1"), PATIENCE, FailureReason.IMAGE_MISSING),
        (request(image="NOT AN IMAGE"), PATIENCE, FailureReason.CONFIGURATION),
        (request(oci_runtime="no-such-class"), 8.0, FailureReason.TIMEOUT),
        (request(egress=("example.com",)), PATIENCE, FailureReason.EGRESS_UNENFORCED),
    ]
    for wanted, deadline, reason in cases:
        with pytest.raises(BackendFailure) as failed:
            await backend.start(wanted, deadline=deadline)
        assert failed.value.reason is reason, failed.value
        await backend.stop(wanted.resource, deadline=PATIENCE)
    async with backend_on(kubernetes, node_selector=(("none", "such"),)) as choosy:
        with pytest.raises(BackendFailure) as failed:
            await choosy.start(request(), deadline=8.0)
        assert failed.value.reason is FailureReason.CAPACITY, failed.value


async def test_a_list_of_addresses_is_a_network_policy(kubernetes: KubernetesCluster) -> None:
    async with backend_on(kubernetes, network_policies=True) as backend:
        wanted = request(egress=("203.0.113.7:443",))
        await started(backend, wanted)
        path = f"{_NETWORKING}/networkpolicies/ws-{wanted.workspace_id}"
        rules = kubernetes.ask("GET", path)["spec"]["egress"]
        assert [each["to"][0]["ipBlock"]["cidr"] for each in rules] == [
            f"{kubernetes.namespace.outside}/32",
            "203.0.113.7/32",
        ]
        assert [each["ports"][0]["port"] for each in rules] == [8080, 443]
        with pytest.raises(BackendFailure) as failed:
            await backend.start(request(egress=("example.com",)), deadline=PATIENCE)
        assert failed.value.reason is FailureReason.EGRESS_UNENFORCED


async def test_logs_resume_and_follow_to_the_end(backend: KubernetesBackend) -> None:
    resource = await started(backend, request())

    async def printed() -> list[Any]:
        return [chunk async for chunk in backend.logs(resource) if chunk.data]

    await until(printed, lambda found: len(found) == 1)
    script = "for i in 1 2 3; do echo line $i > /proc/1/fd/1; done"
    session = await backend.exec(resource, ["sh", "-c", script], deadline=PATIENCE)
    assert await session.exit_code() == 0
    await session.close()
    chunks = await until(printed, lambda found: len(found) == 4)
    assert [chunk.data for chunk in chunks][1:] == [b"line 1\n", b"line 2\n", b"line 3\n"]
    resumed = [chunk.data async for chunk in backend.logs(resource, since=chunks[1].offset)]
    assert resumed == [b"", b"line 2\n", b"line 3\n"]
    assert [chunk.data async for chunk in backend.logs(resource, tail=1)] == [b"", b"line 3\n"]
    following = asyncio.create_task(_follow(backend, resource, chunks[-1].offset))
    await backend.stop(resource, deadline=PATIENCE)
    await asyncio.wait_for(following, PATIENCE)


async def _follow(backend: KubernetesBackend, resource: Resource, since: int) -> None:
    async for _ in backend.logs(resource, since=since, follow=True):
        pass


async def test_a_command_has_streams_a_terminal_signals_and_an_exit_code(
    backend: KubernetesBackend,
) -> None:
    resource = await started(backend, request())
    script = "cat; echo problem >&2; exit 7"
    session = await backend.exec(resource, ["sh", "-c", script], deadline=PATIENCE)
    await session.write(b"hello\n")
    await session.close_input()
    printed = [output async for output in session.output()]
    assert sorted((one.error, one.data) for one in printed) == [
        (False, b"hello\n"),
        (True, b"problem\n"),
    ]
    assert await session.exit_code() == 7
    await session.close()

    session = await backend.exec(
        resource,
        ["sh", "-c", "sleep 0.2; stty size; sleep 1000"],
        terminal=TerminalSize(columns=91, rows=33),
        deadline=PATIENCE,
    )
    first = await anext(aiter(session.output()))
    assert first.data == b"33 91\r\n"
    await session.signal("TERM")
    assert await session.exit_code() == 143
    await session.close()


async def test_usage_is_measured(backend: KubernetesBackend) -> None:
    resource = await started(backend, request())
    usage = await backend.stats(resource, deadline=PATIENCE)
    assert 1 << 20 < usage.memory_bytes < usage.memory_limit_bytes == 512 << 20
    assert usage.pids >= 1
    assert 0 <= usage.cpu < 3


async def test_no_call_waits_for_a_frozen_cluster_longer_than_its_deadline(
    backend: KubernetesBackend, kubernetes: KubernetesCluster
) -> None:
    wanted = request()
    resource = await started(backend, wanted)
    kubernetes.freeze()
    try:
        began = time.monotonic()
        assert isinstance(await backend.status(resource, deadline=1), Unknown)
        for call in (
            backend.start(request(), deadline=1),
            backend.stop(resource, deadline=1),
            backend.list_owned(deadline=1),
            backend.exec(resource, ["true"], deadline=1),
            backend.stats(resource, deadline=1),
        ):
            with pytest.raises(BackendFailure) as failed:
                await call
            assert failed.value.reason is FailureReason.TIMEOUT
        assert time.monotonic() - began < 6 + PATIENCE / 2
    finally:
        kubernetes.thaw()
    assert isinstance(await backend.status(resource, deadline=PATIENCE), Running)


async def test_what_is_somebody_elses_is_left_alone(kubernetes: KubernetesCluster) -> None:
    async with backend_on(kubernetes) as mine, backend_on(kubernetes) as other:
        wanted = request()
        resource = await started(other, wanted)
        assert await mine.list_owned(deadline=PATIENCE) == []
        for call in (
            mine.stop(resource, deadline=PATIENCE),
            mine.remove_volumes(wanted.workspace_id, deadline=PATIENCE),
            mine.start(wanted, deadline=PATIENCE),
        ):
            with pytest.raises(BackendFailure):
                await call
        assert isinstance(await other.status(resource, deadline=PATIENCE), Running)


async def test_three_workspaces_start_at_once_on_one_watch(backend: KubernetesBackend) -> None:
    wanted = [request() for _ in range(3)]
    await asyncio.gather(*(backend.start(each, deadline=PATIENCE) for each in wanted))
    owned = await backend.list_owned(deadline=PATIENCE)
    assert {each.workspace_id for each in owned if each.running} == {
        each.workspace_id for each in wanted
    }
