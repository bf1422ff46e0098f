"""What every backend can be asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final, Protocol
from uuid import UUID

from molecule_grpc.backends.contract.entering import (
    ExecSession,
    FileEntry,
    LogChunk,
    TerminalSize,
    Usage,
)
from molecule_grpc.backends.contract.names import BackendName, Capability
from molecule_grpc.backends.contract.workloads import Owned, Resource, Started, StartRequest, Status

# Seconds of each kind of call, where its caller has no other wish.
START_SECONDS: Final = 180.0
STOP_SECONDS: Final = 30.0
STATUS_SECONDS: Final = 10.0
LIST_SECONDS: Final = 30.0
LOG_SECONDS: Final = 10.0


class Backend(Protocol):
    """An engine that runs workloads.

    Raises, in every method: `BackendFailure`; `Refused` for what `capabilities` lacks. A call that
    exceeds its deadline raises `BackendFailure` with the reason `timeout`, and leaves nothing
    waiting. Only what bears this installation's id is ever touched.
    """

    @property
    def name(self) -> BackendName: ...

    @property
    def capabilities(self) -> frozenset[Capability]: ...

    async def start(self, request: StartRequest, *, deadline: float) -> Started:
        """Start a workload, under a name derived from the workspace's full id.

        An older workload of the workspace is replaced, its volumes stay. Cancelled or failed, the
        call may leave something behind: the caller stops `request.resource`.
        """
        ...

    async def stop(self, resource: Resource, *, deadline: float) -> None:
        """End a workload and remove it, but for its volumes. Nothing there is a success."""
        ...

    async def status(self, resource: Resource, *, deadline: float) -> Status:
        """What has become of a workload. Never raises for an engine that does not answer."""
        ...

    async def remove_volumes(self, workspace_id: UUID, *, deadline: float) -> None:
        """Delete what the workspace kept. Nothing there, or no volumes at all, is a success."""
        ...

    async def list_owned(self, *, deadline: float) -> list[Owned]:
        """Everything that bears this installation's id, running or not."""
        ...

    def logs(
        self,
        resource: Resource,
        *,
        since: int = 0,
        follow: bool = False,
        tail: int = 0,
        deadline: float = LOG_SECONDS,
    ) -> AsyncIterator[LogChunk]:
        """The agent's output, also of an agent that has ended. A chunk may end within a line.

        The first chunk may have no data: it says that the engine has answered.

        Args:
            since: the offset of a chunk: only what follows that chunk.
            follow: go on until the workload ends or the reader closes.
            tail: only so many last lines; 0 for all that is kept.
            deadline: bounds each wait for the engine, but not for what a follower waits for.

        Raises:
            WorkloadMissing: there is none.
        """
        ...

    async def exec(
        self,
        resource: Resource,
        argv: list[str],
        *,
        terminal: TerminalSize | None = None,
        deadline: float,
    ) -> ExecSession:
        """Run a command beside the agent; `deadline` bounds its beginning only.

        Raises:
            WorkloadMissing: nothing runs.
        """
        ...

    # Paths of files are absolute. A link may lead anywhere below the path's top directory, such as
    # `/workspace`, and nowhere else: every method raises `OutsideRoot` for a link that does.

    def read_file(self, resource: Resource, path: str, *, deadline: float) -> AsyncIterator[bytes]:
        """A file's bytes. Raises `FileMissing` or `WorkloadMissing` before the first of them.

        Args:
            deadline: bounds each wait for the engine, whatever the reader does in between.
        """
        ...

    async def write_file(
        self,
        resource: Resource,
        path: str,
        content: AsyncIterator[bytes],
        size: int,
        *,
        deadline: float,
    ) -> None:
        """Replace a file at once, with the directories above it; `size` bytes will come.

        Raises:
            WorkloadMissing: nothing is there to write to.
            RootReadOnly: the path lies outside of the volumes.
            DirectoryThere: the path is a directory's.
        """
        ...

    async def list_files(
        self, resource: Resource, path: str, *, limit: int, depth: int = 5, deadline: float
    ) -> list[FileEntry]:
        """What lies below a directory, in any order, down to `depth` levels.

        Raises:
            FileMissing: there is no such directory.
            TooManyFiles: there are more than `limit`.
            WorkloadMissing: nothing is there to be listed.
        """
        ...

    async def delete_file(self, resource: Resource, path: str, *, deadline: float) -> None:
        """Delete a file or a link.

        Raises:
            FileMissing: there is none.
            RootReadOnly: the path lies outside of the volumes.
            WorkloadMissing: nothing is there.
        """
        ...

    async def stats(self, resource: Resource, *, deadline: float) -> Usage:
        """What a workload uses now. Raises `WorkloadMissing`."""
        ...

    async def console(self, resource: Resource, *, deadline: float) -> str:
        """What the machine under the workload printed."""
        ...

    async def close(self) -> None:
        """Close connections. Workloads go on."""
        ...
