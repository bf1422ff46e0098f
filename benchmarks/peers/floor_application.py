"""What Envoy loads for the floor: the host, with an answer made before in place of the pipeline."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, cast

from google.protobuf.message import Message
from moleculeai.workspace.v1 import workspace_pb2
from moleculeai.workspace.v1 import workspace_service_pb2 as pb

from molecule_grpc.kernel.budget import Budget
from molecule_grpc.server.call import Call
from molecule_grpc.server.hosts.envoy.asgi import AsgiHost
from molecule_grpc.server.hosts.envoy.exchange import Event, Receive, Send
from molecule_grpc.server.methods import Method, bind
from molecule_grpc.server.pipeline import Pipeline
from molecule_grpc.server.process.garbage_collection import (
    freeze_startup_objects,
    garbage_collection_tasks,
)
from molecule_grpc.server.unread import Unread

_ANSWER = pb.HeartbeatResponse(
    status="ok",
    platform_inbound_secret="s" * 43,
    workspace_status=workspace_pb2.Workspace.online,
).SerializeToString()
_CALL_SECONDS = 60.0


class _Answers:
    """In the place of the pipeline: the same answer to every call."""

    async def unary(self, _method: Method, _request: Message, _call: Call) -> bytes:
        return _ANSWER


class _Handlers:
    """A handler for every name; none is called."""

    def __getattr__(self, name: str) -> Any:
        def handler(_request: Message, _call: Call) -> None:
            raise AssertionError(name)

        return handler


class Floor:
    """The ASGI application: called once with scope `lifespan`, then once for each HTTP request."""

    _asgi_single_callable = True

    def __init__(self) -> None:
        service = pb.DESCRIPTOR.services_by_name["WorkspaceService"]
        self._host = AsgiHost(
            bind([(service, _Handlers())]),
            cast("Pipeline", _Answers()),
            Unread(Budget("bytes of streams", {})),
            native={},
            pages={},
            write_seconds=_CALL_SECONDS,
            call_seconds=_CALL_SECONDS,
        )

    def __call__(self, scope: Event, receive: Receive, send: Send) -> Awaitable[None]:
        """Answer one request, or live as long as Envoy does."""
        if scope["type"] == "lifespan":
            return self._live(receive, send)
        return self._host(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        freeze_startup_objects()
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(self._host.open_calls.run())]
            running += [group.create_task(task.run()) for task in garbage_collection_tasks()]
            await send({"type": "lifespan.startup.complete"})
            await receive()
            for task in running:
                task.cancel()
        await send({"type": "lifespan.shutdown.complete"})


app = Floor()
