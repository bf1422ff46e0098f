"""Workspaces whose files are tested, and the ways to send and read them."""

from __future__ import annotations

import hashlib
import os
import struct
import uuid
import zlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import httpx
from moleculeai.upload.v1 import upload_service_pb2 as pb
from moleculeai.upload.v1.upload_service_pb2_grpc import UploadServiceStub

from tests.running import RunningServer
from tests.waiting import PATIENCE

if TYPE_CHECKING:  # a class of the stubs alone
    from moleculeai.upload.v1.upload_service_pb2_grpc import UploadServiceAsyncStub

MIB = 1024 * 1024
File = tuple[str, bytes, str]


def png(width: int = 200, height: int = 100) -> bytes:
    """A real picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checked = kind + data
        return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))

    rows = b"".join(b"\x00" + os.urandom(3 * width) for _ in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, slots=True)
class Door:
    """One workspace, and both ways into the server for it."""

    server: RunningServer
    workspace_id: str
    token: str
    http: httpx.AsyncClient
    grpc: UploadServiceAsyncStub

    @property
    def path(self) -> str:
        return f"/workspaces/{self.workspace_id}"

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.token}"),)

    async def post(self, *files: File, **headers: str) -> httpx.Response:
        """POST files as a browser does."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.post(
            f"{self.path}/chat/uploads",
            files=[("files", (name, data, kind)) for name, data, kind in files],
            headers=named,
        )

    async def one(self, data: bytes = b"data", name: str = "a.txt") -> str:
        """The id of one staged file."""
        answer = await self.post((name, data, "text/plain"))
        assert answer.status_code == 200, answer.text
        return file_id_of(answer.json()["files"][0]["uri"])

    async def get(self, file_id: str, **headers: str) -> httpx.Response:
        """A file by REST."""
        return await self.http.get(self.content(file_id), headers=headers)

    def content(self, file_id: str) -> str:
        return f"{self.path}/pending-uploads/{file_id}/content"

    async def ack(self, file_id: str) -> httpx.Response:
        return await self.http.post(f"{self.path}/pending-uploads/{file_id}/ack")

    async def hear(self, message: dict[str, Any]) -> None:
        """Let a human say something to the workspace."""
        sent = await self.http.post(
            f"{self.path}/a2a",
            json=message,
            headers={"authorization": f"Bearer {self.server.admin_token}"},
        )
        assert sent.status_code == 200, sent.text

    async def waiting(self) -> list[dict[str, Any]]:
        """What the list shows."""
        answer = await self.http.get(f"{self.path}/pending-uploads")
        listed: list[dict[str, Any]] = answer.json()["files"]
        return listed

    async def notices(self) -> list[dict[str, Any]]:
        """What a poller without a cursor sees of files, oldest first."""
        answer = await self.http.get(f"{self.path}/activity", params={"type": "a2a_receive"})
        rows = answer.json()
        return [row["request_body"] for row in rows if row["method"] == "chat_upload_receive"]


async def new_door(
    server: RunningServer, http: httpx.AsyncClient, channel: grpc.aio.Channel, **fields: Any
) -> Door:
    """A new workspace. `http` and `channel` carry no token of their own."""
    made = await http.post(
        "/workspaces",
        json={"name": f"files-{uuid.uuid4().hex[:8]}", "external": True, **fields},
        headers={"authorization": f"Bearer {server.admin_token}"},
    )
    assert made.status_code == 201, made.text
    workspace_id = made.json()["id"]
    minted = await http.post(
        f"/workspaces/{workspace_id}/tokens",
        headers={"authorization": f"Bearer {server.admin_token}"},
    )
    token = minted.json()["auth_token"]
    client = httpx.AsyncClient(
        base_url=server.url, timeout=PATIENCE, headers={"authorization": f"Bearer {token}"}
    )
    return Door(server, workspace_id, token, client, UploadServiceStub(channel))


async def frames(
    workspace_id: str, files: Iterable[File], *, key: str = ""
) -> AsyncIterator[pb.StageUploadsRequest]:
    """What a gRPC client sends."""
    yield pb.StageUploadsRequest(
        begin=pb.StageUploadsRequest.Begin(workspace_id=workspace_id, request_id=key)
    )
    for name, data, kind in files:
        yield pb.StageUploadsRequest(file=pb.StageUploadsRequest.File(name=name, mime_type=kind))
        for at in range(0, len(data), 256 * 1024):
            yield pb.StageUploadsRequest(chunk=data[at : at + 256 * 1024])


def file_id_of(uri: str) -> str:
    return uri.rpartition("/")[2]
