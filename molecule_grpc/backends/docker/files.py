"""Files of a workspace, by the engine's archives and by commands inside a container."""

from __future__ import annotations

import contextlib
import posixpath
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

from aiodocker.exceptions import DockerError

from molecule_grpc.backends.contract.entering import FileEntry
from molecule_grpc.backends.contract.failures import (
    BackendFailure,
    DirectoryThere,
    FailureReason,
    FileMissing,
    RootReadOnly,
    TooManyFiles,
)
from molecule_grpc.backends.contract.workloads import Resource
from molecule_grpc.backends.docker.archive import TarReader, archive_of
from molecule_grpc.backends.docker.engine import Engine
from molecule_grpc.backends.docker.execs import run
from molecule_grpc.backends.docker.failures import is_missing
from molecule_grpc.backends.docker.helpers import Helpers
from molecule_grpc.backends.docker.names import Json
from molecule_grpc.backends.docker.places import look, may_be_written, mount_of, resolved
from molecule_grpc.backends.docker.workloads import Workloads
from molecule_grpc.backends.shell_files import (
    DELETE,
    LIST,
    NOT_THERE,
    OUTPUT_BYTES,
    entries_of,
    is_read_only,
    listing_bytes,
)

_ROOT: Final = "0"


class Files:
    """Reads and writes in a container that runs or has ended, or in the volumes that it left."""

    def __init__(self, engine: Engine, workloads: Workloads, installation: str) -> None:
        self._engine = engine
        self._workloads = workloads
        self._helpers = Helpers(engine, workloads, installation)

    async def read(self, resource: Resource, path: str) -> AsyncGenerator[bytes, None]:
        """A file's bytes."""
        async with self._container(resource) as found:
            target = await resolved(self._engine, found["Id"], path)
            async with self._archive(found["Id"], target) as chunks:
                reader = TarReader(chunks)
                entry = await reader.next()
                if entry is None or not entry.isfile():
                    raise FileMissing(path)
                # Even for an empty file: what follows the first piece is no refusal any more.
                yield b""
                async for chunk in reader.content(entry):
                    yield chunk

    async def write(
        self, resource: Resource, path: str, content: AsyncIterator[bytes], size: int
    ) -> None:
        """Replace a file. Readers see the old bytes or the new bytes, never a mixture."""
        async with self._container(resource) as found:
            directory, _, name = path.rpartition("/")
            directory = await resolved(self._engine, found["Id"], directory)
            target = f"{directory}/{name}"
            if not may_be_written(found, target):
                raise RootReadOnly(path)
            there = await look(self._engine, found["Id"], target)
            if there is not None and there.directory:
                raise DirectoryThere(path)
            if not found["State"].get("Running", False):
                # Nobody reads: what is half written is replaced by the next attempt.
                await self._put(found, target, content, size)
                return
            written = f"{directory}/.{uuid.uuid4().hex}.part"
            try:
                await self._put(found, written, content, size)
                await self._command(found, ["mv", "-f", "--", written, target])
            except BaseException:
                with contextlib.suppress(Exception):
                    await self._command(found, ["rm", "-f", "--", written])
                raise

    async def entries(
        self, resource: Resource, path: str, limit: int, depth: int
    ) -> list[FileEntry]:
        """What lies below a directory."""
        async with self._container(resource) as found:
            target = await resolved(self._engine, found["Id"], path)
        argv = ["sh", "-c", LIST, "sh", target, str(depth)]
        most = listing_bytes(limit)
        code, printed = await self._run(resource, argv, most)
        if code == NOT_THERE:
            raise FileMissing(path)
        if len(printed) > most:
            raise TooManyFiles(path)
        return entries_of(printed, path, limit)

    async def delete(self, resource: Resource, path: str) -> None:
        """Delete a file, or a link to one."""
        async with self._container(resource) as found:
            target = await resolved(self._engine, found["Id"], path, follow=False)
            if not may_be_written(found, target):
                raise RootReadOnly(path)
        code, _ = await self._run(resource, ["sh", "-c", DELETE, "sh", target], OUTPUT_BYTES)
        if code == NOT_THERE:
            raise FileMissing(path)
        if code:
            raise BackendFailure(FailureReason.ENGINE, "the file was not deleted")

    async def _run(self, resource: Resource, argv: list[str], most: int) -> tuple[int, bytes]:
        """Run a command where the workspace runs, else on its volumes."""
        found = await self._workloads.inspect(resource)
        if found is None or not found["State"].get("Running"):
            return await self._helpers.run(resource.workspace_id, argv, most=most)
        code, printed, _ = await self._as_somebody(found, argv, most)
        return code, printed

    async def _command(self, found: Json, argv: list[str]) -> None:
        code, _, errors = await self._as_somebody(found, argv, OUTPUT_BYTES)
        if code:
            if is_read_only(errors):
                raise RootReadOnly(argv[-1])
            # What the program said names the file: not for the log.
            raise BackendFailure(FailureReason.ENGINE, "the file was not written")

    async def _as_somebody(
        self, found: Json, argv: list[str], most: int
    ) -> tuple[int, bytes, bytes]:
        """Run a command as root, and where that fails as the image's user.

        The user may own a directory that root without capabilities may not change.
        """
        done = await run(self._engine, found["Id"], argv, most=most, user=_ROOT)
        if done[0] in (0, NOT_THERE) or len(done[1]) > most:
            return done
        return await run(self._engine, found["Id"], argv, most=most)

    async def _put(self, found: Json, path: str, content: AsyncIterator[bytes], size: int) -> None:
        mount = mount_of(found, path)
        archive = archive_of(posixpath.relpath(path, mount), content, size)
        query = {"path": mount, "noOverwriteDirNonDir": "1"}
        address = f"containers/{found['Id']}/archive"
        try:
            async with self._engine.request(
                "PUT", address, params=query, data=archive, lasting=True
            ) as answer:
                await answer.read()
        except DockerError as error:
            if "marked read-only" in error.message or "read-only file system" in error.message:
                raise RootReadOnly(path) from error
            raise

    @contextlib.asynccontextmanager
    async def _archive(self, container_id: str, path: str) -> AsyncIterator[AsyncIterator[bytes]]:
        address, query = f"containers/{container_id}/archive", {"path": path}
        try:
            async with self._engine.request("GET", address, params=query, lasting=True) as answer:
                yield self._engine.bytes(answer)
        except DockerError as error:
            if is_missing(error):
                raise FileMissing(path) from error
            raise

    @contextlib.asynccontextmanager
    async def _container(self, resource: Resource) -> AsyncIterator[Json]:
        """The workspace's container, running or not, else a helper on the workspace's volumes."""
        found = await self._workloads.inspect(resource)
        if found is not None:
            yield found
            return
        async with self._helpers.on_volumes(resource.workspace_id) as helper:
            yield helper
