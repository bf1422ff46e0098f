"""What becomes of pods, from one watch for all workspaces."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, Final

import aiohttp
import structlog

from molecule_grpc.backends.contract.failures import BackendFailure
from molecule_grpc.backends.kubernetes import names
from molecule_grpc.backends.kubernetes.cluster import Cluster
from molecule_grpc.backends.kubernetes.failures import ApiError
from molecule_grpc.backends.kubernetes.lines import pieces_of_lines
from molecule_grpc.backends.kubernetes.names import Json
from molecule_grpc.backends.kubernetes.states import as_read

log = structlog.get_logger(__name__)

_GONE: Final = 410
# The API server ends a watch after so long, and the next one begins where that one ended.
_WATCH_SECONDS: Final = 300
_SILENCE_SECONDS: Final = _WATCH_SECONDS + 30.0
_PAUSE_SECONDS: Final = 1.0
_PAGE: Final = 500
# A cluster stores no object above 1.5 MiB; a longer event ends the watch, and pods are listed anew.
_MOST_EVENT_BYTES: Final = 2 * 1024 * 1024


class _Expired(Exception):
    """The cluster has forgotten the version that the watch was to begin at."""


class Pods:
    """Follows all pods of an installation while anybody waits for one of them.

    Everybody who waits shares one list and one watch; without anybody the watch ends. Of each pod
    only what `as_read` leaves is kept.
    """

    def __init__(self, cluster: Cluster, installation: str) -> None:
        self._cluster = cluster
        self._selector = names.selector(installation)
        self._known: dict[str, Json] = {}
        self._changed = asyncio.Condition()
        self._listed = False
        self._waiting = 0
        self._watch: asyncio.Task[None] | None = None

    async def changes(self, name: str) -> AsyncGenerator[Json | None, None]:
        """The pod of that name as it is now, and again after each change; None without one."""
        async with self._watching():
            shown: object = self
            while True:
                async with self._changed:
                    await self._changed.wait_for(
                        lambda: self._listed and self._known.get(name) is not shown  # noqa: B023
                    )
                    found = shown = self._known.get(name)
                yield found

    async def close(self) -> None:
        """End the watch."""
        await self._end()

    @contextlib.asynccontextmanager
    async def _watching(self) -> AsyncIterator[None]:
        self._waiting += 1
        if self._watch is None:
            self._watch = asyncio.create_task(self._follow(), name="kubernetes pods")
        try:
            yield
        finally:
            self._waiting -= 1
            if not self._waiting:
                await self._end()

    async def _end(self) -> None:
        watch, self._watch = self._watch, None
        self._listed = False
        self._known = {}
        if watch is not None:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)

    async def _follow(self) -> None:
        version = ""
        while True:
            try:
                if not version:
                    version = await self._list()
                version = await self._read(version)
            except _Expired:
                version = ""
            except (ApiError, BackendFailure, aiohttp.ClientError, OSError, ValueError) as error:
                log.warning("watch of pods interrupted", error=repr(error))
                version = ""
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _list(self) -> str:
        found: list[Json] = []
        query = {"labelSelector": self._selector, "limit": _PAGE}
        while True:
            page = await self._cluster.get(self._path, **query)
            found += [as_read(pod) for pod in page["items"]]
            if not (token := page["metadata"].get("continue")):
                break
            query["continue"] = token
        async with self._changed:
            # A pod that is the same as before is no change for those who wait.
            before = self._known
            self._known = {pod["metadata"]["name"]: pod for pod in found}
            self._known |= {
                name: pod for name, pod in before.items() if self._known.get(name) == pod
            }
            self._listed = True
            self._changed.notify_all()
        return str(page["metadata"]["resourceVersion"])

    async def _read(self, version: str) -> str:
        """Apply changes until the server ends the watch. Returns the version to go on from."""
        query: dict[str, Any] = {
            "watch": "true",
            "labelSelector": self._selector,
            "resourceVersion": version,
            "timeoutSeconds": _WATCH_SECONDS,
            "allowWatchBookmarks": "true",
        }
        async with (
            self._cluster.stream(self._path, **query) as answer,
            asyncio.timeout(_SILENCE_SECONDS),
        ):
            async for line in pieces_of_lines(answer, _MOST_EVENT_BYTES):
                version = await self._take(json.loads(line))
        return version

    async def _take(self, event: Json) -> str:
        kind, pod = event["type"], event["object"]
        if kind == "ERROR":
            if pod.get("code") == _GONE:
                raise _Expired
            raise ApiError(int(pod.get("code", 0)), str(pod.get("reason")), str(pod.get("message")))
        metadata = pod["metadata"]
        if kind != "BOOKMARK":
            async with self._changed:
                if kind == "DELETED":
                    self._known.pop(metadata["name"], None)
                else:
                    self._known[metadata["name"]] = as_read(pod)
                self._changed.notify_all()
        return str(metadata["resourceVersion"])

    @property
    def _path(self) -> str:
        return f"/api/v1/namespaces/{self._cluster.namespace}/pods"
