"""UploadService: every RPC and the use case that serves it."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import AsyncIterator
from uuid import UUID

from google.api import httpbody_pb2
from moleculeai.upload.v1 import upload_pb2
from moleculeai.upload.v1 import upload_service_pb2 as pb

from molecule_grpc.db.pool import Pool, database_errors
from molecule_grpc.kernel.errors import Conflict, MoleculeError
from molecule_grpc.kernel.ids import parse_id
from molecule_grpc.server.call import ORIGINAL_PATH, Call
from molecule_grpc.settings.settings import Settings
from molecule_grpc.upload import refusals, rules
from molecule_grpc.upload.encoding import Encoder
from molecule_grpc.upload.forward import Answer, Forwarder
from molecule_grpc.upload.intake import patient, read_frames
from molecule_grpc.upload.multipart import read_multipart
from molecule_grpc.upload.ports import Announce, Wake
from molecule_grpc.upload.publishing import Publisher, facts
from molecule_grpc.upload.reading import UploadReads
from molecule_grpc.upload.resumable import Resumable
from molecule_grpc.upload.rules import Route
from molecule_grpc.upload.staging import Staging
from molecule_grpc.upload.store import targets
from molecule_grpc.upload.store.targets import Target
from molecule_grpc.upload.stores import Stores

_JSON = "application/json"
_FIRST_REFUSAL = 300


class UploadService:
    """Serves `moleculeai.upload.v1.UploadService`.

    Args:
        announce: puts notices of files into an inbox.
        wake: told who has news.
    """

    def __init__(
        self, *, pool: Pool, settings: Settings, stores: Stores, announce: Announce, wake: Wake
    ) -> None:
        self._pool = pool
        self._limits = rules.Limits(settings.upload.max_bytes)
        self._reading = UploadReads(pool, stores, settings)
        self._forwarder = Forwarder(pool, self._limits, settings)
        self._staging: Staging | None = None
        self._resumable: Resumable | None = None
        if blobs := stores.active:
            publisher = Publisher(pool, announce, wake, blobs.name, settings)
            self._staging = Staging(pool, blobs, publisher, self._limits)
            self._resumable = Resumable(pool, blobs, publisher, self._limits, settings)

    async def PostUploads(
        self, requests: AsyncIterator[pb.PostUploadsRequest], call: Call
    ) -> httpbody_pb2.HttpBody:
        requests = patient(requests)
        first = await anext(requests)
        target = await self._target(first.workspace_id)
        content_type = first.body.content_type
        pieces = _bodies(first, requests)
        if self._route(target) is Route.FORWARD:
            answer = await self._forwarder.send(target, content_type, pieces)
            return _passed_on(answer, call)
        request_id = first.request_id or call.metadata.get("idempotency-key", "")[:256]
        assert self._staging is not None
        events = read_multipart(content_type, pieces, self._limits)
        drafts = await self._staging.stage(target, request_id, events)
        files = [facts(target.id, draft) for draft in drafts]
        return httpbody_pb2.HttpBody(
            content_type=_JSON, data=json.dumps({"files": files}, separators=(",", ":")).encode()
        )

    async def StageUploads(
        self, requests: AsyncIterator[pb.StageUploadsRequest], call: Call
    ) -> pb.StageUploadsResponse:
        requests = patient(requests)
        begin = (await anext(requests)).begin
        target = await self._target(begin.workspace_id)
        events = read_frames(requests)
        if self._route(target) is Route.FORWARD:
            encoder = Encoder(self._limits)
            answer = await self._forwarder.send(
                target, encoder.content_type, encoder.encode(events)
            )
            return _told(answer)
        assert self._staging is not None
        drafts = await self._staging.stage(target, begin.request_id, events)
        return pb.StageUploadsResponse(
            files=[_uploaded(facts(target.id, draft)) for draft in drafts]
        )

    async def StartUpload(self, request: pb.StartUploadRequest, call: Call) -> upload_pb2.Upload:
        target = await self._target(request.workspace_id)
        return await self._in_steps(target).start(target, request)

    async def WriteUpload(
        self, requests: AsyncIterator[pb.WriteUploadRequest], call: Call
    ) -> upload_pb2.Upload:
        return await self._in_steps().write(patient(requests))

    async def CommitUpload(self, request: pb.CommitUploadRequest, call: Call) -> upload_pb2.Upload:
        target = await self._target(request.workspace_id)
        return await self._in_steps(target).commit(target, UUID(request.upload_id), request.sha256)

    async def GetUpload(self, request: pb.GetUploadRequest, call: Call) -> upload_pb2.Upload:
        return await self._in_steps().get(UUID(request.workspace_id), UUID(request.upload_id))

    async def ListPendingUploads(
        self, request: pb.ListPendingUploadsRequest, call: Call
    ) -> pb.ListPendingUploadsResponse:
        return await self._reading.list(request)

    def GetUploadContent(
        self, request: pb.GetUploadContentRequest, call: Call
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        return self._reading.content(request, call)

    async def AckUpload(self, request: pb.AckUploadRequest, call: Call) -> pb.AckUploadResponse:
        return await self._reading.ack(request)

    async def GetUploadLimits(
        self, request: pb.GetUploadLimitsRequest, call: Call
    ) -> pb.GetUploadLimitsResponse:
        return pb.GetUploadLimitsResponse(
            per_file_bytes=self._limits.per_file,
            per_request_bytes=self._limits.per_request,
            max_files_per_request=self._limits.files,
            max_attachments_per_message=rules.MAX_ATTACHMENTS,
        )

    async def DownloadFile(
        self, request: pb.DownloadFileRequest, call: Call
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        path = _asked_path(request, call)
        rules.check_download_path(path)
        target = await self._target(request.workspace_id)
        if rules.route(target.mode, target.url, staging=True) is Route.STAGE:
            raise refusals.no_way()
        self._route(target)
        async for body in self._forwarder.read(target, path, call):
            yield body

    async def _target(self, workspace_id: str) -> Target:
        wanted = parse_id(workspace_id, "workspace_id")
        with database_errors():
            found = await targets.find(self._pool, wanted)
        if found is None:
            raise refusals.no_workspace()
        return found

    def _route(self, target: Target) -> Route:
        """Stage or forward.

        Raises:
            Unavailable: URL_NOT_REGISTERED.
            Conflict: NO_DISPATCH_PATH.
        """
        route = rules.route(target.mode, target.url, staging=self._staging is not None)
        if refusal := _REFUSALS.get(route):
            raise refusal()
        return route

    def _in_steps(self, target: Target | None = None) -> Resumable:
        if target is not None and self._route(target) is Route.FORWARD:
            raise Conflict(
                "this agent can be called: send the files in one request", reason="NO_DISPATCH_PATH"
            )
        if self._resumable is None:
            raise refusals.no_way()
        return self._resumable


_REFUSALS = {Route.NOT_YET: refusals.not_yet, Route.NEVER: refusals.no_way}


def _asked_path(request: pb.DownloadFileRequest, call: Call) -> str:
    """The path as a form writes it: there a `+` is a blank, which the edge leaves as it is."""
    query = urllib.parse.urlsplit(call.metadata.get(ORIGINAL_PATH, "")).query
    return urllib.parse.parse_qs(query).get("path", [request.path])[-1]


async def _bodies(
    first: pb.PostUploadsRequest, rest: AsyncIterator[pb.PostUploadsRequest]
) -> AsyncIterator[bytes]:
    yield first.body.data
    async for request in rest:
        yield request.body.data


def _passed_on(answer: Answer, call: Call) -> httpbody_pb2.HttpBody:
    """An agent's answer as it is, for REST; gRPC has no other statuses than its own."""
    if call.rest:
        call.set_http_status(answer.status)
    elif answer.status >= _FIRST_REFUSAL:
        raise _refused(answer)
    return httpbody_pb2.HttpBody(content_type=answer.content_type or _JSON, data=answer.body)


def _told(answer: Answer) -> pb.StageUploadsResponse:
    """An agent's answer in our words."""
    if answer.status >= _FIRST_REFUSAL:
        raise _refused(answer)
    try:
        files = json.loads(answer.body)["files"]
        return pb.StageUploadsResponse(files=[_uploaded(file) for file in files])
    except (ValueError, TypeError, KeyError) as error:
        raise Conflict("the agent took the files, and its answer cannot be read") from error


def _refused(answer: Answer) -> MoleculeError:
    return Conflict(f"the agent refused the files with status {answer.status}")


def _uploaded(told: dict[str, object]) -> upload_pb2.UploadedFile:
    return upload_pb2.UploadedFile(
        uri=str(told["uri"]),
        name=str(told["name"]),
        mime_type=str(told["mimeType"]),
        size=int(str(told["size"])),
    )
