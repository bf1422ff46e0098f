"""A store of memories that another server keeps, over HTTP."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote

import aiohttp

from molecule_grpc.kernel.holding import require_no_connection
from molecule_grpc.memory.contract.errors import ErrorCode, StoreError, refusal
from molecule_grpc.memory.contract.fields import ContractInvalid, namespace
from molecule_grpc.memory.contract.namespaces import (
    Health,
    Namespace,
    NamespacePatch,
    NamespacePut,
)
from molecule_grpc.memory.contract.objects import Memory, MemoryWrite, Page, SearchRequest, Written
from molecule_grpc.memory.plugin.answers import body_of, refused
from molecule_grpc.memory.plugin.breaker import Breaker

T = TypeVar("T")

_CONNECTIONS: Final = 64
_PROBE_SECONDS: Final = 5.0
_LEAST_LEFT: Final = 0.25
_PAUSE_SECONDS: Final = (0.01, 0.05)
_DEGRADED: Final = "degraded"


class CircuitOpen(StoreError):
    """The store failed three times in a row a short while ago, and was not asked."""

    def __init__(self) -> None:
        super().__init__(ErrorCode.UNAVAILABLE, "circuit breaker open", status=0)


class PluginClient:
    """The contract over HTTP. Reads and writes have a breaker each.

    A request takes at most `timeout` seconds. Requests that may be repeated are, once: GET, PUT,
    DELETE, searches, and commits with an id.

    Args:
        url: without a slash at its end.
        timeout: seconds.
        clock: of the breakers.
    """

    def __init__(
        self, url: str, timeout: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.url = url
        self._timeout = timeout
        self._reads = Breaker("read", clock)
        self._writes = Breaker("write", clock)
        self._session: aiohttp.ClientSession | None = None
        self._closed = False
        self._capabilities: frozenset[str] = frozenset()
        self.version = ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close its connections. Calls after that fail."""
        self._closed = True
        if self._session is not None:
            await self._session.close()

    @property
    def capabilities(self) -> frozenset[str]:
        """The capabilities of the store's last answer to a health call; empty before the first."""
        return self._capabilities

    def supports(self, capability: str) -> bool:
        """Whether the store listed a capability at the last successful `refresh`."""
        return capability in self._capabilities

    async def refresh(self) -> Health:
        """Ask what the store can do, past the breakers; an answer closes them.

        A failure leaves what was known before. Raises `StoreError`.
        """
        health = await self.health()
        self._capabilities, self.version = frozenset(health.capabilities), health.version
        self._reads.succeeded()
        self._writes.succeeded()
        return health

    async def health(self) -> Health:
        """Raises `StoreError`, also when the store says that it is degraded."""
        body = await self._once("GET", "/v1/health", None, _PROBE_SECONDS)
        health = _understood(Health.parse, body)
        if health.status == _DEGRADED:
            raise StoreError(ErrorCode.UNAVAILABLE, "the plugin says that it is degraded")
        return health

    async def put_namespace(self, name: str, put: NamespacePut) -> Namespace:
        path = f"/v1/namespaces/{_name(name)}"
        body = await self._ask(self._writes, "PUT", path, put.json(), repeat=True)
        if not body:
            return Namespace(name=name, kind=put.kind)
        return _understood(Namespace.parse, body)

    async def patch_namespace(self, name: str, patch: NamespacePatch) -> Namespace:
        _checked(patch.check)
        path = f"/v1/namespaces/{_name(name)}"
        body = await self._ask(self._writes, "PATCH", path, patch.json(), repeat=False)
        return _understood(Namespace.parse, body)

    async def delete_namespace(self, name: str) -> None:
        path = f"/v1/namespaces/{_name(name)}"
        await self._ask(self._writes, "DELETE", path, None, repeat=True)

    async def commit(self, namespace: str, write: MemoryWrite) -> Written:
        sent = write.json()
        _checked(lambda: MemoryWrite.parse(sent))
        path = f"/v1/namespaces/{_name(namespace)}/memories"
        repeat = write.id is not None
        body = await self._ask(self._writes, "POST", path, sent, repeat=repeat)
        return _understood(Written.parse, body)

    async def search(self, request: SearchRequest) -> list[Memory]:
        """Memories as the store gave them, but for those that nobody asked for.

        A store may know neither limits nor times, so rows of other namespaces, expired rows and
        those beyond the limit are dropped here, too.
        """
        _checked(request.check)
        body = await self._ask(self._reads, "POST", "/v1/search", request.json(), repeat=True)
        rows = body.get("memories", ()) if isinstance(body, dict) else ()
        if not isinstance(rows, list | None):
            raise StoreError(ErrorCode.INTERNAL, "the plugin's answer has no list of memories", 502)
        asked, now = set(request.namespaces), datetime.now(UTC)
        found = []
        for row in rows or ():
            memory = _understood(Memory.parse, row)
            expired = memory.expires_at is not None and memory.expires_at <= now
            if expired or memory.namespace not in asked:
                continue
            if request.kinds and memory.kind not in request.kinds:
                continue
            found.append(memory)
            if len(found) == request.most:
                break
        return found

    async def page(self, namespace: str, cursor: str) -> Page:
        path = f"/v1/namespaces/{_name(namespace)}/memories?cursor={quote(cursor, safe='')}"
        body = await self._ask(self._reads, "GET", path, None, repeat=True)
        return _understood(Page.parse, body)

    async def forget(self, memory_id: str, requested_by: str) -> None:
        body = {"requested_by_namespace": _checked_name(requested_by)}
        path = f"/v1/memories/{quote(memory_id, safe='')}"
        await self._ask(self._writes, "DELETE", path, body, repeat=True)

    async def _ask(
        self, breaker: Breaker, method: str, path: str, body: Any, *, repeat: bool
    ) -> Any:
        require_no_connection("the memory plugin")
        if not breaker.enter():
            raise CircuitOpen
        try:
            answer = await self._with_repeat(method, path, body, repeat=repeat)
        except StoreError as error:
            if error.counts:
                breaker.failed()
            else:
                breaker.succeeded()
            raise
        except BaseException:
            # The caller went away, or its own deadline passed.
            breaker.abandoned()
            raise
        breaker.succeeded()
        return answer

    async def _with_repeat(self, method: str, path: str, body: Any, *, repeat: bool) -> Any:
        until = time.monotonic() + self._timeout
        try:
            return await self._once(method, path, body, self._timeout)
        except StoreError as error:
            left = until - time.monotonic()
            if not repeat or not error.counts or left < _LEAST_LEFT * self._timeout:
                raise
        await asyncio.sleep(random.uniform(*_PAUSE_SECONDS))  # noqa: S311
        return await self._once(method, path, body, max(until - time.monotonic(), 0.01))

    async def _once(self, method: str, path: str, body: Any, seconds: float) -> Any:
        """One request; the JSON of its answer, None for an answer without a body."""
        data = None if body is None else json.dumps(body).encode()
        headers = {} if data is None else {"content-type": "application/json"}
        try:
            async with self._open().request(
                method,
                self.url + path,
                data=data,
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=seconds),
                allow_redirects=False,
            ) as response:
                status, text = response.status, await body_of(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            said = str(error) or type(error).__name__
            raise StoreError(
                ErrorCode.UNAVAILABLE, f"cannot reach the memory plugin: {said}", status=0
            ) from error
        if not 200 <= status < 300:
            raise refused(status, text)
        if not text:
            return None
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise StoreError(
                ErrorCode.INTERNAL, "the plugin's answer is not JSON", status=502
            ) from error

    def _open(self) -> aiohttp.ClientSession:
        if self._closed:
            raise StoreError(ErrorCode.UNAVAILABLE, "the worker is stopping", status=0)
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_CONNECTIONS),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=True,
            )
        return self._session


def _understood(parse: Callable[[object], T], body: object) -> T:
    try:
        return parse(body)
    except ContractInvalid as error:
        raise StoreError(
            ErrorCode.INTERNAL, f"the plugin's answer breaks the contract: {error}", status=502
        ) from error


def _checked(check: Callable[[], object]) -> None:
    try:
        check()
    except ContractInvalid as error:
        raise refusal(error) from error


def _checked_name(name: str) -> str:
    try:
        return namespace(name)
    except ContractInvalid as error:
        raise refusal(error) from error


def _name(name: str) -> str:
    return quote(_checked_name(name), safe=":")
