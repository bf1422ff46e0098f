"""Between the protos of files and logs and the values of this room."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Final

from google.api import httpbody_pb2
from moleculeai.workspace.v1 import access_pb2
from moleculeai.workspace.v1 import workspace_service_pb2 as pb

from molecule_grpc.backends.access import log_stream, refusals, terminals
from molecule_grpc.backends.access.usage import Measured
from molecule_grpc.backends.contract.entering import ExecOutput, FileEntry, TerminalSize
from molecule_grpc.kernel.errors import Invalid
from molecule_grpc.kernel.protos import timestamp
from molecule_grpc.server.status import CallFailure
from molecule_grpc.server.streams import StreamGuard

BYTES: Final = "application/octet-stream"
_JSON: Final = "application/json"
_IDLE_SECONDS: Final = 60.0
MAX_JSON_BYTES: Final = 4 * 1024 * 1024


def workspace_file(entry: FileEntry) -> access_pb2.WorkspaceFile:
    """A row of a list."""
    return access_pb2.WorkspaceFile(
        path=entry.path,
        size=entry.size,
        dir=entry.directory,
        modified_at=timestamp(entry.modified_at),
    )


def text_body(path: str, text: str, size: int) -> httpbody_pb2.HttpBody:
    """A file as REST clients read it: `{"path","content","size"}`."""
    told = {"path": path, "content": text, "size": size}
    data = json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()
    return httpbody_pb2.HttpBody(content_type=_JSON, data=data)


def is_json(content_type: str) -> bool:
    """Whether a body is JSON by its media type."""
    return content_type.partition(";")[0].strip().lower() == _JSON


def content_of(body: bytes) -> bytes:
    """The content of a file in a body `{"content": "…"}`.

    Raises:
        Invalid: the body is no such JSON; names `content`.
    """
    try:
        content = json.loads(body)["content"]
        encoded: bytes = content.encode()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Invalid(
            'the body must be {"content": "the text of the file"}, or have another content type',
            field="content",
        ) from None
    return encoded


async def bytes_sent(
    first: pb.WriteWorkspaceFileRequest,
    rest: AsyncIterator[pb.WriteWorkspaceFileRequest],
    guard: StreamGuard,
) -> AsyncIterator[bytes]:
    """What a client sends, until it has sent the last byte.

    Raises:
        Unauthenticated: the token was revoked.
        Aborted: UPLOAD_STALLED: nothing came for 60 s.
    """
    yield first.body.data
    while True:
        try:
            request = await guard.receive(rest, _IDLE_SECONDS)
        except TimeoutError:
            raise refusals.stalled() from None
        if request is None:
            return
        yield request.body.data


def log_frame(frame: log_stream.Frame) -> pb.WatchWorkspaceLogsResponse:
    """A frame of a stream of logs."""
    match frame:
        case log_stream.Printed(text, place):
            chunk = access_pb2.LogChunk(text=text, resume_token=str(place) if place else "")
            return pb.WatchWorkspaceLogsResponse(chunk=chunk)
        case log_stream.Drain(milliseconds):
            drain = access_pb2.AccessDrain(reconnect_after_ms=milliseconds)
            return pb.WatchWorkspaceLogsResponse(drain=drain)
    return pb.WatchWorkspaceLogsResponse(beat=beat())


async def client_frames(
    requests: AsyncIterator[pb.ExecWorkspaceRequest],
) -> AsyncIterator[terminals.ClientFrame]:
    """The frames that a client sends after Start.

    Raises:
        Invalid: it sends a second Start.
    """
    async for request in requests:
        match request.WhichOneof("frame"):
            case "input":
                yield terminals.Typed(request.input)
            case "end_input":
                yield terminals.EndOfInput()
            case "resize":
                yield size_of(request.resize)
            case "signal":
                yield terminals.Signal(request.signal)
            case _:
                raise Invalid("only the first frame may be a start", field="frame")


def size_of(size: access_pb2.TerminalSize) -> TerminalSize:
    """The size of a terminal."""
    return TerminalSize(columns=size.columns, rows=size.rows)


def argv_of(start: pb.ExecWorkspaceRequest.Start) -> list[str]:
    """A command line.

    Raises:
        Invalid: a word holds NUL, which no program can be given.
    """
    if any("\0" in word for word in start.argv):
        raise Invalid("argv must hold no NUL", field="start.argv")
    return list(start.argv)


def exec_frame(frame: terminals.Frame) -> pb.ExecWorkspaceResponse:
    """A frame of a command."""
    match frame:
        case terminals.Started():
            return pb.ExecWorkspaceResponse(started=pb.ExecWorkspaceResponse.Started())
        case terminals.Exited(code):
            return pb.ExecWorkspaceResponse(exited=pb.ExecWorkspaceResponse.Exited(exit_code=code))
        case ExecOutput(data, error):
            if error:
                return pb.ExecWorkspaceResponse(error=data)
            return pb.ExecWorkspaceResponse(output=data)
    return pb.ExecWorkspaceResponse(beat=beat())


def exec_end(failure: CallFailure) -> pb.ExecWorkspaceResponse:
    """The last frame of a command whose stream failed."""
    return pb.ExecWorkspaceResponse(end=end(failure))


def stats(measured: Measured) -> access_pb2.WorkspaceStats:
    """What a workload uses, or why that is not known."""
    made = access_pb2.WorkspaceStats(
        workspace_id=str(measured.workspace.id),
        name=measured.workspace.name,
        error=measured.error,
    )
    if (usage := measured.usage) is not None:
        made.cpu = usage.cpu
        made.memory_bytes = usage.memory_bytes
        made.memory_limit_bytes = usage.memory_limit_bytes
        made.pids = usage.pids
    return made


def beat() -> access_pb2.AccessBeat:
    """A sign of life."""
    made = access_pb2.AccessBeat()
    made.server_time.GetCurrentTime()
    return made


def end(failure: CallFailure) -> access_pb2.AccessEnd:
    """How the server ends a stream."""
    return access_pb2.AccessEnd(
        code=int(failure.code), reason=failure.reason, message=failure.message
    )


def log_end(failure: CallFailure) -> pb.WatchWorkspaceLogsResponse:
    """The last frame of a stream of logs that failed."""
    return pb.WatchWorkspaceLogsResponse(end=end(failure))
