"""The upload slice on a real database without a host."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import asyncpg
import httpx
from google.api import httpbody_pb2
from moleculeai.upload.v1 import upload_pb2
from moleculeai.upload.v1 import upload_service_pb2 as pb

from molecule_grpc.auth.authenticator import Authenticator
from molecule_grpc.auth.principal import OPERATOR
from molecule_grpc.budgets import Budgets
from molecule_grpc.core import Core
from molecule_grpc.db.disk import DiskSpace
from molecule_grpc.db.health import DatabaseHealth
from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.db.wakeups import Wakeups
from molecule_grpc.delegation.record.notices import file_announcer
from molecule_grpc.egress import EgressRules
from molecule_grpc.events.readers import EventReaders
from molecule_grpc.kernel.page_tokens import PageTokens
from molecule_grpc.quotas import Quotas
from molecule_grpc.server.audit import AuditLog
from molecule_grpc.server.call import Call
from molecule_grpc.server.streams import OpenStreams, StreamGuards
from molecule_grpc.server.tasks import BackgroundTask
from molecule_grpc.server.unread import Unread
from molecule_grpc.settings.settings import Settings
from molecule_grpc.upload.blobs.stores import BlobStores, open_blob_stores
from molecule_grpc.upload.ports import OnRemove, OnRemoved, OnUses
from molecule_grpc.upload.service import UploadService
from molecule_grpc.upload.wiring import open_upload
from molecule_grpc.upload.workers import UploadSweeper
from tests.settings import egress_of
from tests.waiting import PATIENCE

Begin = pb.StageUploadsRequest.Begin
FileFrame = pb.StageUploadsRequest.File
File = tuple[str, bytes, str]


class RecordedWakeups(Wakeups):
    """Wake-ups of this process, and whom they were for."""

    def __init__(self) -> None:
        super().__init__(None, "test")
        self.woken: list[UUID] = []

    def wake(self, workspace_ids: Iterable[UUID]) -> None:
        self.woken += workspace_ids


@dataclass(slots=True)
class Removals:
    """A workspace slice as far as this one subscribes to it."""

    in_transaction: list[OnRemove] = field(default_factory=list)
    after_commit: list[OnRemoved] = field(default_factory=list)

    def on_remove(self, subscriber: OnRemove) -> None:
        self.in_transaction.append(subscriber)

    def on_removed(self, subscriber: OnRemoved) -> None:
        self.after_commit.append(subscriber)

    def on_uses(self, subscriber: OnUses) -> None:
        pass  # Nobody asks here.

    async def remove(self, conn: Connection, workspace_ids: list[UUID]) -> None:
        for subscriber in self.in_transaction:
            await subscriber(conn, workspace_ids)

    def removed(self, workspace_ids: list[UUID]) -> None:
        for subscriber in self.after_commit:
            subscriber(workspace_ids)


@dataclass(slots=True)
class UploadSlice:
    """One worker's worth of the slice."""

    core: Core
    stores: BlobStores
    service: UploadService
    tasks: Sequence[BackgroundTask]
    removals: Removals
    woken: list[UUID]

    @property
    def pool(self) -> Pool:
        return self.core.pool

    @property
    def settings(self) -> Settings:
        return self.core.settings

    async def post(
        self, workspace_id: UUID, *files: File, key: str = "", headers: dict[str, str] | None = None
    ) -> list[dict[str, Any]]:
        """POST files as a browser does; what the answer says of each."""
        body, content_type = form(files)
        call = rest_call({"idempotency-key": key} if key else {}, headers or {})
        answer = await self.service.PostUploads(posts(workspace_id, content_type, [body]), call)
        told: list[dict[str, Any]] = json.loads(answer.data)["files"]
        return told

    async def stage(
        self, workspace_id: UUID, *files: File, key: str = "", piece: int = 256 * 1024
    ) -> list[upload_pb2.UploadedFile]:
        """Stage files as a gRPC client does."""
        answer = await self.service.StageUploads(
            frames(workspace_id, files, key=key, piece=piece), call_of()
        )
        return list(answer.files)

    async def one(self, workspace_id: UUID, data: bytes = b"data", name: str = "a.txt") -> UUID:
        """The id of one staged file."""
        (told,) = await self.stage(workspace_id, (name, data, "text/plain"))
        return file_id_of(told.uri)

    async def read(
        self, workspace_id: UUID, file_id: UUID, call: Call | None = None, **part: int
    ) -> bytes:
        """A file's bytes."""
        request = pb.GetUploadContentRequest(
            workspace_id=str(workspace_id), file_id=str(file_id), **part
        )
        pieces = self.service.GetUploadContent(request, call or call_of())
        return b"".join([piece.data async for piece in pieces])

    async def ack(self, workspace_id: UUID, file_id: UUID) -> pb.AckUploadResponse:
        """Acknowledge a file."""
        request = pb.AckUploadRequest(workspace_id=str(workspace_id), file_id=str(file_id))
        return await self.service.AckUpload(request, call_of())

    async def row(self, file_id: UUID) -> asyncpg.Record | None:
        """A file's row."""
        return await self.pool.fetchrow("SELECT * FROM pending_uploads WHERE file_id = $1", file_id)

    async def count(self, table: str) -> int:
        """How many rows a table has."""
        found: int = await self.pool.fetchval(f"SELECT count(*) FROM {table}")
        return found

    async def notices(self, workspace_id: UUID) -> list[dict[str, Any]]:
        """The file notices of an inbox, in order."""
        rows = await self.pool.fetch(
            """
            SELECT a.request_body FROM inbox_items x JOIN activity_logs a ON a.id = x.activity_id
            WHERE x.workspace_id = $1 AND x.method = 'chat_upload_receive' ORDER BY x.seq
            """,
            workspace_id,
        )
        return [json.loads(row["request_body"]) for row in rows]

    def sweeper(self, ack_retention: float | None = None) -> UploadSweeper:
        """A sweeper of this worker."""
        return UploadSweeper(self.pool, self.stores, ack_retention)


@contextlib.asynccontextmanager
async def uploads_of(
    pool: Pool, environment: dict[str, str] | None = None
) -> AsyncIterator[UploadSlice]:
    """A worker's slice over this database."""
    settings = Settings.from_env(environment or {})
    wakeups = RecordedWakeups()
    removals = Removals()
    with EventReaders.of(wakeups) as readers:
        core = core_of(pool, settings, wakeups, readers)
        async with (
            open_upload(core, file_announcer(core.quotas), removals) as opened,
            open_blob_stores(pool, settings.upload) as stores,
        ):
            ((_, service),) = opened.handlers
            assert isinstance(service, UploadService)
            yield UploadSlice(core, stores, service, opened.tasks, removals, wakeups.woken)


def core_of(pool: Pool, settings: Settings, wakeups: Wakeups, readers: EventReaders) -> Core:
    """What slices are built from, without a worker around it."""
    authenticator = Authenticator(pool, settings.auth)
    streams, budgets = OpenStreams(), Budgets.of(settings.budgets)
    unread = Unread(budgets.stream_bytes)
    return Core(
        settings=settings,
        dsn="",
        pool=pool,
        database=DatabaseHealth(""),
        disk=DiskSpace(None, 0),
        budgets=budgets,
        quotas=Quotas.of(settings),
        wakeups=wakeups,
        authenticator=authenticator,
        streams=streams,
        unread=unread,
        guards=StreamGuards(
            authenticator, streams, settings.inbox, budget=budgets.streams, unread=unread
        ),
        readers=readers,
        page_tokens=PageTokens(b"k" * 32),
        audit=AuditLog(pool, settings.audit),
        egress=egress_of(EgressRules.of(settings.deployment, settings.egress)),
    )


def call_of(**metadata: str) -> Call:
    """A gRPC call by the operator."""
    return Call(metadata=metadata, principal=OPERATOR)


def rest_call(*headers: dict[str, str]) -> Call:
    """A REST call by the operator, with these headers."""
    merged = {"x-envoy-original-path": "/x"}
    for each in headers:
        merged |= each
    return call_of(**merged)


def form(files: Sequence[File], field_name: str = "files") -> tuple[bytes, str]:
    """A multipart body and its content type."""
    parts = [(field_name, (name, data, kind)) for name, data, kind in files]
    request = httpx.Request("POST", "http://x", files=parts)
    return request.read(), request.headers["content-type"]


async def posts(
    workspace_id: UUID, content_type: str, pieces: Iterable[bytes]
) -> AsyncIterator[pb.PostUploadsRequest]:
    """The frames that the edge makes of a body: the first one carries the path."""
    named = str(workspace_id)
    for piece in pieces:
        body = httpbody_pb2.HttpBody(content_type=content_type, data=piece)
        yield pb.PostUploadsRequest(workspace_id=named, body=body)
        named = ""


async def frames(
    workspace_id: UUID, files: Iterable[File], *, key: str = "", piece: int = 256 * 1024
) -> AsyncIterator[pb.StageUploadsRequest]:
    """The frames of a gRPC client."""
    yield pb.StageUploadsRequest(begin=Begin(workspace_id=str(workspace_id), request_id=key))
    for name, data, kind in files:
        yield pb.StageUploadsRequest(file=FileFrame(name=name, mime_type=kind))
        for at in range(0, len(data), piece):
            yield pb.StageUploadsRequest(chunk=data[at : at + piece])


def file_id_of(uri: str) -> UUID:
    """The file that a URI names."""
    return UUID(uri.rpartition("/")[2])


async def until(condition: Callable[[], Awaitable[object]], timeout: float = PATIENCE) -> None:
    """Look again and again until the condition holds. For what the database alone can tell."""
    async with asyncio.timeout(timeout):
        while not await condition():
            await asyncio.sleep(0.01)
