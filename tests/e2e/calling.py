"""Agents with a URL on a server that may call this machine."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import Any

import asyncpg
import httpx

from tests.e2e.parties import Agent, Organization, Party
from tests.fake_agent import FakeAgent


@dataclass(frozen=True, slots=True)
class Office:
    """An organisation on such a server, and its database for what no call can bring about."""

    org: Organization
    operator: Party
    database: asyncpg.Connection[asyncpg.Record]

    async def listening(self, agent: FakeAgent | None, **columns: Any) -> Agent:
        """A workspace whose agent is called at its URL."""
        hired = await self.org.hire()
        url = agent.url if agent is not None else "http://127.0.0.1:1/"
        await register(hired, url)
        if agent is None:
            columns.setdefault("url", "")
        for name, value in columns.items():
            await self.database.execute(
                f"UPDATE workspaces SET {name} = $2 WHERE id = $1", hired.id, value
            )
        return hired


async def register(hired: Agent, url: str) -> None:
    """Announce a URL, as an agent does at start."""
    answer = await hired.rest(
        "POST",
        "/registry/register",
        {"id": hired.id, "url": url, "delivery_mode": "push", "agent_card": {}},
    )
    assert answer.status_code == 200, answer.text


def a_message(text: str = "hi", **fields: Any) -> dict[str, Any]:
    """A bare A2A request."""
    message = {"messageId": str(uuid.uuid4()), "parts": [{"kind": "text", "text": text}]}
    return {"method": "message/send", "params": {"message": {**message, **fields}}}


async def send(sender: Party, target: Agent, body: Any = None, **headers: str) -> httpx.Response:
    """POST /a2a, with JSON or bytes as they are."""
    content = body if isinstance(body, bytes) else json.dumps(body or a_message()).encode()
    return await sender.wire.http.post(
        f"/workspaces/{target.id}/a2a",
        content=content,
        headers={**sender.headers, "content-type": "application/json", **headers},
    )
