"""Files of a workspace, by the engine's archives: they need no program inside the container."""

from __future__ import annotations

import contextlib
import posixpath
import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Final

from aiodocker.exceptions import DockerError

from molecule_grpc.backends.contract import (
    BackendFailure,
    FailureReason,
    FileEntry,
    FileMissing,
    Resource,
    RootReadOnly,
    WorkloadMissing,
)
from molecule_grpc.backends.docker import names
from molecule_grpc.backends.docker.archive import TarReader, archive_of
from molecule_grpc.backends.docker.engine import Engine
from molecule_grpc.backends.docker.execs import run
from molecule_grpc.backends.docker.failures import is_missing
from molecule_grpc.backends.docker.names import Json
from molecule_grpc.backends.docker.workloads import Workloads

_LINKS: Final = 8
_NOT_THERE: Final = 66
_DELETE: Final = 'test -f "$1" || test -L "$1" || exit 66; exec rm -f -- "$1"'
_OUTPUT_BYTES: Final = 1024 * 1024
_PLACES: Final = {
    names.CONFIGS: "/configs",
    names.DATA: "/workspace",
    names.SESSIONS: "/root/.claude/sessions",
}


class Files:
    """Reads and writes in a container that runs or has ended, or in the volumes that it left."""

    def __init__(self, engine: Engine, workloads: Workloads, installation: str) -> None:
        self._engine = engine
        self._workloads = workloads
        self._installation = installation

    async def read(self, resource: Resource, path: str) -> AsyncIterator[bytes]:
        """A file's bytes, wherever links lead inside the container."""
        async with self._container(resource) as found:
            target = path
            for _ in range(_LINKS):
                query = {"path": target}
                async with self._get(found["Id"], query) as chunks:
                    reader = TarReader(chunks)
                    entry = await reader.next()
                    if entry is not None and entry.issym():
                        target = posixpath.join(posixpath.dirname(target), entry.linkname)
                        continue
                    if entry is None or not entry.isfile():
                        raise FileMissing(path)
                    async for chunk in reader.content(entry):
                        yield chunk
                    return
            raise FileMissing(path)

    async def write(
        self, resource: Resource, path: str, content: AsyncIterator[bytes], size: int
    ) -> None:
        """Replace a file. Whoever reads it meanwhile sees the old bytes or the new ones."""
        async with self._container(resource) as found:
            running = found["State"].get("Running", False)
            written = f"{path}.{uuid.uuid4().hex[:12]}.part" if running else path
            try:
                await self._put(found, written, archive_of(_inside(found, written), content, size))
                if running:
                    await self._command(found, ["mv", "-f", "--", written, path])
            except BaseException:
                if running:
                    with contextlib.suppress(Exception):
                        await self._command(found, ["rm", "-f", "--", written])
                raise

    async def entries(self, resource: Resource, path: str, limit: int) -> list[FileEntry]:
        """What lies below a directory."""
        async with self._container(resource) as found:
            if found["State"].get("Running"):
                return await _list_running(self._engine, found["Id"], path, limit)
            return await self._list_archive(found["Id"], path, limit)

    async def delete(self, resource: Resource, path: str) -> None:
        """Delete a file, or a link to one."""
        argv = ["sh", "-c", _DELETE, "sh", path]
        async with self._container(resource, argv) as found:
            if found["State"].get("Running"):
                code, _, _ = await run(self._engine, found["Id"], argv, most=_OUTPUT_BYTES)
            elif found.get("Helper"):
                await self._engine.post(f"containers/{found['Id']}/start")
                ended = await self._engine.post(f"containers/{found['Id']}/wait")
                code = int(ended["StatusCode"])
            else:
                raise BackendFailure(
                    FailureReason.ENGINE, "files of a workspace that has crashed cannot be deleted"
                )
        if code == _NOT_THERE:
            raise FileMissing(path)
        if code:
            raise BackendFailure(FailureReason.ENGINE, "the file was not deleted")

    async def _command(self, found: Json, argv: list[str]) -> None:
        code, _, errors = await run(self._engine, found["Id"], argv, most=_OUTPUT_BYTES)
        if code:
            text = errors.decode(errors="replace")
            if "read-only file system" in text.lower():
                raise RootReadOnly(argv[-1])
            raise BackendFailure(FailureReason.ENGINE, "the file was not written", detail=text)

    async def _put(self, found: Json, path: str, archive: AsyncIterator[bytes]) -> None:
        query = {"path": _root(found, path), "noOverwriteDirNonDir": "1"}
        address = f"containers/{found['Id']}/archive"
        try:
            async with self._engine.request("PUT", address, params=query, data=archive) as answer:
                await answer.read()
        except DockerError as error:
            if "marked read-only" in error.message or "read-only file system" in error.message:
                raise RootReadOnly(path) from error
            raise

    @contextlib.asynccontextmanager
    async def _get(
        self, container_id: str, query: dict[str, str]
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        address = f"containers/{container_id}/archive"
        try:
            async with self._engine.request("GET", address, params=query) as answer:
                yield self._engine.bytes(answer)
        except DockerError as error:
            if is_missing(error):
                raise FileMissing(query["path"]) from error
            raise

    async def _list_archive(self, container_id: str, path: str, limit: int) -> list[FileEntry]:
        entries: list[FileEntry] = []
        async with self._get(container_id, {"path": path}) as chunks:
            reader = TarReader(chunks)
            while len(entries) < limit and (entry := await reader.next()) is not None:
                # The first component is the directory itself.
                relative = entry.name.rstrip("/").partition("/")[2]
                if relative:
                    moment = datetime.fromtimestamp(entry.mtime, UTC)
                    entries.append(FileEntry(relative, entry.size, entry.isdir(), moment))
        return entries

    @contextlib.asynccontextmanager
    async def _container(
        self, resource: Resource, argv: Sequence[str] = ("never-started",)
    ) -> AsyncIterator[Json]:
        """The workspace's container; without one, another on its volumes, with `argv` to run."""
        found = await self._workloads.inspect(resource)
        if found is not None:
            yield found
            return
        volumes = await self._workloads.volumes(resource.workspace_id)
        if not volumes:
            raise WorkloadMissing(str(resource.workspace_id))
        helper = await self._helper(resource, volumes, argv)
        try:
            mounts = _mounts(volumes)
            yield {"Id": helper, "State": {"Running": False}, "Mounts": mounts, "Helper": True}
        finally:
            await self._engine.delete(f"containers/{helper}", force=True)

    async def _helper(self, resource: Resource, volumes: list[Json], argv: Sequence[str]) -> str:
        labels = names.labels(self._installation, resource.workspace_id)
        images = [(each.get("Labels") or {}).get(names.IMAGE) for each in volumes]
        image = next(filter(None, images), None)
        mounts = [
            {"Type": "volume", "Source": each["Source"], "Target": each["Destination"]}
            for each in _mounts(volumes)
        ]
        body = {
            "Image": image,
            "Entrypoint": [argv[0]],
            "Cmd": list(argv[1:]),
            "Labels": {**labels, names.HELPER: "files"},
            "HostConfig": {"Mounts": mounts, "NetworkMode": "none"},
        }
        made = await self._engine.post("containers/create", body)
        return str(made["Id"])


def _mounts(volumes: list[Json]) -> list[Json]:
    by_purpose = {each["Name"].rpartition("-")[2]: each["Name"] for each in volumes}
    return [
        {"Source": by_purpose[purpose], "Destination": place}
        for purpose, place in _PLACES.items()
        if purpose in by_purpose
    ]


def _root(found: Json, path: str) -> str:
    """The mount that holds a path: with a read-only root the engine writes to no other place."""
    places = [each["Destination"] for each in found.get("Mounts", [])]
    holding = [place for place in places if path.startswith(f"{place}/")]
    return max(holding, key=len, default="/")


def _inside(found: Json, path: str) -> str:
    return posixpath.relpath(path, _root(found, path))


# Names may hold anything but NUL: a line of numbers, then the name, then NUL.
_LIST: Final = (
    'test -d "$1" || exit 66; cd "$1" && find . -mindepth 1 -exec sh -c '
    """'for each; do stat -c "%f %s %Y" -- "$each"; printf "%s\\0" "$each"; done' sh {} +"""
)


async def _list_running(
    engine: Engine, container_id: str, path: str, limit: int
) -> list[FileEntry]:
    argv = ["sh", "-c", _LIST, "sh", path]
    most = max(_OUTPUT_BYTES, limit * 512)
    code, printed, errors = await run(engine, container_id, argv, most=most)
    if code == _NOT_THERE:
        raise FileMissing(path)
    if code and not printed:
        text = errors.decode(errors="replace")
        raise BackendFailure(FailureReason.ENGINE, "the files were not listed", detail=text)
    entries = []
    for record in printed.split(b"\0")[:-1][:limit]:
        numbers, _, name = record.partition(b"\n")
        mode, size, moment = numbers.split()
        entries.append(
            FileEntry(
                name.decode("utf-8", "surrogateescape").removeprefix("./"),
                int(size),
                int(mode, 16) & 0o170000 == 0o040000,
                datetime.fromtimestamp(int(moment), UTC),
            )
        )
    return entries
