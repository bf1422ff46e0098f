"""Parties that call a running server over REST and gRPC, with a token of theirs or without."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc
import httpx
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from moleculeai.admin.v1 import admin_service_pb2
from moleculeai.delegation.v1 import delegation_service_pb2
from moleculeai.memory.v1 import memory_service_pb2
from moleculeai.upload.v1 import upload_service_pb2
from moleculeai.workspace.v1 import workspace_service_pb2

from tests.running import RunningServer
from tests.waiting import PATIENCE

_SERVICES = (
    admin_service_pb2, delegation_service_pb2, memory_service_pb2, upload_service_pb2,
    workspace_service_pb2,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wire:
    """The two ways into one server."""

    http: httpx.AsyncClient
    channel: grpc.aio.Channel

    def party(self, token: str | None = None, **headers: str) -> Party:
        """Somebody who calls with this token, or without any."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            named["authorization"] = f"Bearer {token}"
        return Party(self, named)


@contextlib.asynccontextmanager
async def wire_to(server: RunningServer, *options: tuple[str, int]) -> AsyncIterator[Wire]:
    """Open both ways into a server; `options` are arguments of the gRPC channel."""
    async with (
        httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as http,
        # Else all channels of this process would share one connection, and so one worker.
        grpc.aio.insecure_channel(
            server.grpc_target, options=[("grpc.use_local_subchannel_pool", 1), *options]
        ) as channel,
    ):
        yield Wire(http, channel)


@dataclass(frozen=True, slots=True)
class Party:
    """Calls with the same headers each time."""

    wire: Wire
    headers: dict[str, str]

    async def rest(self, method: str, path: str, body: Any = None, **params: Any) -> httpx.Response:
        """One REST call."""
        return await self.wire.http.request(
            method, path, json=body, params=params or None, headers=self.headers
        )

    async def rpc(self, request: Message) -> Any:
        """The unary RPC whose request this is.

        Raises:
            Refused: the call ended without an answer.
        """
        method = method_of(request)
        # protobuf's stubs have two classes for one kind of descriptor.
        output_type: Any = method.output_type
        answer = message_factory.GetMessageClass(output_type)
        call = self.wire.channel.unary_unary(
            f"/{method.containing_service.full_name}/{method.name}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        try:
            return await call(request, metadata=tuple(self.headers.items()), timeout=PATIENCE)
        except grpc.aio.AioRpcError as error:
            raise refused(error) from None


def method_of(request: Message) -> MethodDescriptor:
    """The RPC whose request this is, in whichever file the request stands."""
    name = request.DESCRIPTOR.name.removesuffix("Request")
    found: list[MethodDescriptor] = [
        method
        for file in _SERVICES
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
        if method.name == name and method.input_type.full_name == request.DESCRIPTOR.full_name
    ]
    [method] = found
    return method


async def until_refused(party: Party, path: str) -> None:
    """Wait until a party's token is refused there: a revocation is heard within milliseconds."""
    async with asyncio.timeout(PATIENCE):
        while (await party.rest("GET", path)).status_code != 401:
            pass


class Refused(Exception):
    """A call that ended without an answer: its code, reason and message."""

    def __init__(self, code: str, reason: str, message: str) -> None:
        super().__init__(f"{code} {reason}: {message}")
        self.code = code
        self.reason = reason
        self.message = message


def refused(error: grpc.aio.AioRpcError) -> Refused:
    """What a gRPC client reads from an error."""
    info = error_details_pb2.ErrorInfo()
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                detail.Unpack(info)
    return Refused(error.code().name, info.reason, error.details() or "")


@dataclass(frozen=True, slots=True)
class Agent(Party):
    """A workspace, calling with its token."""

    id: str
    token: str


@dataclass(frozen=True, slots=True)
class Organization(Party):
    """Whoever administers one organisation."""

    id: str

    async def hire(self, name: str = "", **fields: Any) -> Agent:
        """Create an external workspace and mint its token."""
        name = name or f"agent {uuid.uuid4().hex[:8]}"
        answer = await self.rest("POST", "/workspaces", {"name": name, "external": True, **fields})
        assert answer.status_code == 201, answer.text
        body = answer.json()
        token = body["connection"]["auth_token"]
        return Agent(self.wire, self.wire.party(token).headers, body["id"], token)


async def found(wire: Wire, operator: Party) -> Organization:
    """A new organisation, so that a test counts nothing but its own rows."""
    made = await operator.rest(
        "POST", "/admin/organizations", {"slug": f"o-{uuid.uuid4().hex[:12]}"}
    )
    assert made.status_code == 201, made.text
    organization_id = made.json()["id"]
    minted = await operator.rest("POST", "/org/tokens", {"organization_id": organization_id})
    assert minted.status_code == 200, minted.text
    headers = wire.party(minted.json()["auth_token"]).headers
    return Organization(wire, headers, organization_id)
