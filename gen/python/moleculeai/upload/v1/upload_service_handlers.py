"""Generated from moleculeai/upload/v1/upload_service.proto by tools/protoc_gen_handlers.py: do not edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from google.api import httpbody_pb2
    from moleculeai.upload.v1 import upload_pb2
    from moleculeai.upload.v1 import upload_service_pb2

    from molecule_grpc.server.call import Call


class UploadServiceHandlers(Protocol):
    """UploadService stages files for agents in poll mode and forwards files to agents in push mode. Each
    staged file is announced by an inbox item of method `chat_upload_receive`.
    """

    async def PostUploads(
        self,
        requests: AsyncIterator[upload_service_pb2.PostUploadsRequest],
        call: Call,
    ) -> httpbody_pb2.HttpBody:
        """PostUploads accepts files in a browser's form: multipart/form-data, field `files`, at most 64
        files, within the limits of GetUploadLimits. Either all files are accepted or none.

        The response is `{"files":[{uri,name,mimeType,size}]}` in the order of the request; for an agent
        in push mode, the agent's own response. A repeat with the same Idempotency-Key gets the first
        response again. Fails with FILE_TOO_LARGE (413), UPLOAD_QUOTA_EXCEEDED (429),
        URL_NOT_REGISTERED (503: try again) or NO_DISPATCH_PATH (422: no retry will help).
        """
        ...

    async def StageUploads(
        self,
        requests: AsyncIterator[upload_service_pb2.StageUploadsRequest],
        call: Call,
    ) -> upload_service_pb2.StageUploadsResponse:
        """StageUploads is PostUploads for gRPC clients: `begin`, then for each file a `file` frame and the
        bytes in `chunk` frames. Either all files are accepted or none. Files for an agent in push mode
        are forwarded.
        """
        ...

    async def StartUpload(
        self,
        request: upload_service_pb2.StartUploadRequest,
        call: Call,
    ) -> upload_pb2.Upload:
        """StartUpload begins a file written in several steps, so that a broken connection loses only the
        bytes in flight. For agents in poll mode only. A repeat with the same `request_id` returns the
        same upload.
        """
        ...

    async def WriteUpload(
        self,
        requests: AsyncIterator[upload_service_pb2.WriteUploadRequest],
        call: Call,
    ) -> upload_pb2.Upload:
        """WriteUpload appends bytes. Fails with OFFSET_MISMATCH (409) unless `offset` equals
        `committed_bytes`. The offset and ids are read from the first message. Bytes received before a
        broken connection are kept.
        """
        ...

    async def CommitUpload(
        self,
        request: upload_service_pb2.CommitUploadRequest,
        call: Call,
    ) -> upload_pb2.Upload:
        """CommitUpload completes an upload and announces the file to its agent. Fails with
        UPLOAD_INCOMPLETE (409) while bytes are missing, and with CHECKSUM_MISMATCH (400), which voids
        the upload. Repeating a call is harmless.
        """
        ...

    async def GetUpload(
        self,
        request: upload_service_pb2.GetUploadRequest,
        call: Call,
    ) -> upload_pb2.Upload:
        """GetUpload returns the state of an upload: resume at `committed_bytes`."""
        ...

    async def ListPendingUploads(
        self,
        request: upload_service_pb2.ListPendingUploadsRequest,
        call: Call,
    ) -> upload_service_pb2.ListPendingUploadsResponse:
        """ListPendingUploads lists the files waiting for a workspace's agent, oldest first. If there are
        more, the response header `x-next-page-token` carries the token of the next page.
        """
        ...

    def GetUploadContent(
        self,
        request: upload_service_pb2.GetUploadContentRequest,
        call: Call,
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        """GetUploadContent reads a file, or the range named by `offset` and `length` or by a Range header.
        Fails with UPLOAD_NOT_FOUND if the file is unknown, of another workspace, acknowledged or expired.
        """
        ...

    async def AckUpload(
        self,
        request: upload_service_pb2.AckUploadRequest,
        call: Call,
    ) -> upload_service_pb2.AckUploadResponse:
        """AckUpload confirms that the agent has stored the file. The file is no longer readable and is
        deleted soon. Repeating a call is harmless.
        """
        ...

    async def GetUploadLimits(
        self,
        request: upload_service_pb2.GetUploadLimitsRequest,
        call: Call,
    ) -> upload_service_pb2.GetUploadLimitsResponse:
        """GetUploadLimits returns the limits of uploads, for checks before sending."""
        ...

    def DownloadFile(
        self,
        request: upload_service_pb2.DownloadFileRequest,
        call: Call,
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        """DownloadFile reads a file of an agent in push mode, at most 100 MB. Fails with NO_DISPATCH_PATH
        (422) for an agent in poll mode, and with AGENT_UNREACHABLE (502) if the agent does not answer.
        """
        ...
