"""Images against a real engine and a real registry: moving tags, and pinned digests."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import docker
import pytest

from molecule_grpc.backends.contract.failures import BackendFailure, FailureReason
from molecule_grpc.backends.contract.workloads import Resource, StartRequest
from molecule_grpc.backends.docker.backend import DockerBackend
from molecule_grpc.settings.docker import DockerSettings
from tests.engine.docker import DockerEngine
from tests.engine.registry import Registry
from tests.waiting import PATIENCE


@pytest.fixture
def repository(registry: Registry, witness: docker.DockerClient) -> Iterator[str]:
    """A repository whose images the engine forgets after the test."""
    name = registry.name()
    yield name
    for image in witness.images.list(name):
        witness.images.remove(str(image.id), force=True)


@contextlib.asynccontextmanager
async def backend_of(
    engine: DockerEngine, image: str, *, local: bool = False
) -> AsyncIterator[DockerBackend]:
    """A backend whose workspaces all have this image; nothing of it is left."""
    settings = DockerSettings(host=engine.url, images=(("*", image),), local_images=local)
    made = DockerBackend(settings, uuid.uuid4().hex, platform_port=8080)
    try:
        yield made
    finally:
        for owned in await made.list_owned(deadline=PATIENCE):
            await made.stop(Resource(workspace_id=owned.workspace_id), deadline=PATIENCE)
            await made.remove_volumes(owned.workspace_id, deadline=PATIENCE)
        await made.close()


def a_start(digest: str = "") -> StartRequest:
    return StartRequest(
        operation_id=uuid.uuid4(),
        workspace_id=uuid.uuid4(),
        organization_id=uuid.uuid4(),
        name="agent",
        runtime="langgraph",
        tier=2,
        image_digest=digest,
    )


async def started(backend: DockerBackend, digest: str = "") -> str:
    """The digest of what a new start runs, as the start and the engine's record tell."""
    wanted = a_start(digest)
    told = await backend.start(wanted, deadline=PATIENCE)
    again = await backend.status(wanted.resource, deadline=PATIENCE)
    assert getattr(again, "image_digest", None) == told.image_digest
    await backend.stop(wanted.resource, deadline=PATIENCE)
    return told.image_digest


async def test_a_moved_tag_is_pulled_again_and_a_pin_stays(
    docker_engine: DockerEngine, registry: Registry, repository: str
) -> None:
    """W33, W35: each start asks for what `latest` means; a pinned one never does."""
    first = registry.push(repository)
    async with backend_of(docker_engine, repository) as backend:
        assert await started(backend) == first
        second = registry.push(repository)
        assert first != second
        assert await backend.images.registry_digest("langgraph", deadline=PATIENCE) == second
        assert await started(backend, first) == first
        assert await started(backend) == second
        assert await started(backend, first) == first


async def test_a_fixed_tag_is_pulled_once(
    docker_engine: DockerEngine, registry: Registry, repository: str
) -> None:
    """W35: whoever moves such a tag all the same is not followed."""
    first = registry.push(repository, "1.4")
    async with backend_of(docker_engine, f"{repository}:1.4") as backend:
        assert await started(backend) == first
        registry.push(repository, "1.4")
        assert await started(backend) == first


async def test_a_registry_that_is_away_keeps_nobody_from_starting(
    docker_engine: DockerEngine, registry: Registry, repository: str
) -> None:
    """W35: with an older image there the start goes on; without one the reason is clear."""
    first = registry.push(repository)
    async with backend_of(docker_engine, repository) as backend:
        assert await started(backend) == first
        registry.stop()
        try:
            assert await started(backend) == first
            assert await started(backend, first) == first
            with pytest.raises(BackendFailure) as caught:
                await started(backend, f"sha256:{'0' * 64}")
            assert caught.value.reason is FailureReason.IMAGE_MISSING
            for asked in (
                backend.images.pull("langgraph", "", deadline=PATIENCE),
                backend.images.registry_digest("langgraph", deadline=PATIENCE),
            ):
                with pytest.raises(BackendFailure):
                    await asked
        finally:
            registry.start()


async def test_a_pull_tells_the_digest_of_what_is_there_then(
    docker_engine: DockerEngine, registry: Registry, repository: str
) -> None:
    first, second = registry.push(repository), registry.push(repository)
    async with backend_of(docker_engine, repository) as backend:
        images = backend.images
        assert await images.pull("langgraph", "", deadline=PATIENCE) == second
        assert await images.pull("langgraph", first, deadline=PATIENCE) == first
        with pytest.raises(BackendFailure) as caught:
            await images.pull("langgraph", f"sha256:{'0' * 64}", deadline=PATIENCE)
        assert caught.value.reason is FailureReason.IMAGE_MISSING
    async with backend_of(docker_engine, repository, local=True) as backend:
        assert await started(backend) == second  # Nobody was asked.
        with pytest.raises(BackendFailure, match="WORKSPACE_IMAGE_LOCAL_OVERRIDE"):
            await backend.images.pull("langgraph", "", deadline=PATIENCE)


async def test_an_image_that_a_workspace_names_is_not_pinned(
    docker_engine: DockerEngine, registry: Registry, repository: str
) -> None:
    """W31: an explicit image comes first, then the runtime's, pinned or not."""
    first, second = registry.push(repository), registry.push(repository)
    async with backend_of(docker_engine, "127.0.0.1:5000/nothing") as backend:
        wanted = replace(a_start(first), image=f"{repository}:latest")
        told = await backend.start(wanted, deadline=PATIENCE)
        assert told.image_digest == second
