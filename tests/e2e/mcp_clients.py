"""Agents that speak the Model Context Protocol with a running server, through its own SDK."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.e2e.parties import Agent
from tests.running import RunningServer

# How a client opens: with the handshake of the older revisions, or with what it finds.
MODES = ("legacy", "auto")


@dataclass(frozen=True, slots=True)
class Session:
    """An open client of one agent."""

    client: Client

    async def use(self, tool: str, **arguments: Any) -> Any:
        """What a tool returns.

        Raises:
            ToolFailed: it could not do it.
        """
        result = await self.client.call_tool(tool, arguments)
        [content] = result.content
        assert content.type == "text"
        value = json.loads(content.text)
        if result.is_error:
            raise ToolFailed(value)
        return value


class ToolFailed(Exception):
    """A tool answered with an error."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error)
        self.error = error


def http_of(agent: Agent) -> httpx2.AsyncClient:
    """An HTTP client that carries the agent's token."""
    return httpx2.AsyncClient(headers=agent.headers, timeout=90)


@contextlib.asynccontextmanager
async def session_of(
    agent: Agent, server: RunningServer, mode: str = "auto"
) -> AsyncIterator[Session]:
    """Open a client that knows nothing but a token and a workspace's id."""
    async with http_of(agent) as http:
        transport = streamable_http_client(f"{server.url}{path_of(agent)}", http_client=http)
        async with Client(transport, mode=mode) as client:
            yield Session(client)


def path_of(agent: Agent) -> str:
    """Where an agent posts its messages."""
    return f"/workspaces/{agent.id}/mcp"


async def post(agent: Agent, body: Any, **headers: str) -> httpx.Response:
    """Post JSON, or bytes as they are, without an SDK."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await agent.wire.http.post(
        path_of(agent), content=content, headers={**agent.headers, **named}
    )


def request(method: str, params: Any = None, **extra: Any) -> dict[str, Any]:
    """A request of JSON-RPC."""
    message = {"jsonrpc": "2.0", "id": 1, "method": method, **extra}
    return message if params is None else {**message, "params": params}


def tool_call(tool: str, arguments: Any = None) -> dict[str, Any]:
    """A request to run a tool."""
    return request("tools/call", {"name": tool, "arguments": arguments or {}})
