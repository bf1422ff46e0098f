"""What every backend promises, on each: the control plane, EC2, a Docker engine, none."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

import docker
import pytest

from molecule_grpc.backends.contract.backend import Backend
from molecule_grpc.backends.contract.failures import BackendFailure, FailureReason, Refused
from molecule_grpc.backends.contract.names import BackendName, Capability
from molecule_grpc.backends.contract.workloads import (
    Absent,
    Resource,
    Running,
    StartRequest,
    Unknown,
)
from molecule_grpc.backends.docker.backend import DockerBackend
from molecule_grpc.backends.ec2.backend import Ec2Backend
from molecule_grpc.backends.none import NoBackend
from molecule_grpc.kernel.ids import new_id
from molecule_grpc.settings.docker import DockerSettings
from molecule_grpc.settings.ec2 import Ec2Settings
from tests import control_plane as bad
from tests.amazon import amazon, done_then, settings_for
from tests.control_plane import control_plane
from tests.engine.docker import DockerEngine
from tests.engine.image import IMAGE
from tests.integration.backends import a_start, backend_of
from tests.kubernetes.cluster import KubernetesCluster
from tests.kubernetes.fixtures import backend_on
from tests.waiting import PATIENCE


@dataclass(frozen=True, slots=True)
class Stand:
    """A backend, and its engine as somebody else sees it.

    Args:
        running: how many workloads of a workspace cost something.
        kill: ends a workload behind the backend's back.
        slow_start: makes the next start take long, after its work is done or before.
    """

    backend: Backend
    running: Callable[[UUID], int]
    kill: Callable[[str], None]
    slow_start: Callable[[], None]


@contextlib.asynccontextmanager
async def control_plane_stand(_: pytest.FixtureRequest) -> AsyncIterator[Stand]:
    async with control_plane() as plane, backend_of(plane) as backend:
        yield Stand(
            backend,
            lambda workspace: sum(m.workspace_id == str(workspace) for m in plane.running),
            lambda resource: setattr(plane.machines[resource], "state", "terminated"),
            lambda: plane.script.update(POST=[bad.done_then(plane, bad.hang)]),
        )


@contextlib.asynccontextmanager
async def docker_stand(request: pytest.FixtureRequest) -> AsyncIterator[Stand]:
    engine: DockerEngine = request.getfixturevalue("docker_engine")
    witness: docker.DockerClient = request.getfixturevalue("witness")
    backend = DockerBackend(DockerSettings(host=engine.url), uuid.uuid4().hex, platform_port=8080)

    def running(workspace: UUID) -> int:
        return sum(str(workspace) in str(each.name) for each in witness.containers.list())

    def kill(resource: str) -> None:
        witness.containers.get(resource).remove(force=True)

    yield Stand(backend, running, kill, lambda: None)
    for owned in await backend.list_owned(deadline=PATIENCE):
        await backend.stop(Resource(workspace_id=owned.workspace_id), deadline=PATIENCE)
        await backend.remove_volumes(owned.workspace_id, deadline=PATIENCE)
    await backend.close()


@contextlib.asynccontextmanager
async def ec2_stand(request: pytest.FixtureRequest) -> AsyncIterator[Stand]:
    request.getfixturevalue("amazon_keys")
    answers = asyncio.Event()
    async with amazon(request.getfixturevalue("moto")) as front:
        witness = front.witness()
        backend = Ec2Backend(settings_for(front), uuid.uuid4().hex)

        def running(workspace: UUID) -> int:
            wanted = [
                {"Name": "tag:molecule.workspace", "Values": [str(workspace)]},
                {"Name": "instance-state-name", "Values": ["pending", "running"]},
            ]
            found = witness.describe_instances(Filters=wanted)["Reservations"]
            return sum(len(each["Instances"]) for each in found)

        def kill(resource: str) -> None:
            witness.terminate_instances(InstanceIds=[resource])

        def slow_start() -> None:
            front.script["RunInstances"] = [done_then(answers)]
            asyncio.get_running_loop().call_later(1, answers.set)

        yield Stand(backend, running, kill, slow_start)
        for owned in await backend.list_owned(deadline=PATIENCE):
            await backend.remove_volumes(owned.workspace_id, deadline=PATIENCE)
        await backend.close()
        witness.close()


@contextlib.asynccontextmanager
async def kubernetes_stand(request: pytest.FixtureRequest) -> AsyncIterator[Stand]:
    cluster: KubernetesCluster = request.getfixturevalue("kubernetes")

    def running(workspace: UUID) -> int:
        return sum(str(workspace) in each["metadata"]["name"] for each in cluster.pods())

    async with backend_on(cluster) as backend:
        yield Stand(backend, running, cluster.delete_workload, lambda: None)


STANDS = {
    BackendName.CONTROL_PLANE: control_plane_stand,
    BackendName.EC2: ec2_stand,
    BackendName.DOCKER: docker_stand,
}
# The cluster's programs are built first, which takes minutes: `make test-kubernetes`.
if os.environ.get("TEST_KUBERNETES"):
    STANDS[BackendName.KUBERNETES] = kubernetes_stand


@pytest.fixture(params=list(STANDS))
async def stand(request: pytest.FixtureRequest) -> AsyncIterator[Stand]:
    async with STANDS[request.param](request) as opened:
        yield opened


def wanted(workspace: UUID | None = None, **given: object) -> StartRequest:
    """A start of a workload that sleeps."""
    return a_start(
        workspace,
        image=IMAGE,
        env={"AGENT_MODE": "quiet"},
        platform_url="https://platform.example",
        **given,
    )


async def start(stand: Stand, request: StartRequest) -> Resource:
    started = await stand.backend.start(request, deadline=PATIENCE)
    return Resource(workspace_id=request.workspace_id, resource_id=started.resource_id)


async def test_a_start_that_is_made_twice_runs_once(stand: Stand) -> None:
    request = wanted()
    first, again = await start(stand, request), await start(stand, request)
    assert (first, stand.running(request.workspace_id)) == (again, 1)


async def test_what_runs_is_found_by_its_id_and_by_its_operation(stand: Stand) -> None:
    request = wanted()
    resource = await start(stand, request)
    found = [
        await stand.backend.status(each, deadline=PATIENCE) for each in (resource, request.resource)
    ]
    assert all(isinstance(each, Running) for each in found)
    assert {each.resource_id for each in found if isinstance(each, Running)} == {
        resource.resource_id
    }


async def test_a_stop_may_be_made_twice_and_of_nothing(stand: Stand) -> None:
    request = wanted()
    resource = await start(stand, request)
    for each in (resource, resource, request.resource, Resource(workspace_id=new_id())):
        await stand.backend.stop(each, deadline=PATIENCE)
    assert stand.running(request.workspace_id) == 0
    assert await stand.backend.status(resource, deadline=PATIENCE) == Absent()
    await stand.backend.remove_volumes(request.workspace_id, deadline=PATIENCE)
    await stand.backend.remove_volumes(request.workspace_id, deadline=PATIENCE)


async def test_a_workload_that_was_killed_from_outside_is_absent(stand: Stand) -> None:
    request = wanted()
    resource = await start(stand, request)
    stand.kill(resource.resource_id)
    assert await stand.backend.status(resource, deadline=PATIENCE) == Absent()
    await stand.backend.stop(resource, deadline=PATIENCE)


async def test_a_start_that_is_cancelled_is_undone_by_a_stop_of_its_operation(
    stand: Stand,
) -> None:
    request = wanted()
    stand.slow_start()
    starting = asyncio.create_task(stand.backend.start(request, deadline=PATIENCE))
    await asyncio.wait({starting}, timeout=0.3)  # Somewhere in the middle, or behind the end.
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    await stand.backend.stop(request.resource, deadline=PATIENCE)
    assert stand.running(request.workspace_id) == 0


async def test_a_stop_of_an_operation_leaves_another_operations_workload(stand: Stand) -> None:
    request = wanted()
    await start(stand, request)
    other = wanted(request.workspace_id)
    await stand.backend.stop(other.resource, deadline=PATIENCE)
    assert stand.running(request.workspace_id) == 1
    await stand.backend.stop(request.resource, deadline=PATIENCE)


async def test_what_a_backend_lacks_is_refused_and_what_it_says_it_has_is_not(
    stand: Stand,
) -> None:
    nothing = Resource(workspace_id=new_id(), resource_id="none-such")
    calls: dict[Capability, Callable[[], Awaitable[object]]] = {
        Capability.LIST: lambda: stand.backend.list_owned(deadline=PATIENCE),
        Capability.EXEC: lambda: stand.backend.exec(nothing, ["true"], deadline=PATIENCE),
        Capability.STATS: lambda: stand.backend.stats(nothing, deadline=PATIENCE),
        Capability.CONSOLE: lambda: stand.backend.console(nothing, deadline=PATIENCE),
        Capability.FILES: lambda: stand.backend.delete_file(nothing, "/a", deadline=PATIENCE),
    }
    refused = set()
    for capability, call in calls.items():
        try:
            await call()
        except Refused:
            refused.add(capability)
        except Exception:  # noqa: BLE001  (there is nothing of that name)
            pass
    assert refused == set(calls) - stand.backend.capabilities


@pytest.mark.usefixtures("amazon_keys")
@pytest.mark.parametrize("name", list(STANDS))
async def test_an_engine_that_is_away_is_unreachable_and_unknown(name: BackendName) -> None:
    """Both within the deadline."""
    nowhere = bad.ScriptedControlPlane(url="http://127.0.0.1:9")
    async with contextlib.AsyncExitStack() as stack:
        backend: Backend
        if name is BackendName.DOCKER:
            host = "unix:///nonexistent/docker.sock"
            backend = DockerBackend(DockerSettings(host=host), "0" * 32, platform_port=8080)
            stack.push_async_callback(backend.close)
        elif name is BackendName.EC2:
            settings = Ec2Settings(endpoint=nowhere.url, launch_templates=(("*", "some"),))
            backend = Ec2Backend(settings, "0" * 32)
            stack.push_async_callback(backend.close)
        else:
            backend = await stack.enter_async_context(backend_of(nowhere))
        began = time.monotonic()
        resource = Resource(workspace_id=new_id(), resource_id="some")
        assert isinstance(await backend.status(resource, deadline=5), Unknown)
        with pytest.raises(BackendFailure) as failed:
            await backend.start(wanted(), deadline=5)
        assert failed.value.reason is FailureReason.UNREACHABLE
        assert time.monotonic() - began < 10


async def test_where_nothing_runs_nothing_fails_to_stop_and_a_start_says_why() -> None:
    """8.3, 8.4: the backend none."""
    none = NoBackend()
    workspace = Resource(workspace_id=new_id())
    await none.stop(workspace, deadline=1)
    await none.remove_volumes(workspace.workspace_id, deadline=1)
    assert await none.status(workspace, deadline=1) == Absent()
    assert await none.list_owned(deadline=1) == []
    with pytest.raises(BackendFailure, match="no compute backend is configured"):
        await none.start(wanted(), deadline=1)
    with pytest.raises(Refused):
        none.logs(workspace)
