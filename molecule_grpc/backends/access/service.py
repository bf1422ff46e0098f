"""The RPCs of WorkspaceService that reach into workloads: files, logs, terminals, measurements."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

from google.api import httpbody_pb2
from google.protobuf.descriptor import ServiceDescriptor
from moleculeai.workspace.v1 import access_pb2
from moleculeai.workspace.v1 import workspace_service_pb2 as pb

from molecule_grpc.auth.principal import Role
from molecule_grpc.backends.access import convert, refusals
from molecule_grpc.backends.access.files import WorkspaceFiles
from molecule_grpc.backends.access.log_stream import LogStreams
from molecule_grpc.backends.access.spool import Spool, new_spool
from molecule_grpc.backends.access.terminals import Terminals
from molecule_grpc.backends.access.usage import Measurements
from molecule_grpc.db.wakeups import Flag
from molecule_grpc.kernel.ids import parse_id
from molecule_grpc.server.call import Call
from molecule_grpc.server.streams import StreamGuards, with_end


class AccessService:
    """Requests to values and back. The policy keeps strangers out."""

    def __init__(
        self,
        files: WorkspaceFiles,
        logs: LogStreams,
        terminals: Terminals,
        measurements: Measurements,
        guards: StreamGuards,
    ) -> None:
        self._files = files
        self._logs = logs
        self._terminals = terminals
        self._measurements = measurements
        self._guards = guards

    async def ListWorkspaceFiles(
        self, request: pb.ListWorkspaceFilesRequest, call: Call
    ) -> pb.ListWorkspaceFilesResponse:
        page = await self._files.entries(
            parse_id(request.workspace_id, "workspace_id"),
            request.root,
            request.path,
            depth=request.depth,
            limit=request.limit,
            page_token=request.page_token,
        )
        if page.last is not None:
            call.headers["x-next-page-token"] = self._files.token_after(page.last)
        return pb.ListWorkspaceFilesResponse(files=map(convert.workspace_file, page.rows))

    async def ReadWorkspaceFile(
        self, request: pb.ReadWorkspaceFileRequest, call: Call
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        workspace_id = parse_id(request.workspace_id, "workspace_id")
        with self._guards.watch(Flag(workspace_id), call) as guard:
            if call.rest and not request.raw:
                async with guard.interruptible():
                    text, size = await self._files.read_text(
                        workspace_id, request.root, request.path
                    )
                yield convert.text_body(request.path, text, size)
                return
            async with (
                contextlib.aclosing(
                    self._files.read(workspace_id, request.root, request.path)
                ) as pieces,
                contextlib.aclosing(guard.each(pieces)) as guarded,
            ):
                async for piece in guarded:
                    yield httpbody_pb2.HttpBody(content_type=convert.BYTES, data=piece)

    async def WriteWorkspaceFile(
        self, requests: AsyncIterator[pb.WriteWorkspaceFileRequest], call: Call
    ) -> pb.WriteWorkspaceFileResponse:
        first = await anext(requests)
        workspace_id = parse_id(first.workspace_id, "workspace_id")
        with self._guards.watch(Flag(workspace_id), call) as guard:
            async with guard.interruptible(), contextlib.AsyncExitStack() as stack:
                sent = convert.bytes_sent(first, requests, guard)
                spool = await stack.enter_async_context(
                    self._files.receiving(workspace_id, first.root, first.path, sent)
                )
                if call.rest and convert.is_json(first.body.content_type):
                    spool = await stack.enter_async_context(_from_json(spool, first.path))
                guard.check()
                await self._files.write(workspace_id, first.root, first.path, spool)
                return pb.WriteWorkspaceFileResponse(
                    status="saved", path=first.path, size=spool.size
                )

    async def DeleteWorkspaceFile(
        self, request: pb.DeleteWorkspaceFileRequest, call: Call
    ) -> pb.DeleteWorkspaceFileResponse:
        workspace_id = parse_id(request.workspace_id, "workspace_id")
        await self._files.delete(workspace_id, request.root, request.path)
        return pb.DeleteWorkspaceFileResponse(status="deleted", path=request.path)

    def WatchWorkspaceLogs(
        self, request: pb.WatchWorkspaceLogsRequest, call: Call
    ) -> AsyncIterator[pb.WatchWorkspaceLogsResponse]:
        call.headers["cache-control"] = "no-cache"
        return with_end(self._watched(request, call), convert.log_end)

    async def _watched(
        self, request: pb.WatchWorkspaceLogsRequest, call: Call
    ) -> AsyncGenerator[pb.WatchWorkspaceLogsResponse, None]:
        workspace_id = parse_id(request.workspace_id, "workspace_id")
        with self._guards.watch(Flag(workspace_id), call) as guard:
            frames = self._logs.watch(
                workspace_id,
                tail=request.tail,
                follow=request.follow,
                after=int(request.resume_after or 0),
                guard=guard,
            )
            async with contextlib.aclosing(frames) as opened:
                async for frame in opened:
                    yield convert.log_frame(frame)

    def ExecWorkspace(
        self, requests: AsyncIterator[pb.ExecWorkspaceRequest], call: Call
    ) -> AsyncIterator[pb.ExecWorkspaceResponse]:
        return with_end(self._executed(requests, call), convert.exec_end)

    async def _executed(
        self, requests: AsyncIterator[pb.ExecWorkspaceRequest], call: Call
    ) -> AsyncGenerator[pb.ExecWorkspaceResponse, None]:
        start = (await anext(requests)).start
        workspace_id = parse_id(start.workspace_id, "start.workspace_id")
        with self._guards.watch(Flag(workspace_id), call) as guard:
            frames = self._terminals.run(
                workspace_id,
                convert.argv_of(start),
                convert.size_of(start.terminal) if start.HasField("terminal") else None,
                convert.client_frames(requests),
                guard,
            )
            async with contextlib.aclosing(frames) as opened:
                async for frame in opened:
                    yield convert.exec_frame(frame)

    async def GetWorkspaceConsole(
        self, request: pb.GetWorkspaceConsoleRequest, call: Call
    ) -> pb.GetWorkspaceConsoleResponse:
        workspace_id = parse_id(request.workspace_id, "workspace_id")
        output = await self._measurements.console(workspace_id)
        return pb.GetWorkspaceConsoleResponse(output=output)

    async def GetWorkspaceStats(
        self, request: pb.GetWorkspaceStatsRequest, call: Call
    ) -> access_pb2.WorkspaceStats:
        workspace_id = parse_id(request.workspace_id, "workspace_id")
        return convert.stats(await self._measurements.of(workspace_id))

    async def ListWorkspaceStats(
        self, request: pb.ListWorkspaceStatsRequest, call: Call
    ) -> pb.ListWorkspaceStatsResponse:
        principal = call.principal
        page = await self._measurements.of_all(
            None if principal.role is Role.OPERATOR else principal.organization_id,
            limit=request.limit,
            page_token=request.page_token,
        )
        if page.last is not None:
            call.headers["x-next-page-token"] = self._measurements.token_after(page.last)
        return pb.ListWorkspaceStatsResponse(stats=map(convert.stats, page.rows))


@contextlib.asynccontextmanager
async def _from_json(body: Spool, path: str) -> AsyncIterator[Spool]:
    """The content of a file whose bytes came as JSON.

    Raises:
        Invalid: it is no such JSON; FILE_TOO_LARGE: it is above 4 MiB.
    """
    if body.size > convert.MAX_JSON_BYTES:
        raise refusals.too_large(path, body.size, convert.MAX_JSON_BYTES)
    text = b"".join([piece async for piece in body.pieces()])
    with new_spool() as spool:
        await spool.append(convert.content_of(text))
        yield spool


def handlers(service: AccessService) -> tuple[ServiceDescriptor, object]:
    """The service's descriptor with the handlers of this room; others have more of them."""
    return pb.DESCRIPTOR.services_by_name["WorkspaceService"], service
