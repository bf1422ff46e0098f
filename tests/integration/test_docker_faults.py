"""The Docker backend while its engine hangs, is killed, and comes back."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from molecule_grpc.backends.contract.failures import BackendFailure, FailureReason
from molecule_grpc.backends.contract.workloads import Resource, Running, Status, Stopped, Unknown
from molecule_grpc.backends.docker.backend import DockerBackend
from molecule_grpc.settings.docker import DockerSettings
from tests.engine.docker import DockerEngine
from tests.integration.test_docker_backend import request
from tests.waiting import PATIENCE, until

DEADLINE = 0.5


@pytest.fixture(scope="module")
def engine(new_docker: Callable[..., DockerEngine]) -> DockerEngine:
    """An engine of this module's own."""
    return new_docker()


@pytest.fixture
async def backend(engine: DockerEngine) -> AsyncIterator[DockerBackend]:
    """A backend on it."""
    made = DockerBackend(DockerSettings(host=engine.url), uuid.uuid4().hex, platform_port=8080)
    yield made
    await made.close()


async def test_no_call_waits_for_a_frozen_engine_longer_than_its_deadline(
    backend: DockerBackend, engine: DockerEngine
) -> None:
    wanted = request()
    await backend.start(wanted, deadline=PATIENCE)
    engine.freeze()
    try:
        began = time.monotonic()
        statuses = await asyncio.gather(
            *(backend.status(wanted.resource, deadline=DEADLINE) for _ in range(200))
        )
        with pytest.raises(BackendFailure) as caught:
            await backend.stop(wanted.resource, deadline=DEADLINE)
        passed = time.monotonic() - began
    finally:
        engine.thaw()
    assert all(isinstance(status, Unknown) for status in statuses)
    assert caught.value.reason is FailureReason.TIMEOUT
    assert caught.value.retryable
    # Two deadlines, and what a busy machine adds.
    assert passed < 2 * DEADLINE + 10
    assert isinstance(await backend.status(wanted.resource, deadline=PATIENCE), Running)
    await backend.stop(wanted.resource, deadline=PATIENCE)


async def test_a_killed_engine_is_unknown_and_what_ran_is_stopped_when_it_is_back(
    backend: DockerBackend, engine: DockerEngine
) -> None:
    wanted = request()
    await backend.start(wanted, deadline=PATIENCE)
    engine.kill_daemon()
    assert isinstance(await backend.status(wanted.resource, deadline=PATIENCE), Unknown)
    with pytest.raises(BackendFailure) as caught:
        await backend.start(request(), deadline=PATIENCE)
    assert caught.value.reason is FailureReason.UNREACHABLE
    with pytest.raises(BackendFailure):
        await backend.list_owned(deadline=PATIENCE)

    engine.start_daemon()

    async def look() -> Status:
        return await backend.status(wanted.resource, deadline=PATIENCE)

    # The engine starts nothing again after such an end, whatever the restart policy says.
    status = await until(look, lambda found: isinstance(found, Stopped))
    assert isinstance(status, Stopped)
    again = replace(wanted, operation_id=uuid.uuid4())
    await backend.start(again, deadline=PATIENCE)
    assert isinstance(await backend.status(again.resource, deadline=PATIENCE), Running)

    engine.stop_daemon()
    engine.start_daemon()
    await until(
        lambda: backend.status(again.resource, deadline=PATIENCE),
        lambda found: isinstance(found, Running),
    )
    await backend.stop(Resource(workspace_id=wanted.workspace_id), deadline=PATIENCE)


async def test_nothing_that_reaches_into_a_workload_waits_longer_than_its_deadline(
    backend: DockerBackend, engine: DockerEngine
) -> None:
    """Files, logs, commands and measurements, begun while the engine hangs or before that."""
    wanted = request()
    await backend.start(wanted, deadline=PATIENCE)
    resource = wanted.resource

    async def content() -> AsyncIterator[bytes]:
        yield b"x"

    async def all_of(pieces: AsyncIterator[object]) -> None:
        async for _ in pieces:
            pass

    following = backend.logs(resource, follow=True, deadline=DEADLINE)
    assert (await anext(aiter(following))).data == b""
    engine.freeze()
    try:
        began = time.monotonic()
        ends = await asyncio.gather(
            all_of(backend.read_file(resource, "/configs/a", deadline=DEADLINE)),
            backend.write_file(resource, "/configs/a", content(), 1, deadline=DEADLINE),
            backend.list_files(resource, "/configs", limit=10, deadline=DEADLINE),
            backend.delete_file(resource, "/configs/a", deadline=DEADLINE),
            all_of(backend.logs(resource, deadline=DEADLINE)),
            backend.exec(resource, ["true"], deadline=DEADLINE),
            backend.stats(resource, deadline=DEADLINE),
            return_exceptions=True,
        )
        passed = time.monotonic() - began
    finally:
        engine.thaw()
    assert [getattr(each, "reason", each) for each in ends] == [FailureReason.TIMEOUT] * 7
    assert passed < DEADLINE + 10
    await following.aclose()
    # None of them holds anything that the next one needs.
    await backend.write_file(resource, "/configs/a", content(), 1, deadline=PATIENCE)
    await backend.stop(resource, deadline=PATIENCE)
