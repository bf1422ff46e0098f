"""Containers on the volumes of a workspace that does not run, for its files."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Final
from uuid import UUID

from molecule_grpc.backends.contract.failures import WorkloadMissing
from molecule_grpc.backends.docker import names
from molecule_grpc.backends.docker.engine import Engine
from molecule_grpc.backends.docker.logs import frames_of
from molecule_grpc.backends.docker.names import Json
from molecule_grpc.backends.docker.workloads import Workloads

_PLACES: Final = {
    names.CONFIGS: "/configs",
    names.DATA: "/workspace",
    names.SESSIONS: "/root/.claude/sessions",
}
_NEVER_STARTED: Final = ("never-started",)


class Helpers:
    """Makes containers on the volumes of workspaces, and removes each after its use."""

    def __init__(self, engine: Engine, workloads: Workloads, installation: str) -> None:
        self._engine = engine
        self._workloads = workloads
        self._installation = installation

    @contextlib.asynccontextmanager
    async def on_volumes(
        self, workspace_id: UUID, argv: Sequence[str] = _NEVER_STARTED
    ) -> AsyncIterator[Json]:
        """A container that does not run, in the form of an inspected one, while inside.

        Raises:
            WorkloadMissing: the workspace has no volumes.
        """
        volumes = await self._workloads.volumes(workspace_id)
        mounts = _mounts(volumes)
        if not mounts:
            raise WorkloadMissing(str(workspace_id))
        images = [(each.get("Labels") or {}).get(names.IMAGE) for each in volumes]
        labels = names.labels(self._installation, workspace_id)
        body = {
            "Image": next(filter(None, images), None),
            "User": "0",
            "Entrypoint": [argv[0]],
            "Cmd": list(argv[1:]),
            "Labels": {**labels, names.HELPER: "files"},
            "HostConfig": {
                "Mounts": [
                    {"Type": "volume", "Source": each["Source"], "Target": each["Destination"]}
                    for each in mounts
                ],
                "NetworkMode": "none",
                "SecurityOpt": ["no-new-privileges"],
            },
        }
        made = await self._engine.post("containers/create", body)
        try:
            yield {"Id": str(made["Id"]), "State": {"Running": False}, "Mounts": mounts}
        finally:
            await self._engine.delete(f"containers/{made['Id']}", force=True)

    async def run(self, workspace_id: UUID, argv: Sequence[str], *, most: int) -> tuple[int, bytes]:
        """Run a command on the volumes. Its exit code, and at most so many bytes of its output."""
        async with self.on_volumes(workspace_id, argv) as helper:
            path = f"containers/{helper['Id']}"
            await self._engine.post(f"{path}/start")
            ended = await self._engine.post(f"{path}/wait")
            printed = bytearray()
            query = {"stdout": True}
            async with (
                self._engine.request("GET", f"{path}/logs", params=query, lasting=True) as answer,
                contextlib.aclosing(frames_of(self._engine.bytes(answer))) as frames,
            ):
                async for frame in frames:
                    printed += frame
                    if len(printed) > most:
                        break
            return int(ended["StatusCode"]), bytes(printed[: most + 1])


def _mounts(volumes: list[Json]) -> list[Json]:
    by_purpose = {each["Name"].rpartition("-")[2]: each["Name"] for each in volumes}
    return [
        {"Source": by_purpose[purpose], "Destination": place, "RW": True}
        for purpose, place in _PLACES.items()
        if purpose in by_purpose
    ]
