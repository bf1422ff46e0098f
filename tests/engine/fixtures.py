"""Engines for tests. `.ci/run` installs what they need, and there a missing part is a failure."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest

from tests.engine.docker import DockerEngine, missing
from tests.engine.image import CHANGES, IMAGE, image_file
from tests.engine.machine import Machine
from tests.engine.machine import missing as machine_missing
from tests.engine.registry import Registry
from tests.engine.registry import missing as registry_missing


@pytest.fixture(scope="session")
def new_docker() -> Iterator[Callable[..., DockerEngine]]:
    """Makes engines with the image of tests in them. All are ended after the session."""
    if reason := missing():
        if os.environ.get("CI"):
            pytest.fail(f"no Docker engine: {reason}")
        pytest.skip(f"no Docker engine: {reason}")
    made: list[DockerEngine] = []

    def make(*, filtering: bool = True) -> DockerEngine:
        engine = DockerEngine(filtering=filtering)
        made.append(engine)
        engine.start()
        with contextlib.closing(engine.witness()) as client, image_file().open("rb") as image:
            repository, tag = IMAGE.split(":")
            client.api.import_image_from_data(
                image, repository=repository, tag=tag, changes=list(CHANGES)
            )
        return engine

    try:
        yield make
    finally:
        for engine in made:
            engine.close()
    assert [trace for engine in made for trace in engine.traces()] == []


@pytest.fixture(scope="session")
def docker_engine(new_docker: Callable[..., DockerEngine]) -> DockerEngine:
    """One engine for the session. Do not kill or freeze this one."""
    return new_docker()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A machine with sshd, as EC2 would run one."""
    if reason := machine_missing():
        if os.environ.get("CI"):
            pytest.fail(f"no machine: {reason}")
        pytest.skip(f"no machine: {reason}")
    made = Machine(tmp_path)
    try:
        yield made.start()
    finally:
        made.close()


@pytest.fixture
def witness(docker_engine: DockerEngine) -> Iterator[docker.DockerClient]:
    """The session's engine seen by another client than the platform's."""
    with contextlib.closing(docker_engine.witness()) as client:
        yield client


@pytest.fixture(scope="session")
def registry(docker_engine: DockerEngine) -> Iterator[Registry]:
    """A registry beside the session's engine. Whoever stops it starts it again."""
    if reason := registry_missing():
        if os.environ.get("CI"):
            pytest.fail(f"no registry: {reason}")
        pytest.skip(f"no registry: {reason}")
    made = Registry(docker_engine)
    try:
        made.start()
        yield made
    finally:
        made.close()
