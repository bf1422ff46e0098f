"""Copies of all that lies below /configs of a workspace, as far as there is room."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from uuid import UUID

from molecule_grpc.backends.access import refusals
from molecule_grpc.backends.access.rules import DEFAULT_ROOT
from molecule_grpc.backends.access.targets import Target, Targets, closing
from molecule_grpc.backends.contract.backend import LIST_SECONDS
from molecule_grpc.backends.contract.entering import FileEntry
from molecule_grpc.backends.contract.failures import FileMissing, WorkloadMissing
from molecule_grpc.backends.contract.names import Capability
from molecule_grpc.kernel.budget import Budget
from molecule_grpc.kernel.errors import Conflict, Unsupported
from molecule_grpc.kernel.payer import OPERATOR_PAYS, payer

_LEVELS: Final = 16
_MOST_LISTED: Final = 5_000


class ConfigCopies:
    """Reads the files below /configs of workspaces.

    Args:
        budget: what reaches into workspaces at once.
    """

    def __init__(self, targets: Targets, budget: Budget) -> None:
        self._targets = targets
        self._budget = budget

    async def copy(
        self, workspace_id: UUID, *, files: int, size: int
    ) -> Mapping[str, bytes | None] | None:
        """By path, the files; None for a file for which there is no room.

        None in place of all of it where nothing can be read: the workspace is external, was never
        started, or its backend reads no files.

        Args:
            files: most files that are read.
            size: most bytes of all together.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND.
            Unavailable: BACKEND_UNAVAILABLE: the engine does not answer.
            Conflict: there are more than 5,000 files.
        """
        try:
            target = await self._targets.find(workspace_id, Capability.FILES)
        except (Conflict, Unsupported):
            return None
        with self._budget.use(1, **(payer.get() or OPERATOR_PAYS).keys):
            found = await self._listed(target)
            return None if found is None else await self._copied(target, found, files, size)

    async def _copied(
        self, target: Target, found: list[FileEntry], files: int, size: int
    ) -> dict[str, bytes | None]:
        copied: dict[str, bytes | None] = {}
        for entry in sorted(found, key=lambda each: each.path):
            if entry.directory:
                continue
            room = size if len(copied) < files else -1
            content = await self._read(target, entry, room) if entry.size <= room else None
            size -= len(content or b"")
            copied[entry.path] = content
        return copied

    async def _listed(self, target: Target) -> list[FileEntry] | None:
        """The files; None where neither a workload nor a directory is there."""
        with refusals.translated():
            try:
                return await target.backend.list_files(
                    target.resource,
                    DEFAULT_ROOT,
                    limit=_MOST_LISTED,
                    depth=_LEVELS,
                    deadline=LIST_SECONDS,
                )
            except (FileMissing, WorkloadMissing):
                return None

    async def _read(self, target: Target, entry: FileEntry, room: int) -> bytes | None:
        """A file's bytes; None where it has grown beyond the room, or is gone."""
        content = bytearray()
        with refusals.translated():
            read = target.backend.read_file(
                target.resource, f"{DEFAULT_ROOT}/{entry.path}", deadline=LIST_SECONDS
            )
            try:
                async with closing(read) as pieces:
                    async for piece in pieces:
                        content += piece
                        if len(content) > room:
                            return None
            except FileMissing:
                return None
        return bytes(content)
