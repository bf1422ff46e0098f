"""Makes files visible to an agent: rows, bytes and notices in one transaction."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from uuid import UUID

import structlog

from molecule_grpc.db.pool import Connection, Pool, database_errors
from molecule_grpc.kernel.errors import Aborted
from molecule_grpc.quotas import Quotas
from molecule_grpc.settings.upload import UploadSettings
from molecule_grpc.upload.metrics import STAGED_BYTES, STAGED_FILES
from molecule_grpc.upload.ports import Announce, Check, FileNotice, Wake
from molecule_grpc.upload.refusals import no_workspace
from molecule_grpc.upload.store import targets, uploads
from molecule_grpc.upload.store.targets import UploadTarget
from molecule_grpc.upload.store.uploads import UploadDraft
from molecule_grpc.upload.values import UploadedFile

log = structlog.get_logger("molecule_grpc.upload")

Settle = Callable[[Connection], Awaitable[None]]


class Publisher:
    """Gives workspaces their files, within the quota.

    Args:
        storage: name of the store that holds the bytes.
    """

    def __init__(
        self,
        pool: Pool,
        announce: Announce,
        wake: Wake,
        storage: str,
        settings: UploadSettings,
        quotas: Quotas,
    ) -> None:
        self._pool = pool
        self._announce = announce
        self._wake = wake
        self._storage = storage
        self._ttl = timedelta(seconds=settings.ttl)
        self._files = quotas.upload_files
        self._bytes = quotas.upload_bytes

    async def publish(
        self,
        target: UploadTarget,
        drafts: Sequence[UploadDraft],
        request_id: str | None,
        settle: Settle,
        check: Check | None = None,
    ) -> list[UploadDraft]:
        """Make files visible to a workspace's agent, all or none.

        Args:
            request_id: names the request. When it brought its files before, those are returned.
            settle: gives the bytes their owner, in the transaction.
            check: asked right before the commit; what it raises rolls everything back.

        Raises:
            NotFound: the workspace was removed meanwhile.
            Aborted: IDEMPOTENCY_MISMATCH: the request brought other files before.
            Exhausted: UPLOAD_QUOTA_EXCEEDED or INBOX_FULL.
        """
        with database_errors():
            async with self._pool.acquire() as conn, conn.transaction():
                await uploads.lock(conn, target.id)
                if request_id and (known := await self._known(conn, target.id, request_id)):
                    require_same(known, drafts)
                    return known
                if not await targets.hold(conn, target.id):
                    raise no_workspace()
                await settle(conn)
                await self.require_room(conn, target.id, len(drafts), _bytes(drafts))
                await uploads.insert(
                    conn,
                    drafts,
                    workspace_id=target.id,
                    organization_id=target.organization_id,
                    storage=self._storage,
                    request_id=request_id,
                    ttl=self._ttl,
                )
                # Last, since the announcement locks the head of the inbox until the commit.
                await self._announce(conn, [_notice(target.id, draft) for draft in drafts])
                if check is not None:
                    check()
        self._wake([target.id])
        self._record(target.id, drafts)
        return list(drafts)

    async def known(self, workspace_id: UUID, request_id: str) -> list[UploadDraft]:
        """The files that a request brought before; none for a new one."""
        with database_errors():
            return await self._known(self._pool, workspace_id, request_id)

    async def require_room(
        self, conn: Connection | Pool, workspace_id: UUID, files: int, size: int
    ) -> None:
        """Raise unless so many more files and bytes fit. Acknowledged files make room.

        Raises:
            Exhausted: UPLOAD_QUOTA_EXCEEDED.
        """
        if await self._fits(conn, workspace_id, files, size):
            return
        await uploads.drop_acked(conn, workspace_id)
        if not await self._fits(conn, workspace_id, files, size):
            used = await uploads.usage(conn, workspace_id)
            full = self._files if self._files.exceeded(used.files, files) else self._bytes
            raise full.refusal(
                workspace_id,
                message=f"the workspace may have {self._files.limit} files and {self._bytes.limit} "
                "bytes waiting, and its agent has yet to fetch them",
                metadata={
                    "max_files": str(self._files.limit),
                    "max_bytes": str(self._bytes.limit),
                },
            )

    async def _fits(
        self, conn: Connection | Pool, workspace_id: UUID, files: int, size: int
    ) -> bool:
        used = await uploads.usage(conn, workspace_id)
        return not (
            self._files.exceeded(used.files, files) or self._bytes.exceeded(used.bytes, size)
        )

    async def _known(
        self, conn: Connection | Pool, workspace_id: UUID, request_id: str
    ) -> list[UploadDraft]:
        files = await uploads.of_request(conn, workspace_id, request_id)
        return [file.draft for file in files]

    def _record(self, workspace_id: UUID, drafts: Sequence[UploadDraft]) -> None:
        STAGED_FILES.inc(len(drafts))
        STAGED_BYTES.inc(_bytes(drafts))
        for draft in drafts:
            log.info(
                "upload staged",
                workspace_id=str(workspace_id),
                file_id=str(draft.file_id),
                name=draft.filename,
                size=draft.size,
                storage=self._storage,
            )


def require_same(known: Sequence[UploadDraft], again: Sequence[UploadDraft]) -> None:
    """Raise unless a repeat of a request brings the same names, types and bytes.

    Raises:
        Aborted: IDEMPOTENCY_MISMATCH.
    """
    if [draft.content for draft in known] != [draft.content for draft in again]:
        raise Aborted("this request id was used for other files", reason="IDEMPOTENCY_MISMATCH")


def uri(workspace_id: UUID, file_id: UUID) -> str:
    """What messages name a staged file by."""
    return f"platform-pending:{workspace_id}/{file_id}"


def uploaded_file(workspace_id: UUID, draft: UploadDraft) -> UploadedFile:
    """What the sender of a staged file is told of it."""
    return UploadedFile(
        uri(workspace_id, draft.file_id), draft.filename, draft.mimetype, draft.size
    )


def _notice(workspace_id: UUID, draft: UploadDraft) -> FileNotice:
    told = uploaded_file(workspace_id, draft)
    body = {"file_id": str(draft.file_id), **told.as_json()}
    return FileNotice(
        workspace_id=workspace_id,
        file_id=draft.file_id,
        summary=f"chat_upload_receive: {draft.filename}",
        body=json.dumps(body, separators=(",", ":")),
    )


def _bytes(drafts: Sequence[UploadDraft]) -> int:
    return sum(draft.size for draft in drafts)
