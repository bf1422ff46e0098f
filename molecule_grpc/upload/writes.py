"""Takes files from senders: stages them for an inbox, or forwards them to an agent's URL."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from uuid import UUID

from molecule_grpc.db.pool import Pool, database_errors
from molecule_grpc.upload import refusals, rules
from molecule_grpc.upload.forward import Forwarder, files_of
from molecule_grpc.upload.intake import FileEvent
from molecule_grpc.upload.multipart_reader import read_multipart
from molecule_grpc.upload.multipart_writer import MultipartWriter
from molecule_grpc.upload.ports import Check
from molecule_grpc.upload.resumable import ResumableUploads
from molecule_grpc.upload.rules import Route, UploadLimits
from molecule_grpc.upload.staging import Staging
from molecule_grpc.upload.store import targets
from molecule_grpc.upload.store.targets import UploadTarget
from molecule_grpc.upload.values import AgentAnswer, Download, UploadedFile, UploadProgress

_REFUSALS = {Route.NOT_YET: refusals.url_not_registered, Route.NEVER: refusals.no_route}


class UploadWrites:
    """Finds the way to a workspace, and sends files along it.

    Every method raises `NotFound` WORKSPACE_NOT_FOUND, `Unavailable` URL_NOT_REGISTERED or
    `Conflict` NO_DISPATCH_PATH where no way leads to the workspace.

    Args:
        staging: None when this installation stages no files; then `resumable` is None, too.
    """

    def __init__(
        self,
        pool: Pool,
        limits: UploadLimits,
        forwarder: Forwarder,
        staging: Staging | None,
        resumable: ResumableUploads | None,
    ) -> None:
        self.limits = limits
        self._pool = pool
        self._forwarder = forwarder
        self._staging = staging
        self._resumable = resumable

    async def post(
        self,
        workspace_id: UUID,
        content_type: str,
        pieces: AsyncIterator[bytes],
        *,
        request_id: str,
        check: Check,
    ) -> AgentAnswer | list[UploadedFile]:
        """Send the files of a multipart body. All of them arrive, or none.

        Args:
            content_type: of the body, with its boundary.
            request_id: a repeat with the same one is answered like the first; empty for none.
            check: asked right before the files become visible.

        Returns:
            The staged files, or the answer of an agent that can be called.

        Raises:
            Invalid: the body is malformed, or a limit is exceeded.
            Exhausted: RESOURCE_EXHAUSTED, UPLOAD_QUOTA_EXCEEDED or INBOX_FULL.
            Aborted: UPLOAD_STALLED or IDEMPOTENCY_MISMATCH.
            Unavailable: AGENT_UNREACHABLE, or a store or the database is away.
        """
        target = await self._target(workspace_id)
        if (staging := self._staging_for(target)) is None:
            return await self._forwarder.send(target, content_type, pieces)
        events = read_multipart(content_type, pieces, self.limits)
        return await staging.stage(target, request_id, events, check)

    async def stage(
        self,
        workspace_id: UUID,
        events: AsyncIterator[FileEvent],
        *,
        request_id: str,
        check: Check,
    ) -> list[UploadedFile]:
        """Send files. All of them arrive, or none. Arguments and errors as for `post`.

        Raises:
            Conflict: an agent that can be called refused the files, or its answer is unreadable.
        """
        target = await self._target(workspace_id)
        if (staging := self._staging_for(target)) is None:
            writer = MultipartWriter(self.limits)
            body = writer.encode(events)
            return files_of(await self._forwarder.send(target, writer.content_type, body))
        return await staging.stage(target, request_id, events, check)

    async def start(
        self, workspace_id: UUID, name: str, mime_type: str, size: int, *, request_id: str
    ) -> UploadProgress:
        """Begin a file of `size` bytes that is written in several requests.

        Raises:
            Invalid: FILE_TOO_LARGE.
            Exhausted: UPLOAD_QUOTA_EXCEEDED.
            Aborted: IDEMPOTENCY_MISMATCH.
        """
        target = await self._target(workspace_id)
        if self._staging_for(target) is None:
            raise refusals.one_request_only()
        return await self._steps().start(target, name, mime_type, size, request_id)

    async def write(
        self,
        workspace_id: UUID,
        upload_id: UUID,
        offset: int,
        pieces: AsyncIterator[bytes],
        *,
        check: Check,
    ) -> UploadProgress:
        """Add bytes at `offset`, where the stored ones end.

        Raises:
            NotFound: UPLOAD_NOT_FOUND.
            Aborted: OFFSET_MISMATCH or UPLOAD_STALLED.
            Invalid: more bytes than announced.
        """
        return await self._steps().write(workspace_id, upload_id, offset, pieces, check)

    async def commit(
        self, workspace_id: UUID, upload_id: UUID, sha256: str, *, check: Check
    ) -> UploadProgress:
        """Make a file visible, once all its bytes are stored.

        Args:
            sha256: 64 hexadecimal digits, in either case.
            check: asked right before the file becomes visible.

        Raises:
            NotFound: UPLOAD_NOT_FOUND.
            Aborted: UPLOAD_INCOMPLETE.
            Invalid: CHECKSUM_MISMATCH; the upload is void then.
            Exhausted: UPLOAD_QUOTA_EXCEEDED or INBOX_FULL.
        """
        target = await self._target(workspace_id)
        if self._staging_for(target) is None:
            raise refusals.one_request_only()
        return await self._steps().commit(target, upload_id, sha256, check)

    async def progress(self, workspace_id: UUID, upload_id: UUID) -> UploadProgress:
        """How far an upload is.

        Raises:
            NotFound: UPLOAD_NOT_FOUND.
        """
        return await self._steps().progress(workspace_id, upload_id)

    @contextlib.asynccontextmanager
    async def open_agent_file(self, workspace_id: UUID, path: str) -> AsyncIterator[Download]:
        """A file of an agent that can be called, readable while inside.

        Raises:
            Invalid: URL_NOT_ALLOWED or BODY_TOO_LARGE.
            NotFound: the agent has no such file.
            Unavailable: AGENT_UNREACHABLE or INBOUND_SECRET_PENDING.
        """
        target = await self._target(workspace_id)
        # An agent that reads its inbox is not called, even where this installation stages nothing.
        if rules.route(target.mode, target.url, staging=True) is Route.STAGE:
            raise refusals.no_route()
        self._staging_for(target)
        async with self._forwarder.open(target, path) as download:
            yield download

    async def _target(self, workspace_id: UUID) -> UploadTarget:
        with database_errors():
            found = await targets.find(self._pool, workspace_id)
        if found is None:
            raise refusals.no_workspace()
        return found

    def _staging_for(self, target: UploadTarget) -> Staging | None:
        """Who stages files for this workspace; None where they are forwarded."""
        route = rules.route(target.mode, target.url, staging=self._staging is not None)
        if refusal := _REFUSALS.get(route):
            raise refusal()
        return self._staging if route is Route.STAGE else None

    def _steps(self) -> ResumableUploads:
        if self._resumable is None:
            raise refusals.no_route()
        return self._resumable
