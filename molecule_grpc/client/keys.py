"""Keys of a workspace, with values of JSON."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from google.protobuf import json_format, struct_pb2
from moleculeai.memory.v1 import memory_pb2
from moleculeai.memory.v1 import memory_service_pb2 as pb

from molecule_grpc.client.connection import Connection

_FIRST_INEXACT = 2**53


class Keys:
    """The keys of one workspace; `Memory` is the whole interface.

    Args:
        workspace_id: UUID of the workspace.
    """

    def __init__(self, connection: Connection, workspace_id: str) -> None:
        self._connection = connection
        self._workspace_id = workspace_id

    async def set_value(
        self,
        key: str,
        value: Any,
        *,
        ttl_seconds: int | None = None,
        if_version: int | None = None,
    ) -> int:
        """Write a key; its version now.

        Args:
            key: 1 to 512 characters.
            value: anything that JSON can express, at most 256 KiB. Whole numbers from 2^53 on go in
                as text: gRPC would round them.
            ttl_seconds: after so long the key is absent; None for ever.
            if_version: write only if the key has this version, 0 if it is absent.

        Raises:
            ValueError: the value holds a whole number from 2^53 on.
            Aborted: VERSION_MISMATCH.
            ResourceExhausted: QUOTA_EXCEEDED.
        """
        _require_exact(value)
        request = pb.SetValueRequest(
            workspace_id=self._workspace_id,
            key=key,
            value=json_format.ParseDict(value, struct_pb2.Value()),
            ttl_seconds=ttl_seconds,
            if_match_version=if_version,
        )
        answer = await self._connection.call(
            self._connection.memories.SetValue, request, retry=if_version is None
        )
        return answer.version

    async def value(self, key: str) -> memory_pb2.ValueEntry:
        """One key with its value. Raises `NotFound` KEY_NOT_FOUND."""
        request = pb.GetValueRequest(workspace_id=self._workspace_id, key=key)
        return await self._connection.call(self._connection.memories.GetValue, request, retry=True)

    async def values(self) -> AsyncIterator[memory_pb2.ValueEntry]:
        """Every key, in order."""
        request = pb.ListValuesRequest(workspace_id=self._workspace_id)
        async for page in self._connection.pages(self._connection.memories.ListValues, request):
            for entry in page.entries:
                yield entry

    async def delete_value(self, key: str, *, if_version: int | None = None) -> None:
        """Delete a key; what is absent stays so. Raises `Aborted` VERSION_MISMATCH."""
        request = pb.DeleteValueRequest(
            workspace_id=self._workspace_id, key=key, if_match_version=if_version
        )
        await self._connection.call(
            self._connection.memories.DeleteValue, request, retry=if_version is None
        )


def _require_exact(value: Any) -> None:
    """Raise for a number that a double cannot hold."""
    if isinstance(value, int) and abs(value) >= _FIRST_INEXACT:
        raise ValueError(f"{value} would be rounded: send it as text")
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in parts:
        _require_exact(part)
