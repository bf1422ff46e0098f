"""Between this slice's protos and its values."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence

from google.api import httpbody_pb2
from moleculeai.upload.v1 import upload_pb2
from moleculeai.upload.v1 import upload_service_pb2 as pb

from molecule_grpc.kernel.errors import Invalid
from molecule_grpc.kernel.protos import timestamp
from molecule_grpc.server.call import Call
from molecule_grpc.upload import refusals
from molecule_grpc.upload.intake import FileEvent, FileHead
from molecule_grpc.upload.publishing import uri
from molecule_grpc.upload.store.uploads import StoredFile
from molecule_grpc.upload.values import (
    AgentAnswer,
    Conditions,
    Download,
    UploadedFile,
    UploadProgress,
)

_JSON = "application/json"
_FIRST_REFUSAL = 300


async def body_pieces(
    first: httpbody_pb2.HttpBody,
    rest: AsyncIterator[pb.PostUploadsRequest] | AsyncIterator[pb.WriteUploadRequest],
) -> AsyncIterator[bytes]:
    """The bytes of a body whose first piece was read already."""
    yield first.data
    async for request in rest:
        yield request.body.data


async def file_events(requests: AsyncIterator[pb.StageUploadsRequest]) -> AsyncIterator[FileEvent]:
    """The files of a typed stream, after its `begin` frame.

    Raises:
        Invalid: a frame other than `file` comes first, or `begin` comes again.
    """
    opened = False
    async for request in requests:
        match request.WhichOneof("frame"):
            case "file":
                opened = True
                file = request.file
                size = file.size if file.HasField("size") else None
                yield FileHead(file.name, file.mime_type, size, file.sha256.lower())
            case "chunk" if opened:
                yield request.chunk
            case _:
                raise Invalid("a file frame must come before its chunks", field="frame")


def agent_body(answer: AgentAnswer, call: Call) -> httpbody_pb2.HttpBody:
    """An agent's answer, passed on: REST callers get its status too.

    Raises:
        Conflict: the agent refused, and the call is gRPC, which cannot carry its status.
    """
    if call.rest:
        call.set_http_status(answer.status)
    elif answer.status >= _FIRST_REFUSAL:
        raise refusals.refused_by_agent(answer.status)
    return httpbody_pb2.HttpBody(content_type=answer.content_type or _JSON, data=answer.body)


def files_body(files: Sequence[UploadedFile]) -> httpbody_pb2.HttpBody:
    """Files as REST clients read them: `{"files":[{uri,name,mimeType,size}]}`."""
    told = {"files": [file.as_json() for file in files]}
    return httpbody_pb2.HttpBody(
        content_type=_JSON, data=json.dumps(told, separators=(",", ":")).encode()
    )


def uploaded_file(file: UploadedFile) -> upload_pb2.UploadedFile:
    """The proto for the sender of a file."""
    return upload_pb2.UploadedFile(
        uri=file.uri, name=file.name, mime_type=file.mime_type, size=file.size
    )


def upload(progress: UploadProgress) -> upload_pb2.Upload:
    """The proto of an upload in several requests."""
    return upload_pb2.Upload(
        upload_id=str(progress.upload_id),
        name=progress.name,
        size=progress.size,
        committed_bytes=progress.committed_bytes,
        expires_at=timestamp(progress.expires_at),
        file=uploaded_file(progress.file) if progress.file is not None else None,
    )


def pending_upload(file: StoredFile) -> upload_pb2.PendingUpload:
    """The proto for the agent that a file waits for."""
    return upload_pb2.PendingUpload(
        file_id=str(file.file_id),
        workspace_id=str(file.workspace_id),
        uri=uri(file.workspace_id, file.file_id),
        name=file.filename,
        mime_type=file.mimetype,
        size=file.size,
        sha256=file.sha256.hex(),
        created_at=timestamp(file.created_at),
        fetched_at=timestamp(file.fetched_at),
        expires_at=timestamp(file.expires_at),
    )


def apply_headers(download: Download, call: Call) -> None:
    """Give the response the headers and, for REST, the status of a download."""
    call.headers |= download.headers
    if download.http_status is not None and call.rest:
        call.set_http_status(download.http_status)


def conditions(call: Call) -> Conditions:
    """What a REST client's headers ask of a download."""
    metadata = call.metadata
    return Conditions(
        head=call.head,
        byte_range=metadata.get("range", ""),
        if_range=metadata.get("if-range"),
        if_match=metadata.get("if-match"),
        if_none_match=metadata.get("if-none-match"),
    )


def body(download: Download, piece: bytes) -> httpbody_pb2.HttpBody:
    """One message of a download."""
    return httpbody_pb2.HttpBody(content_type=download.content_type, data=piece)
