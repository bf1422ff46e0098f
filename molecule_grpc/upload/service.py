"""UploadService: every RPC, converted to the use case that serves it and back."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from uuid import UUID

from google.api import httpbody_pb2
from google.protobuf.descriptor import ServiceDescriptor
from moleculeai.upload.v1 import upload_pb2
from moleculeai.upload.v1 import upload_service_pb2 as pb
from moleculeai.upload.v1.upload_service_handlers import UploadServiceHandlers

from molecule_grpc.db.wakeups import Flag
from molecule_grpc.kernel.errors import Invalid
from molecule_grpc.kernel.ids import identifier, parse_id
from molecule_grpc.server.call import Call
from molecule_grpc.server.streams import StreamGuard, StreamGuards
from molecule_grpc.upload import convert, rules
from molecule_grpc.upload.intake import received
from molecule_grpc.upload.reads import UploadReads
from molecule_grpc.upload.values import AgentAnswer, Download
from molecule_grpc.upload.writes import UploadWrites

_REQUEST_ID_BYTES = 256


class UploadService:
    """Serves `moleculeai.upload.v1.UploadService`."""

    def __init__(self, writes: UploadWrites, reads: UploadReads, guards: StreamGuards) -> None:
        self._writes = writes
        self._reads = reads
        self._guards = guards

    async def PostUploads(
        self, requests: AsyncIterator[pb.PostUploadsRequest], call: Call
    ) -> httpbody_pb2.HttpBody:
        first = await anext(requests)
        workspace_id = parse_id(first.workspace_id, "workspace_id")
        async with self._guarded(workspace_id, call) as guard:
            answer = await self._writes.post(
                workspace_id,
                first.body.content_type,
                convert.body_pieces(first.body, received(requests, guard)),
                request_id=_request_id(
                    first.request_id or call.metadata.get("idempotency-key", "")
                ),
                check=guard.check,
            )
        if isinstance(answer, AgentAnswer):
            return convert.agent_body(answer, call)
        return convert.files_body(answer)

    async def StageUploads(
        self, requests: AsyncIterator[pb.StageUploadsRequest], call: Call
    ) -> pb.StageUploadsResponse:
        begin = (await anext(requests)).begin
        workspace_id = parse_id(begin.workspace_id, "workspace_id")
        async with self._guarded(workspace_id, call) as guard:
            files = await self._writes.stage(
                workspace_id,
                convert.file_events(received(requests, guard)),
                request_id=_request_id(begin.request_id),
                check=guard.check,
            )
        return pb.StageUploadsResponse(files=[convert.uploaded_file(file) for file in files])

    async def StartUpload(self, request: pb.StartUploadRequest, call: Call) -> upload_pb2.Upload:
        progress = await self._writes.start(
            parse_id(request.workspace_id, "workspace_id"),
            request.name,
            request.mime_type,
            request.size,
            request_id=_request_id(request.request_id),
        )
        return convert.upload(progress)

    async def WriteUpload(
        self, requests: AsyncIterator[pb.WriteUploadRequest], call: Call
    ) -> upload_pb2.Upload:
        first = await anext(requests)
        workspace_id = parse_id(first.workspace_id, "workspace_id")
        upload_id = parse_id(first.upload_id, "upload_id")
        async with self._guarded(workspace_id, call) as guard:
            progress = await self._writes.write(
                workspace_id,
                upload_id,
                first.offset,
                convert.body_pieces(first.body, received(requests, guard)),
                check=guard.check,
            )
        return convert.upload(progress)

    async def CommitUpload(self, request: pb.CommitUploadRequest, call: Call) -> upload_pb2.Upload:
        workspace_id = parse_id(request.workspace_id, "workspace_id")
        async with self._guarded(workspace_id, call) as guard:
            progress = await self._writes.commit(
                workspace_id, UUID(request.upload_id), request.sha256, check=guard.check
            )
        return convert.upload(progress)

    async def GetUpload(self, request: pb.GetUploadRequest, call: Call) -> upload_pb2.Upload:
        progress = await self._writes.progress(UUID(request.workspace_id), UUID(request.upload_id))
        return convert.upload(progress)

    async def ListPendingUploads(
        self, request: pb.ListPendingUploadsRequest, call: Call
    ) -> pb.ListPendingUploadsResponse:
        page = await self._reads.waiting(
            UUID(request.workspace_id), limit=request.limit, page_token=request.page_token
        )
        if page.last is not None:
            call.headers["x-next-page-token"] = self._reads.token_after(page.last)
        return pb.ListPendingUploadsResponse(
            files=[convert.pending_upload(file) for file in page.rows]
        )

    async def GetUploadContent(
        self, request: pb.GetUploadContentRequest, call: Call
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        workspace_id = UUID(request.workspace_id)
        with self._guards.watch(Flag(workspace_id), call) as guard:
            async with guard.interruptible():
                download = await self._reads.open(
                    workspace_id,
                    UUID(request.file_id),
                    offset=request.offset,
                    length=request.length,
                    conditions=convert.conditions(call),
                )
            async with contextlib.aclosing(_bodies(download, call, guard)) as bodies:
                async for body in bodies:
                    yield body

    async def AckUpload(self, request: pb.AckUploadRequest, call: Call) -> pb.AckUploadResponse:
        met = await self._reads.ack(UUID(request.workspace_id), UUID(request.file_id))
        # Absent rather than false where nothing raced.
        return pb.AckUploadResponse(
            acked=True, already_acked=met.already_acked, raced=met.raced or None
        )

    async def GetUploadLimits(
        self, request: pb.GetUploadLimitsRequest, call: Call
    ) -> pb.GetUploadLimitsResponse:
        limits = self._writes.limits
        return pb.GetUploadLimitsResponse(
            per_file_bytes=limits.per_file,
            per_request_bytes=limits.per_request,
            max_files_per_request=limits.files,
            max_attachments_per_message=rules.MAX_ATTACHMENTS,
        )

    async def DownloadFile(
        self, request: pb.DownloadFileRequest, call: Call
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        path = request.path
        rules.check_download_path(path)
        workspace_id = parse_id(request.workspace_id, "workspace_id")
        with self._guards.watch(Flag(workspace_id), call) as guard:
            async with contextlib.AsyncExitStack() as stack:
                async with guard.interruptible():
                    download = await stack.enter_async_context(
                        self._writes.open_agent_file(workspace_id, path)
                    )
                async with contextlib.aclosing(_bodies(download, call, guard)) as bodies:
                    async for body in bodies:
                        yield body

    @contextlib.asynccontextmanager
    async def _guarded(self, workspace_id: UUID, call: Call) -> AsyncIterator[StreamGuard]:
        """An upload: a revocation of its token ends whatever is awaited inside."""
        with self._guards.watch(Flag(workspace_id), call) as guard:
            async with guard.interruptible():
                yield guard


async def _bodies(
    download: Download, call: Call, guard: StreamGuard
) -> AsyncGenerator[httpbody_pb2.HttpBody, None]:
    """The pieces of a file as responses, with its headers before the first one."""
    convert.apply_headers(download, call)
    async with (
        contextlib.aclosing(download.pieces) as pieces,
        contextlib.aclosing(guard.each(pieces)) as guarded,
    ):
        async for piece in guarded:
            yield convert.body(download, piece)


def _request_id(text: str) -> str:
    """What makes a repeat safe, from a field or from the Idempotency-Key header."""
    if len(identifier(text, "request_id").encode()) > _REQUEST_ID_BYTES:
        raise Invalid(f"request_id must be at most {_REQUEST_ID_BYTES} bytes", field="request_id")
    return text


def handlers(service: UploadServiceHandlers) -> tuple[ServiceDescriptor, object]:
    """The service with its descriptor. An RPC without a handler is a type error where called."""
    return pb.DESCRIPTOR.services_by_name["UploadService"], service
