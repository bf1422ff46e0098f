"""The face, loaded when an agent first calls it.

The protocol's own types take half a second of CPU and 20 MB to load, a third of what a worker
loads: they are loaded by the first agent that speaks the protocol, and never in most installations.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING
from uuid import UUID

from molecule_grpc.core import Core
from molecule_grpc.faces.mcp.counting import show_zeros
from molecule_grpc.faces.port import Platform
from molecule_grpc.server.call import Call

if TYPE_CHECKING:
    from molecule_grpc.faces.mcp.endpoint import Endpoint, HttpAnswer

_ENDPOINT = "molecule_grpc.faces.mcp.endpoint"


class McpFace:
    """The endpoint that CallMcp and StreamMcp serve, loaded when it is first called."""

    def __init__(self, core: Core, platform: Platform) -> None:
        self._core = core
        self._platform = platform
        self._loading = asyncio.Lock()
        self._loaded: Endpoint | None = None
        show_zeros(speaks=core.settings.faces.mcp_send_message)

    async def call(self, workspace_id: UUID, data: bytes, call: Call) -> HttpAnswer:
        """Answer what was posted, as `Endpoint.answer` does."""
        return await (await self._endpoint()).answer(workspace_id, data, call)

    def stream(self, workspace_id: UUID, call: Call) -> AsyncIterator[str]:
        """Server-sent events, as `Endpoint.events` makes them."""
        return self._events(workspace_id, call)

    async def _events(self, workspace_id: UUID, call: Call) -> AsyncGenerator[str, None]:
        events = (await self._endpoint()).events(workspace_id, call)
        async with contextlib.aclosing(events):
            async for event in events:
                yield event

    async def _endpoint(self) -> Endpoint:
        async with self._loading:
            if self._loaded is None:
                # In a thread: other calls go on meanwhile.
                await asyncio.to_thread(importlib.import_module, _ENDPOINT)
                self._loaded = await asyncio.to_thread(self._made)
        return self._loaded

    def _made(self) -> Endpoint:
        from molecule_grpc.faces.mcp.endpoint import Endpoint  # noqa: PLC0415

        core = self._core
        return Endpoint(
            self._platform,
            core.authenticator,
            core.guards,
            core.disk,
            speaks=core.settings.faces.mcp_send_message,
            limited=not core.settings.deployment.development,
        )
