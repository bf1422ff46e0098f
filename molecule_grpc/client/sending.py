"""Sends files to a workspace."""

from __future__ import annotations

import asyncio
import mimetypes
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import grpc
from moleculeai.upload.v1 import upload_pb2
from moleculeai.upload.v1 import upload_service_pb2 as pb

from molecule_grpc.client.connection import Connection
from molecule_grpc.client.errors import CallError, to_call_error
from molecule_grpc.client.final_status import FinalStatus
from molecule_grpc.client.retry import with_retries

_CHUNK_BYTES = 256 * 1024
# The agent is down or does not keep up: no wait of seconds helps, and the sender shall know.
_NOT_NOW = (
    "AGENT_UNREACHABLE",
    "INBOUND_SECRET_PENDING",
    "INBOX_FULL",
    "UPLOAD_QUOTA_EXCEEDED",
    "URL_NOT_REGISTERED",
)

Progress = Callable[[int], None]


def _ignore(sent: int) -> None:
    """The progress callback of callers that show none."""


async def send_files(
    connection: Connection,
    workspace_id: str,
    paths: Sequence[Path],
    *,
    request_id: str = "",
    timeout: float = 600.0,
    progress: Progress = _ignore,
) -> list[upload_pb2.UploadedFile]:
    """Send files, all or none. A broken connection is tried again, and makes no second set.

    Args:
        paths: at most 64 files, each at most 25 MiB by default (GetUploadLimits tells).
        request_id: names the request, at most 256 bytes: a repeat with the same files is answered
            like the first. Empty for a new one.
        timeout: seconds for all attempts together.
        progress: called with the number of bytes sent so far, of all files together.

    Raises:
        CallError: the files were refused, or the platform could not be reached.
        OSError: a file cannot be read.
    """
    begin = pb.StageUploadsRequest.Begin(
        workspace_id=workspace_id, request_id=request_id or str(uuid.uuid4())
    )

    async def attempt(left: float) -> list[upload_pb2.UploadedFile]:
        failures: list[OSError] = []
        call = connection.uploads.StageUploads(
            _frames(begin, paths, progress, failures), metadata=connection.metadata, timeout=left
        )
        status = FinalStatus(call)
        try:
            return list((await call).files)
        except (grpc.aio.AioRpcError, asyncio.CancelledError) as error:
            if failures:
                raise failures[0] from None
            if isinstance(error, asyncio.CancelledError):
                raise
            raise _final_or_not(to_call_error(await status.of(error))) from error

    try:
        return await with_retries(attempt, timeout)
    except _Final as final:
        raise final.error from final


class _Final(Exception):
    """Wraps a retryable error so that `with_retries` gives up at once."""

    def __init__(self, error: CallError) -> None:
        super().__init__(str(error))
        self.error = error


def _final_or_not(error: CallError) -> Exception:
    return _Final(error) if error.reason in _NOT_NOW else error


async def _frames(
    begin: pb.StageUploadsRequest.Begin,
    paths: Sequence[Path],
    progress: Progress,
    failures: list[OSError],
) -> AsyncIterator[pb.StageUploadsRequest]:
    sent = 0
    progress(sent)
    yield pb.StageUploadsRequest(begin=begin)
    try:
        for path in paths:
            kind, _ = mimetypes.guess_type(path.name)
            with path.open("rb") as file:
                size = path.stat().st_size
                yield pb.StageUploadsRequest(
                    file=pb.StageUploadsRequest.File(
                        name=path.name, mime_type=kind or "", size=size
                    )
                )
                while data := await asyncio.to_thread(file.read, _CHUNK_BYTES):
                    yield pb.StageUploadsRequest(chunk=data)
                    sent += len(data)
                    progress(sent)
    except OSError as error:
        # gRPC reports an error in the request iterator as a broken stream, without its cause.
        failures.append(error)
        raise
