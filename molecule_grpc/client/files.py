"""Receives the files that wait for an agent into a folder, and names them in messages."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc
from moleculeai.upload.v1 import upload_pb2
from moleculeai.upload.v1 import upload_service_pb2 as pb

from molecule_grpc.client.connection import Connection
from molecule_grpc.client.errors import CallError, NotFound, Unavailable, to_call_error
from molecule_grpc.client.folder import Folder, PartialFile
from molecule_grpc.client.inbox import Inbox
from molecule_grpc.client.items import Item
from molecule_grpc.client.retry import with_retries

log = logging.getLogger(__name__)

METHOD = "chat_upload_receive"
DEFAULT_FOLDER = Path("/workspace/.molecule/chat-uploads")

_PENDING = "platform-pending:"
_REMEMBERED = 1024
_AT_ONCE = 2
_FETCH_SECONDS = 600.0
_FIRST_RETRY_SECONDS = 2.0
_LAST_RETRY_SECONDS = 300.0


class Files:
    """Receives files: fetch, write, fsync, and only then acknowledge.

    Args:
        folder: where files go, as `<32 digits>-<name>` with mode 0600; made if missing.
    """

    def __init__(self, connection: Connection, workspace_id: str, folder: Path) -> None:
        self._connection = connection
        self._workspace_id = workspace_id
        self._folder = Folder(folder)
        self._known: OrderedDict[str, str] = OrderedDict()
        self._arriving: dict[str, asyncio.Event] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def waiting(self) -> list[upload_pb2.PendingUpload]:
        """The files that are neither acknowledged nor expired (24 h by default), oldest first."""
        request = pb.ListPendingUploadsRequest(workspace_id=self._workspace_id)
        pages = self._connection.pages(self._connection.uploads.ListPendingUploads, request)
        return [file async for page in pages for file in page.files]

    async def receive(self, item: Item) -> Path | None:
        """The file that an item announces, safely on disk; None when it is gone for good.

        Does not ack the item.

        Args:
            item: one whose `method` is `chat_upload_receive`.

        Raises:
            CallError: the file cannot be fetched within 10 minutes.
            OSError: the file cannot be written.
        """
        body = item.json()
        uri = str(body["uri"])
        arrived = self._arriving.setdefault(uri, asyncio.Event())
        try:
            return await self.fetch(str(body["file_id"]), str(body["name"]))
        finally:
            arrived.set()
            self._arriving.pop(uri, None)

    async def fetch(self, file_id: str, name: str) -> Path | None:
        """A waiting file, safely on disk, and acknowledged; None when it is gone for good.

        A file that is on disk already, from before a crash, is only acknowledged.

        Args:
            file_id: UUID of the file.
            name: becomes the end of the local name.

        Raises:
            CallError: the file cannot be fetched within 10 minutes, or arrived damaged.
            OSError: the file cannot be written.
        """
        prefix = f"{UUID(file_id).hex}-"
        path = self._folder.find(prefix)
        if path is None:
            path = await self._download(file_id, prefix + _plain(name))
        if path is None:
            return None
        await self._ack(file_id)
        self._remember(f"{_PENDING}{self._workspace_id}/{file_id}", path)
        return path

    async def rewrite(self, item: Item) -> None:
        """Replace the URIs of files in a message by local ones; waits for files under way.

        A file that is not in the folder keeps its URI, so that the message shows what is missing.
        """
        if _PENDING not in item.body:
            return
        body = item.json()
        changed = False
        for file in _files(body):
            uri = str(file.get("uri", ""))
            if uri.startswith(_PENDING) and (found := await self._resolve(uri)):
                file["uri"] = found
                changed = True
        if changed:
            item.body = item.frame.body = json.dumps(body)

    async def follow(self, inbox: Inbox) -> AsyncIterator[Item]:
        """The items of an inbox; files are received on the way, two at once.

        Notices of files are not among the items, and messages come with their files rewritten. An
        item is acked when the next one is asked for.

        Raises:
            CallError: the inbox ended: see `Inbox`.
        """
        receiving: set[asyncio.Task[None]] = set()
        try:
            async with inbox:
                while True:
                    item = await inbox.next()
                    if item.method == METHOD:
                        task = asyncio.create_task(self._receive_and_ack(item))
                        receiving.add(task)
                        task.add_done_callback(receiving.discard)
                        continue
                    await self.rewrite(item)
                    yield item
                    await item.ack()
        finally:
            for task in receiving:
                task.cancel()
            await asyncio.gather(*receiving, return_exceptions=True)

    async def _receive_and_ack(self, item: Item) -> None:
        try:
            async with self._slots:
                await self.receive(item)
        except (CallError, OSError) as error:
            log.warning("file of item %d not received: %s", item.seq, error)
            wait = min(_LAST_RETRY_SECONDS, _FIRST_RETRY_SECONDS**item.delivery)
            await item.nack(retry_after=wait, reason=f"{type(error).__name__}: {error}")
        else:
            await item.ack()

    async def _download(self, file_id: str, name: str) -> Path | None:
        with self._folder.new(name) as draft:

            async def attempt(left: float) -> str:
                return await self._read_on(file_id, draft, left)

            try:
                sha256 = await with_retries(attempt, _FETCH_SECONDS)
            except NotFound:
                log.warning("file %s has gone", file_id)
                return None
            if sha256 not in ("", draft.sha256):
                raise Unavailable(f"file {file_id} arrived damaged")
            return await asyncio.to_thread(draft.finish)

    async def _read_on(self, file_id: str, draft: PartialFile, seconds: float) -> str:
        """Read the bytes from `draft.size` on; the SHA-256 that the platform states."""
        request = pb.GetUploadContentRequest(
            workspace_id=self._workspace_id, file_id=file_id, offset=draft.size
        )
        call = self._connection.uploads.GetUploadContent(
            request, metadata=self._connection.metadata, timeout=seconds
        )
        try:
            async for piece in call:
                await asyncio.to_thread(draft.write, piece.data)
            headers = dict(await call.initial_metadata())
        except grpc.aio.AioRpcError as error:
            raise to_call_error(error) from error
        return str(headers.get("etag", "")).strip('"')

    async def _ack(self, file_id: str) -> None:
        request = pb.AckUploadRequest(workspace_id=self._workspace_id, file_id=file_id)
        try:
            await self._connection.call(self._connection.uploads.AckUpload, request, retry=True)
        except NotFound:
            log.debug("file %s was acknowledged before", file_id)

    async def _resolve(self, uri: str) -> str:
        """The local URI of a file; empty when the file is not in the folder."""
        if (arriving := self._arriving.get(uri)) is not None:
            await arriving.wait()
        if found := self._known.get(uri):
            self._known.move_to_end(uri)
            return found
        try:
            prefix = UUID(uri.rpartition("/")[2]).hex
        except ValueError:
            return ""
        path = self._folder.find(f"{prefix}-")
        return self._remember(uri, path) if path else ""

    def _remember(self, uri: str, path: Path) -> str:
        self._known[uri] = f"workspace:{path}"
        self._known.move_to_end(uri)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return self._known[uri]


def _plain(name: str) -> str:
    """A name that stays in the folder, also from a platform that did not clean it."""
    return name.replace("/", "_").replace("\x00", "_")[:100]


def _files(body: Any) -> list[dict[str, Any]]:
    """The files of a message, in each of the three places where A2A puts parts."""
    params = body.get("params") if isinstance(body, dict) else None
    message = params.get("message") if isinstance(params, dict) else None
    return [
        part["file"]
        for place in (message, params, body)
        if isinstance(place, dict) and isinstance(place.get("parts"), list)
        for part in place["parts"]
        if isinstance(part, dict) and isinstance(part.get("file"), dict)
    ]
