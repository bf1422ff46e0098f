"""A real registry of images beside an engine of tests, in the engine's network namespace."""

from __future__ import annotations

import contextlib
import io
import shutil
import subprocess
import tarfile
import tempfile
import time
import uuid
from pathlib import Path

import docker.errors
import httpx

from molecule_grpc.server.children import die_with_parent
from tests.engine.docker import DockerEngine
from tests.waiting import PATIENCE

PROGRAM = "docker-registry"
# Seen in the namespace alone, where nothing else listens.
_PORT = 5000
_CONFIGURATION = """version: 0.1
storage:
  filesystem:
    rootdirectory: {directory}
http:
  addr: :{port}
"""
# The engine makes them when it mounts; a container's archive is written before.
_DIRECTORIES = ("configs", "dev", "etc", "proc", "root", "run", "sys", "tmp", "workspace")


def missing() -> str:
    """Why this machine can have no registry; empty if it can."""
    return "" if shutil.which(PROGRAM) else f"not installed: {PROGRAM} (Debian: docker-registry)"


class Registry:
    """Keeps what is pushed. The engine knows it as `127.0.0.1:5000`."""

    def __init__(self, engine: DockerEngine) -> None:
        self._engine = engine
        self._directory = Path(tempfile.mkdtemp(prefix="mgr-"))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the registry over its images of before, and wait until the registry answers."""
        configuration = self._directory / "config.yml"
        data = self._directory / "data"
        configuration.write_text(_CONFIGURATION.format(directory=data, port=_PORT))
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._engine.namespace.entry, PROGRAM, "serve", str(configuration)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - it calls prctl alone
            )
        url = f"http://{self._engine.namespace.inside}:{_PORT}/v2/"
        end = time.monotonic() + PATIENCE
        while True:
            try:
                httpx.get(url, timeout=PATIENCE).raise_for_status()
            except httpx.HTTPError:
                if time.monotonic() > end:
                    raise RuntimeError((self._directory / "log").read_text()[-4000:]) from None
                time.sleep(0.02)
            else:
                return

    def stop(self) -> None:
        """Nobody answers any more."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """Stop the registry, and delete its images."""
        self.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    def name(self) -> str:
        """A repository of one test's own."""
        return f"127.0.0.1:{_PORT}/agent-{uuid.uuid4().hex[:8]}"

    def push(self, repository: str, tag: str = "latest") -> str:
        """Push a new image, unlike any before, and forget it on the engine; its digest."""
        client = self._engine.witness()
        try:
            name = f"{repository}:{tag}"
            kept = [one.id for one in client.images.list(name)]
            client.api.import_image_from_data(
                _image(), repository=repository, tag=tag, changes=list(_CHANGES)
            )
            client.api.push(repository, tag=tag)
            made = client.images.get(name)
            [entry] = made.attrs["RepoDigests"]
            with contextlib.suppress(docker.errors.APIError):  # A workspace runs it by now.
                client.images.remove(str(made.id), force=True)
                for one in kept:  # The engine still means the older image by the name.
                    client.api.tag(one, repository, tag)
        finally:
            client.close()
        return str(entry).rpartition("@")[2]


_CHANGES = ('CMD ["/bin/busybox","sleep","86400"]', "ENV PATH=/bin")


def _image() -> bytes:
    """Two megabytes that sleep: busybox, and a name by which no two images are alike."""
    busybox = shutil.which("busybox")
    assert busybox is not None, "busybox is not installed (Debian: busybox-static)"
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as image:
        for name in _DIRECTORIES:
            member = tarfile.TarInfo(name)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            image.addfile(member)
        image.add(busybox, "bin/busybox")
        text = uuid.uuid4().hex.encode()
        member = tarfile.TarInfo("version")
        member.size = len(text)
        image.addfile(member, io.BytesIO(text))
    return written.getvalue()
