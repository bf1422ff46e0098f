"""Keeps blobs as objects of an S3 bucket: for files that would outgrow the database."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, ParamSpec, TypeVar
from uuid import UUID

import boto3
import structlog
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from molecule_grpc.db.pool import Connection, Pool, database_errors
from molecule_grpc.kernel.errors import Unavailable
from molecule_grpc.kernel.holding import require_no_connection
from molecule_grpc.settings.upload import UploadSettings
from molecule_grpc.upload.blobs.port import WRITE_LIMIT, KnownBlobs
from molecule_grpc.upload.blobs.read_ahead import read_ahead
from molecule_grpc.upload.refusals import not_found, store_unavailable
from molecule_grpc.upload.store import loose

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_s3.type_defs import CompletedPartTypeDef, ListObjectsV2RequestTypeDef

P = ParamSpec("P")
T = TypeVar("T")

log = structlog.get_logger(__name__)

# The smallest part that S3 takes, except for the last one.
PART_BYTES = 5 * 1024 * 1024
READ_BYTES = 2 * 1024 * 1024

_THREADS = 8
_DELETED_AT_ONCE = 1000
# S3's error codes for a missing object: of GET, and of HEAD.
MISSING = ("NoSuchKey", "404")


def s3_client(settings: UploadSettings) -> S3Client:
    """A client for the S3 server that the settings name. Its calls block."""
    return boto3.client(
        "s3",
        endpoint_url=settings.s3_endpoint or None,
        region_name=settings.s3_region or None,
        # Without keys the client looks where AWS tools do.
        aws_access_key_id=settings.s3_access_key or None,
        aws_secret_access_key=settings.s3_secret_key or None,
        config=Config(
            connect_timeout=5,
            read_timeout=30,
            retries={"mode": "standard", "total_max_attempts": 3},
            max_pool_connections=_THREADS,
            # Other stores than Amazon's do not know its newer checksums.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


class S3Blobs:
    """Keeps each blob as the object named by the prefix and the blob's id.

    The S3 client blocks, so its calls run in 8 threads of their own: a slow store holds up uploads,
    and no other call.
    """

    name = "s3"

    def __init__(self, pool: Pool, settings: UploadSettings) -> None:
        self._pool = pool
        self._bucket = settings.s3_bucket
        self._prefix = settings.s3_prefix
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="s3")
        self.client = s3_client(settings)

    async def close(self) -> None:
        """Release the threads; calls that are under way end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self.client.close()

    @contextlib.asynccontextmanager
    async def batch(self) -> AsyncIterator[S3Batch]:
        """Write some blobs."""
        batch = S3Batch(self, self._pool)
        try:
            yield batch
        finally:
            await batch.close()

    def read(self, blob_id: UUID, start: int, stop: int) -> AsyncIterator[bytes]:
        """The bytes from `start` up to `stop`, in pieces of 2 MiB; the next is on its way."""
        return read_ahead(self._read(blob_id, start, stop))

    async def _read(self, blob_id: UUID, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        while start < stop:
            end = min(start + READ_BYTES, stop)
            piece = await self.run(self._get, self.key(blob_id), f"bytes={start}-{end - 1}")
            if len(piece) != end - start:
                raise not_found()
            yield piece
            start = end

    async def delete(self, blob_ids: Sequence[UUID]) -> set[UUID]:
        """Delete blobs; those that the store would not delete, each with its error in the log."""
        kept: set[UUID] = set()
        for first in range(0, len(blob_ids), _DELETED_AT_ONCE):
            asked = blob_ids[first : first + _DELETED_AT_ONCE]
            keys = {self.key(blob_id): blob_id for blob_id in asked}
            for key, code in await self.run(self._delete, list(keys)):
                log.warning("object not deleted", key=key, code=code)
                kept.add(keys[key])
        return kept

    async def sweep_orphans(self, known: KnownBlobs, older_than: timedelta) -> int:
        """Delete objects under our prefix that the database does not know, and old parts."""
        before = datetime.now(UTC) - older_than
        swept, token = 0, ""
        while True:
            found, token = await self.run(self._list, token, before)
            ours = {blob_id: key for key in found if (blob_id := self._blob_id(key)) is not None}
            orphans = set(ours) - await known(list(ours)) if ours else set()
            if orphans:
                swept += len(orphans - await self.delete(list(orphans)))
            if not token:
                break
        await self.run(self._abort_stale, before)
        return swept

    def key(self, blob_id: UUID) -> str:
        """The name of a blob's object."""
        return f"{self._prefix}{blob_id}"

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make a blocking call in one of the threads.

        Raises:
            Unavailable: UPLOAD_STORE_UNAVAILABLE.
        """
        require_no_connection("the object store")
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, lambda: call(*args, **kwargs))
        except ClientError as error:
            if error.response["Error"]["Code"] in MISSING:
                raise not_found() from error
            raise store_unavailable() from error
        except (BotoCoreError, OSError) as error:
            raise store_unavailable() from error

    def put(self, key: str, data: bytes) -> None:
        """Store a whole object."""
        self.client.put_object(Bucket=self._bucket, Key=key, Body=data)

    def begin_parts(self, key: str) -> str:
        """Begin an object of several parts; its upload id."""
        return self.client.create_multipart_upload(Bucket=self._bucket, Key=key)["UploadId"]

    def put_part(self, key: str, upload_id: str, number: int, data: bytes) -> CompletedPartTypeDef:
        """Store a part; `number` counts from 1."""
        answer = self.client.upload_part(
            Bucket=self._bucket, Key=key, UploadId=upload_id, PartNumber=number, Body=data
        )
        return {"PartNumber": number, "ETag": answer["ETag"]}

    def end_parts(self, key: str, upload_id: str, parts: list[CompletedPartTypeDef]) -> None:
        """Make the parts one object."""
        self.client.complete_multipart_upload(
            Bucket=self._bucket, Key=key, UploadId=upload_id, MultipartUpload={"Parts": parts}
        )

    def abort_parts(self, key: str, upload_id: str) -> None:
        """Forget the parts."""
        self.client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload_id)

    def _get(self, key: str, part: str) -> bytes:
        return self.client.get_object(Bucket=self._bucket, Key=key, Range=part)["Body"].read()

    def _delete(self, keys: list[str]) -> list[tuple[str, str]]:
        """Key and error code of each object that is still there."""
        answer = self.client.delete_objects(
            Bucket=self._bucket, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True}
        )
        return [(error["Key"], error.get("Code", "")) for error in answer.get("Errors", ())]

    def _list(self, token: str, before: datetime) -> tuple[list[str], str]:
        """A page of old objects, and the token of the next page."""
        where: ListObjectsV2RequestTypeDef = {"Bucket": self._bucket, "Prefix": self._prefix}
        if token:
            where["ContinuationToken"] = token
        page = self.client.list_objects_v2(**where)
        old = [one["Key"] for one in page.get("Contents", ()) if one["LastModified"] < before]
        return old, page.get("NextContinuationToken", "")

    def _abort_stale(self, before: datetime) -> None:
        page = self.client.list_multipart_uploads(Bucket=self._bucket, Prefix=self._prefix)
        for one in page.get("Uploads", ()):
            if one["Initiated"] < before:
                self.abort_parts(one["Key"], one["UploadId"])

    def _blob_id(self, key: str) -> UUID | None:
        try:
            return UUID(key.removeprefix(self._prefix))
        except ValueError:
            return None  # somebody else's


class S3Batch:
    """Collects parts of 5 MiB, and stores one while the next arrives: at most two in memory."""

    def __init__(self, store: S3Blobs, pool: Pool) -> None:
        self._store = store
        self._pool = pool
        self._noted: list[UUID] = []
        self._filling = bytearray()
        self._key = ""
        self._upload_id = ""
        self._parts: list[CompletedPartTypeDef] = []
        self._sending: asyncio.Task[CompletedPartTypeDef] | None = None
        self._putting: asyncio.Task[None] | None = None

    async def begin(self, blob_id: UUID) -> None:
        """Begin a blob: the next bytes belong to this one."""
        with database_errors():
            await loose.note(self._pool, blob_id, S3Blobs.name, WRITE_LIMIT)
        self._noted.append(blob_id)
        self._key = self._store.key(blob_id)
        self._upload_id, self._parts = "", []
        self._filling = bytearray()

    async def write(self, data: bytes) -> None:
        """Add to the blob."""
        self._filling += data
        while len(self._filling) >= PART_BYTES:
            part = bytes(memoryview(self._filling)[:PART_BYTES])
            self._filling = self._filling[PART_BYTES:]
            await self._send(part)

    async def end(self) -> None:
        """End the blob. A blob of one part may still be on its way."""
        rest, self._filling = bytes(self._filling), bytearray()
        if not self._upload_id:
            await self.flush()
            self._putting = asyncio.create_task(
                self._store.run(self._store.put, self._key, rest), name="s3-put"
            )
            return
        if rest:
            await self._send(rest)
        await self._sent()
        upload_id, self._upload_id = self._upload_id, ""
        await self._store.run(self._store.end_parts, self._key, upload_id, self._parts)

    async def flush(self) -> None:
        """Wait for the object in flight."""
        if self._putting is not None:
            putting, self._putting = self._putting, None
            await putting

    async def settle(self, conn: Connection) -> None:
        """Take the blobs off the list, in this transaction, which must not wait for the store."""
        if self._putting is not None:
            raise RuntimeError("a batch must be flushed before its transaction begins")
        if self._noted and not await loose.release(conn, S3Blobs.name, self._noted):
            raise Unavailable("the upload took too long, try again")

    async def close(self) -> None:
        """Abort an unfinished object. Whole objects without an owner are left to the sweep."""
        pending = [task for task in (self._sending, self._putting) if task is not None]
        await asyncio.gather(*pending, return_exceptions=True)
        if self._upload_id:
            try:
                await self._store.run(self._store.abort_parts, self._key, self._upload_id)
            except Unavailable as error:
                log.warning("parts left behind", key=self._key, error=str(error))

    async def _send(self, part: bytes) -> None:
        """Begin to send a part, after the part that is on its way: one at a time."""
        if not self._upload_id:
            self._upload_id = await self._store.run(self._store.begin_parts, self._key)
        await self._sent()
        number = len(self._parts) + 1
        self._sending = asyncio.create_task(
            self._store.run(self._store.put_part, self._key, self._upload_id, number, part)
        )

    async def _sent(self) -> None:
        if self._sending is not None:
            sending, self._sending = self._sending, None
            self._parts.append(await sending)
