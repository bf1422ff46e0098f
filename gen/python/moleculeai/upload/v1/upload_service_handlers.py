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
    """UploadService stages files for agents that read their inbox, and forwards them to agents that
    can be called. Each staged file is announced by an inbox item of method `chat_upload_receive`.
    """

    async def PostUploads(
        self,
        requests: AsyncIterator[upload_service_pb2.PostUploadsRequest],
        call: Call,
    ) -> httpbody_pb2.HttpBody:
        """PostUploads takes files as a browser sends them: multipart/form-data, field `files`, at most 64
        files, within the limits that GetUploadLimits tells. All of them arrive, or none.

        The answer is `{"files":[{uri,name,mimeType,size}]}` in the order of the request. For an agent
        that can be called it is the agent's own answer. A repeat with the same Idempotency-Key is
        answered like the first. Fails with FILE_TOO_LARGE (413), UPLOAD_QUOTA_EXCEEDED (429),
        URL_NOT_REGISTERED (503: try again) or NO_DISPATCH_PATH (422: no retry will help).
        """
        ...

    async def StageUploads(
        self,
        requests: AsyncIterator[upload_service_pb2.StageUploadsRequest],
        call: Call,
    ) -> upload_service_pb2.StageUploadsResponse:
        """StageUploads is PostUploads for gRPC clients: `begin`, then for each file a `file` frame and its
        bytes in `chunk` frames. All of them arrive, or none. For an agent that can be called the files
        are sent on to it.
        """
        ...

    async def StartUpload(
        self,
        request: upload_service_pb2.StartUploadRequest,
        call: Call,
    ) -> upload_pb2.Upload:
        """StartUpload begins a file that is written in several steps, so that a broken connection costs
        only what was on its way. For agents that read their inbox. A repeat with the same `request_id`
        finds the same upload.
        """
        ...

    async def WriteUpload(
        self,
        requests: AsyncIterator[upload_service_pb2.WriteUploadRequest],
        call: Call,
    ) -> upload_pb2.Upload:
        """WriteUpload adds bytes at `offset`, which must be `committed_bytes`, or fails with
        OFFSET_MISMATCH (409). The offset and ids are read from the first message. What arrived before
        a broken connection stays.
        """
        ...

    async def CommitUpload(
        self,
        request: upload_service_pb2.CommitUploadRequest,
        call: Call,
    ) -> upload_pb2.Upload:
        """CommitUpload announces the file to its agent, once all its bytes are there. Fails with
        UPLOAD_INCOMPLETE (409), or CHECKSUM_MISMATCH (400) and then the upload is void. Repeating it
        is harmless.
        """
        ...

    async def GetUpload(
        self,
        request: upload_service_pb2.GetUploadRequest,
        call: Call,
    ) -> upload_pb2.Upload:
        """GetUpload tells how far an upload is: resume at `committed_bytes`."""
        ...

    async def ListPendingUploads(
        self,
        request: upload_service_pb2.ListPendingUploadsRequest,
        call: Call,
    ) -> upload_service_pb2.ListPendingUploadsResponse:
        """ListPendingUploads lists the files that wait for a workspace's agent, oldest first."""
        ...

    def GetUploadContent(
        self,
        request: upload_service_pb2.GetUploadContentRequest,
        call: Call,
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        """GetUploadContent reads a file, or the part of it that `offset` and `length` or a Range header
        name. UPLOAD_NOT_FOUND for a file that is unknown, another workspace's, acknowledged or expired.
        """
        ...

    async def AckUpload(
        self,
        request: upload_service_pb2.AckUploadRequest,
        call: Call,
    ) -> upload_service_pb2.AckUploadResponse:
        """AckUpload says that the agent has the file safely. From then on it is not readable, and soon
        gone. Repeating it is harmless: the first time counts.
        """
        ...

    async def GetUploadLimits(
        self,
        request: upload_service_pb2.GetUploadLimitsRequest,
        call: Call,
    ) -> upload_service_pb2.GetUploadLimitsResponse:
        """GetUploadLimits tells what may be uploaded, so that a client can check before it sends."""
        ...

    def DownloadFile(
        self,
        request: upload_service_pb2.DownloadFileRequest,
        call: Call,
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        """DownloadFile reads a file of an agent that can be called, at most 100 MB. NO_DISPATCH_PATH (422)
        for an agent that reads its inbox, AGENT_UNREACHABLE (502) for one that does not answer.
        """
        ...
