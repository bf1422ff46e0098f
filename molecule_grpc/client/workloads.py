"""What runs in a workspace: its files, logs, terminals and measurements."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import grpc
from google.api import httpbody_pb2
from moleculeai.workspace.v1 import access_pb2
from moleculeai.workspace.v1 import workspace_service_pb2 as pb

from molecule_grpc.client.connection import Connection
from molecule_grpc.client.errors import to_call_error
from molecule_grpc.client.final_status import FinalStatus
from molecule_grpc.client.terminal import Terminal

_CHUNK_BYTES = 256 * 1024
_SECONDS = 600.0
# An engine measures each workload for a second or two.
_MEASURE_SECONDS = 60.0


class Workloads:
    """Calls about workloads that the platform runs.

    Every method may raise `FailedPrecondition` (RUNTIME_EXTERNAL, WORKLOAD_MISSING),
    `Unimplemented` (BACKEND_LACKS) and `Unavailable` (BACKEND_UNAVAILABLE).

    Args:
        connection: with an operator's or an organisation's token, or that of the workspace.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def files(
        self, workspace_id: str, root: str = "", path: str = "", *, depth: int = 1
    ) -> list[access_pb2.WorkspaceFile]:
        """What lies below a directory, by path.

        Args:
            root: `/configs`, `/workspace`, `/home` or `/plugins`; empty for `/configs`.
            path: relative to the root; empty for the root.
            depth: levels, 1 to 5.

        Raises:
            NotFound: FILE_NOT_FOUND.
            FailedPrecondition: FILE_OUTSIDE_ROOT, TOO_MANY_FILES.
        """
        request = pb.ListWorkspaceFilesRequest(
            workspace_id=workspace_id, root=root, path=path, depth=depth
        )
        pages = self._connection.pages(self._connection.workspaces.ListWorkspaceFiles, request)
        return [file async for page in pages for file in page.files]

    async def read_file(self, workspace_id: str, path: str, root: str = "") -> AsyncIterator[bytes]:
        """A file's bytes, in pieces.

        Raises:
            NotFound: FILE_NOT_FOUND.
        """
        request = pb.ReadWorkspaceFileRequest(workspace_id=workspace_id, root=root, path=path)
        call = self._connection.workspaces.ReadWorkspaceFile(
            request, metadata=self._connection.metadata, timeout=_SECONDS
        )
        try:
            async for piece in call:
                yield piece.data
        except grpc.aio.AioRpcError as error:
            raise to_call_error(error) from error

    async def write_file(self, workspace_id: str, path: str, source: Path, root: str = "") -> int:
        """Replace a file by a local one, at most 100 MiB. Returns its size in bytes.

        Raises:
            FailedPrecondition: ROOT_READ_ONLY, FILE_IS_DIRECTORY.
            InvalidArgument: FILE_TOO_LARGE.
            OSError: the local file cannot be read.
        """
        first = pb.WriteWorkspaceFileRequest(workspace_id=workspace_id, root=root, path=path)
        failures: list[OSError] = []
        call = self._connection.workspaces.WriteWorkspaceFile(
            _pieces(first, source, failures), metadata=self._connection.metadata, timeout=_SECONDS
        )
        status = FinalStatus(call)
        try:
            return (await call).size
        except (grpc.aio.AioRpcError, asyncio.CancelledError) as error:
            if failures:
                raise failures[0] from None
            if isinstance(error, asyncio.CancelledError):
                raise
            raise to_call_error(await status.of(error)) from error

    async def delete_file(self, workspace_id: str, path: str, root: str = "") -> None:
        """Delete a file or a link.

        Raises:
            NotFound: FILE_NOT_FOUND.
            FailedPrecondition: ROOT_READ_ONLY.
        """
        request = pb.DeleteWorkspaceFileRequest(workspace_id=workspace_id, root=root, path=path)
        await self._connection.call(
            self._connection.workspaces.DeleteWorkspaceFile, request, retry=False
        )

    async def logs(
        self, workspace_id: str, *, tail: int = 0, follow: bool = False, resume_after: str = ""
    ) -> AsyncIterator[access_pb2.LogChunk]:
        """What the agent printed.

        Args:
            tail: only so many last lines at the beginning; 0 for all.
            follow: go on until the workload ends.
            resume_after: `resume_token` of the last chunk of an earlier stream.

        Raises:
            Unavailable: DRAINING: go on with `resume_after`.
        """
        request = pb.WatchWorkspaceLogsRequest(
            workspace_id=workspace_id, tail=tail, follow=follow, resume_after=resume_after
        )
        call = self._connection.workspaces.WatchWorkspaceLogs(
            request, metadata=self._connection.metadata
        )
        try:
            async for frame in call:
                if frame.HasField("chunk"):
                    yield frame.chunk
        except grpc.aio.AioRpcError as error:
            raise to_call_error(error) from error
        finally:
            call.cancel()

    def run(
        self,
        workspace_id: str,
        argv: Sequence[str] = (),
        *,
        terminal: tuple[int, int] | None = None,
    ) -> Terminal:
        """A command beside the agent. An async context manager, whose end ends the command.

        Args:
            argv: empty for a shell.
            terminal: columns and rows; None for a command without a terminal.
        """
        start = pb.ExecWorkspaceRequest.Start(workspace_id=workspace_id, argv=argv)
        if terminal is not None:
            start.terminal.columns, start.terminal.rows = terminal
        return Terminal(self._connection, start)

    async def stats(self, workspace_id: str) -> access_pb2.WorkspaceStats:
        """What a workload uses now."""
        return await self._connection.call(
            self._connection.workspaces.GetWorkspaceStats,
            pb.GetWorkspaceStatsRequest(workspace_id=workspace_id),
            retry=False,
            timeout=_MEASURE_SECONDS,
        )

    async def all_stats(self) -> list[access_pb2.WorkspaceStats]:
        """Measurements of all workloads that should run and that the token administers."""
        request = pb.ListWorkspaceStatsRequest(limit=100)
        found: list[access_pb2.WorkspaceStats] = []
        while True:
            page, headers = await self._connection.call_with_headers(
                self._connection.workspaces.ListWorkspaceStats,
                request,
                retry=False,
                timeout=_MEASURE_SECONDS,
            )
            found += page.stats
            request.page_token = headers.get("x-next-page-token", "")
            if not request.page_token:
                return found

    async def console(self, workspace_id: str) -> str:
        """What the machine under a workspace printed. For administrators."""
        answer = await self._connection.call(
            self._connection.workspaces.GetWorkspaceConsole,
            pb.GetWorkspaceConsoleRequest(workspace_id=workspace_id),
            retry=False,
        )
        return answer.output


async def _pieces(
    first: pb.WriteWorkspaceFileRequest, source: Path, failures: list[OSError]
) -> AsyncIterator[pb.WriteWorkspaceFileRequest]:
    try:
        with source.open("rb") as file:
            request = first
            while (data := await asyncio.to_thread(file.read, _CHUNK_BYTES)) or request is first:
                request.body.CopyFrom(httpbody_pb2.HttpBody(data=data))
                yield request
                request = pb.WriteWorkspaceFileRequest()
    except OSError as error:
        # gRPC reports an error in the request iterator as a broken stream, without its cause.
        failures.append(error)
        raise
