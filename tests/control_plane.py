"""A control plane over HTTP that runs machines as rows of a dict, and misbehaves as a test says."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aiohttp import web

from tests.plugin_servers import answering
from tests.waiting import PATIENCE

Behaviour = Callable[[web.Request], Awaitable[web.StreamResponse]]
SECRET = "shared-secret-of-the-control-plane"


class Asked(NamedTuple):
    """One request that arrived. `port` is the caller's."""

    port: int
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass(slots=True)
class Machine:
    """One machine. It is gone when its state is `terminated`."""

    id: str
    workspace_id: str
    operation_id: str
    env: dict[str, str]
    state: str = "running"


@dataclass(slots=True)
class ScriptedControlPlane:
    """Answers as a control plane does; `script` says, by method, what befalls the next requests.

    Attributes:
        most_starts: the most starts that were under way at once.

    Args:
        keeps_keys: whether a second start with the same key finds the machine of the first.
        tells_without_id: whether it tells the state of a workspace whose machine is not named.
        reads_operations: whether it then tells of the machine of the operation that is named, and
            not of the workspace's last one.
    """

    keeps_keys: bool = True
    tells_without_id: bool = True
    reads_operations: bool = True
    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    machines: dict[str, Machine] = field(default_factory=dict)
    script: dict[str, list[Behaviour]] = field(default_factory=dict)
    most_starts: int = 0
    _starting: int = 0
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def count(self, method: str) -> int:
        """How many requests of a method have arrived."""
        return sum(each.method == method for each in self.asked)

    @property
    def running(self) -> list[Machine]:
        """Machines that cost money."""
        return [each for each in self.machines.values() if each.state != "terminated"]

    async def wait(self, wanted: Callable[[], bool]) -> None:
        """Until something is so, looked at after each request."""
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(wanted)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One request."""
        text = await request.text()
        self.asked.append(
            Asked(
                _port(request),
                request.method,
                request.path,
                dict(request.query),
                {name.lower(): value for name, value in request.headers.items()},
                json.loads(text) if text else None,
            )
        )
        await self._tell()
        self._starting += request.method == "POST"
        self.most_starts = max(self.most_starts, self._starting)
        try:
            if script := self.script.get(request.method):
                return await script.pop(0)(request)
            return await self.answer(request)
        finally:
            self._starting -= request.method == "POST"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """What a control plane in good health answers."""
        if request.headers.get("authorization") != f"Bearer {SECRET}":
            return web.json_response({"error": "who are you"}, status=401)
        workspace_id = request.path.split("/")[-2 if request.method == "GET" else -1]
        if request.method == "POST":
            answer = self._provision(await request.json(), request.headers["idempotency-key"])
        elif request.method == "DELETE":
            answer = self._end(request.query.get("instance_id", ""))
        elif "/admin/" in request.path:
            answer = web.json_response({"output": f"console of {workspace_id}"})
        else:
            operation = request.headers.get("x-molecule-operation-id", "")
            answer = self._state(workspace_id, request.query.get("instance_id", ""), operation)
        await self._tell()
        return answer

    def _provision(self, body: dict[str, Any], key: str) -> web.Response:
        known = next((m for m in self.running if m.operation_id == key), None)
        if known is None or not self.keeps_keys:
            known = Machine(
                f"i-{len(self.machines) + 1:08x}", body["workspace_id"], key, body["env"]
            )
            self.machines[known.id] = known
        told = {"instance_id": known.id, "private_ip": "10.0.0.1", "state": known.state}
        return web.json_response(told, status=201)

    def _end(self, instance_id: str) -> web.Response:
        machine = self.machines.get(instance_id)
        if machine is None:
            return web.json_response({"code": "instance_not_found"}, status=404)
        machine.state = "terminated"
        return web.json_response({"state": "shutting-down"})

    def _state(self, workspace_id: str, instance_id: str, operation: str) -> web.Response:
        if not instance_id and not self.tells_without_id:
            return web.json_response({"error": "instance_id is required"}, status=400)
        found = [
            each
            for each in self.machines.values()
            if each.workspace_id == workspace_id
            and instance_id in ("", each.id)
            and (instance_id or not self.reads_operations or each.operation_id == operation)
        ]
        if not found:
            return web.json_response({"code": "instance_not_found"}, status=404)
        return web.json_response({"state": found[-1].state, "instance_id": found[-1].id})

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


@contextlib.asynccontextmanager
async def control_plane(**given: Any) -> AsyncIterator[ScriptedControlPlane]:
    """A control plane that listens while inside."""
    plane = ScriptedControlPlane(**given)
    async with answering(plane.handle) as url:
        plane.url = url
        yield plane


def _port(request: web.Request) -> int:
    assert request.transport is not None
    return int(request.transport.get_extra_info("peername")[1])


# Behaviours.

_SECRETIVE = "<html>internal-db-7.example: out of connections</html>"


def failing(status: int, body: object = _SECRETIVE) -> Behaviour:
    """An answer of this status."""

    async def behave(_: web.Request) -> web.StreamResponse:
        if isinstance(body, str):
            return web.Response(status=status, text=body)
        return web.json_response(body, status=status)

    return behave


async def hang(_: web.Request) -> web.StreamResponse:
    """No answer, ever."""
    await asyncio.sleep(3600)
    raise AssertionError("hung for an hour")


async def garbage(_: web.Request) -> web.StreamResponse:
    """A success that says nothing."""
    return web.Response(status=200, body=b"\xff\xfe{not json")


async def too_long(_: web.Request) -> web.StreamResponse:
    """A success of 70 KiB."""
    return web.json_response({"state": "running", "instance_id": "i-1", "more": "x" * 70 * 1024})


async def drip(request: web.Request) -> web.StreamResponse:
    """A success whose body never ends: a byte each 50 ms."""
    answer = web.StreamResponse(status=200)
    await answer.prepare(request)
    while True:
        await answer.write(b" ")
        await asyncio.sleep(0.05)


async def hang_up(request: web.Request) -> web.StreamResponse:
    """The connection breaks."""
    assert request.transport is not None
    request.transport.close()
    return web.Response()


def done_then(plane: ScriptedControlPlane, behaviour: Behaviour) -> Behaviour:
    """What was asked for is done; only the answer goes wrong."""

    async def behave(request: web.Request) -> web.StreamResponse:
        await plane.answer(request)
        return await behaviour(request)

    return behave


def held(event: asyncio.Event, then: Behaviour) -> Behaviour:
    """Nothing happens until the event."""

    async def behave(request: web.Request) -> web.StreamResponse:
        await event.wait()
        return await then(request)

    return behave
