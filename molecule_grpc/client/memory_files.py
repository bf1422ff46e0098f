"""Memories into files and out of them, for administrators."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
from google.api import httpbody_pb2
from moleculeai.admin.v1 import admin_service_pb2 as pb

from molecule_grpc.client.connection import Connection
from molecule_grpc.client.errors import to_call_error
from molecule_grpc.client.final_status import FinalStatus

_CHUNK_BYTES = 256 * 1024
_SECONDS = 3600.0


async def exported(connection: Connection, organization_id: str) -> AsyncIterator[bytes]:
    """The JSON array of an export, in pieces. Raises `CallError` where one is missing."""
    call = connection.admin.ExportMemories(
        pb.ExportMemoriesRequest(organization_id=organization_id),
        metadata=connection.metadata,
        timeout=_SECONDS,
    )
    try:
        async for piece in call:
            yield piece.data
    except grpc.aio.AioRpcError as error:
        raise to_call_error(error) from error


async def imported(
    connection: Connection, path: Path, organization_id: str
) -> pb.ImportMemoriesResponse:
    """Send a file of an export. Raises `CallError`, or `OSError` if the file cannot be read."""
    call = connection.admin.ImportMemories(
        _pieces(path, organization_id), metadata=connection.metadata, timeout=_SECONDS
    )
    status = FinalStatus(call)
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise to_call_error(await status.of(error)) from error


async def _pieces(path: Path, organization_id: str) -> AsyncIterator[pb.ImportMemoriesRequest]:
    with path.open("rb") as file:
        first = True
        while (data := await asyncio.to_thread(file.read, _CHUNK_BYTES)) or first:
            yield pb.ImportMemoriesRequest(
                body=httpbody_pb2.HttpBody(content_type="application/json", data=data),
                organization_id=organization_id,
            )
            first = False
