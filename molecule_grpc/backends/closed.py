"""What a backend refuses that runs workloads but gives no way into them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NoReturn

from molecule_grpc.backends.contract.backend import LOG_SECONDS
from molecule_grpc.backends.contract.entering import (
    ExecSession,
    FileEntry,
    LogChunk,
    TerminalSize,
    Usage,
)
from molecule_grpc.backends.contract.failures import Refused
from molecule_grpc.backends.contract.names import BackendName
from molecule_grpc.backends.contract.workloads import Resource


class Closed:
    """Refuses logs, exec, files, stats and console. A backend overrides what it is capable of."""

    name: BackendName

    def logs(
        self,
        resource: Resource,
        *,
        since: int = 0,
        follow: bool = False,
        tail: int = 0,
        deadline: float = LOG_SECONDS,
    ) -> AsyncIterator[LogChunk]:
        self._refuse("logs")

    async def exec(
        self,
        resource: Resource,
        argv: list[str],
        *,
        terminal: TerminalSize | None = None,
        deadline: float,
    ) -> ExecSession:
        self._refuse("commands")

    def read_file(self, resource: Resource, path: str, *, deadline: float) -> AsyncIterator[bytes]:
        self._refuse("files")

    async def write_file(
        self,
        resource: Resource,
        path: str,
        content: AsyncIterator[bytes],
        size: int,
        *,
        deadline: float,
    ) -> None:
        self._refuse("files")

    async def list_files(
        self, resource: Resource, path: str, *, limit: int, depth: int = 5, deadline: float
    ) -> list[FileEntry]:
        self._refuse("files")

    async def delete_file(self, resource: Resource, path: str, *, deadline: float) -> None:
        self._refuse("files")

    async def stats(self, resource: Resource, *, deadline: float) -> Usage:
        self._refuse("statistics")

    async def console(self, resource: Resource, *, deadline: float) -> str:
        self._refuse("a console")

    def _refuse(self, what: str) -> NoReturn:
        raise Refused(self.name, what)
