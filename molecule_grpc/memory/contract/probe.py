"""A server of the contract under test."""

from __future__ import annotations

import uuid
from typing import Any

import aiohttp


class Broken(Exception):
    """An answer is not what the contract says."""


class Server:
    """A server under test, and two namespaces of this run in it."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url.rstrip("/")
        self._session = session
        run = uuid.uuid4().hex
        self.a, self.b = f"custom:conformance-{run}-a", f"custom:conformance-{run}-b"
        self.capabilities: frozenset[str] = frozenset()

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status of an answer, and its JSON or text."""
        async with self._session.request(method, self._url + path, json=body) as response:
            try:
                return response.status, await response.json(content_type=None)
            except ValueError:
                return response.status, await response.text()

    async def expect(self, status: int, method: str, path: str, body: Any = None) -> Any:
        """The answer, if it has this status."""
        found, answer = await self.ask(method, path, body)
        if found != status:
            raise Broken(f"{method} {path} answered {found} instead of {status}: {answer!r:.200}")
        return answer

    async def write(self, namespace: str, content: str, **more: Any) -> str:
        """The id of a new memory."""
        body = {"content": content, "kind": "fact", "source": "agent"} | more
        path = f"/v1/namespaces/{namespace}/memories"
        return str((await self.expect(201, "POST", path, body))["id"])

    async def search(self, *namespaces: str, **more: Any) -> list[dict[str, Any]]:
        """What is found in namespaces."""
        body = {"namespaces": list(namespaces), "limit": 100} | more
        found = (await self.expect(200, "POST", "/v1/search", body))["memories"]
        if not isinstance(found, list):
            raise Broken("memories must be a list, also when it is empty")
        return found

    async def contents(self, *namespaces: str, **more: Any) -> list[str]:
        """The texts that are found."""
        return [each["content"] for each in await self.search(*namespaces, **more)]

    async def empty(self) -> None:
        """Two namespaces with nothing in them."""
        for name in (self.a, self.b):
            await self.ask("DELETE", f"/v1/namespaces/{name}")
            await self.expect(200, "PUT", f"/v1/namespaces/{name}", {"kind": "custom"})
