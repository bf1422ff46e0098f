"""Every list with the largest rows that it may hold is read in pages, by stock clients."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import grpc
import pytest
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from moleculeai.admin.v1 import admin_service_pb2
from moleculeai.delegation.v1 import delegation_service_pb2 as delegation
from moleculeai.rest.v1 import rest_pb2
from moleculeai.upload.v1 import upload_service_pb2
from moleculeai.workspace.v1 import workspace_service_pb2 as workspace

from molecule_grpc.client import Agent as Client
from molecule_grpc.client import Platform
from molecule_grpc.resources import descriptor_set
from molecule_grpc.server.edge.surface import read_surface
from tests.conftest import execute, with_database
from tests.e2e.large_rows import LISTINGS, Listing, Scene
from tests.e2e.parties import Party, Wire, found, wire_to
from tests.running import RunningServer
from tests.waiting import PATIENCE

MIB = 1024 * 1024
NEXT = "x-next-page-token"
# What a stock gRPC client takes.
STOCK_BYTES = 4 * MIB
# A page, with what JSON adds: names of fields, and six bytes for a control character.
REST_BYTES = 8 * MIB

# Answers with several parts whose number something else bounds.
BOUNDED = {
    "WorkspaceService/DeleteWorkspace": "the first 100 children",
    "WorkspaceService/CollapseWorkspace": "the names of the first 1000",
    "WorkspaceService/ExchangeBootstrapToken": "the files that a workspace starts with",
    "WorkspaceService/GetEgress": "100 hosts of 262 characters, and the last 100 refused",
    "WorkspaceService/GetQuota": "the quotas and budgets that there are",
    "WorkspaceService/ListWorkspaceFiles": "pages of 1 MiB, read by a test with an engine",
    "WorkspaceService/ExportBundle": "200 workspaces and 3 MiB, or refused",
    "WorkspaceService/ImportBundle": "the workspaces of the request, at most 200",
    "WorkspaceService/ListSecrets": "three owners' names, at most 200 of each",
    "WorkspaceService/ListSharedSecrets": "an owner's names, at most 200",
    "AdminService/ListOrgTemplates": "the first 200 of the disk, what each says bounded",
    "AdminService/ListTemplates": "the first 200 of the disk, what each says bounded",
    "AdminService/ImportOrg": "500 workspaces, what each says bounded",
    "AdminService/GetLiveness": "the tasks of a worker",
    "AdminService/ListImages": "the runtimes that have an image, each with at most 20 digests",
    "AdminService/PinImage": "at most 20 digests",
    "AdminService/PromoteImage": "at most 20 digests",
    "AdminService/RollbackImage": "at most 20 digests",
    "AdminService/RefreshImages": "the runtimes, and the first 1000 workspaces",
    "AdminService/GetMemoryStats": "the hundred largest namespaces",
    "AdminService/ImportMemories": "the first hundred that were left out, 200 bytes each",
    "UploadService/StageUploads": "the files of the request, at most 64",
}

REST_PATHS = {rpc.path: rpc.rest for rpc in read_surface(descriptor_set())}


def _methods() -> dict[str, MethodDescriptor]:
    """Every RPC that answers once, by `Service/Method`."""
    files = (admin_service_pb2, delegation, upload_service_pb2, workspace)
    return {
        f"{service.name}/{method.name}": method
        for file in files
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
        if not method.server_streaming
    }


METHODS = _methods()
LISTS = sorted(
    name
    for name, method in METHODS.items()
    if name not in BOUNDED
    and method.output_type.full_name.startswith("moleculeai.")
    and any(field.is_repeated for field in method.output_type.fields)
)


def test_every_list_has_large_rows() -> None:
    """Each list RPC has a row in `LISTINGS`: without a row no test reads large answers of it."""
    assert sorted(LISTINGS) == LISTS
    assert set(BOUNDED) <= set(METHODS)


@pytest.fixture(scope="module")
def large_server(
    postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """A server over a database of its own: its rows would fill the lists of other tests."""
    name = f"pages_{uuid.uuid4().hex[:12]}"
    asyncio.run(execute(postgres, f"CREATE DATABASE {name} TEMPLATE {template}"))
    running = RunningServer(with_database(postgres, name), tmp_path_factory.mktemp("pages"))
    running.start()
    yield running
    running.kill()
    asyncio.run(execute(postgres, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
async def large_wire(large_server: RunningServer) -> AsyncIterator[Wire]:
    async with wire_to(large_server) as opened:
        yield opened


@pytest.fixture
async def scene(large_server: RunningServer, large_wire: Wire) -> AsyncIterator[Scene]:
    """An organisation with one agent, and the database."""
    operator = large_wire.party(large_server.admin_token)
    org = await found(large_wire, operator)
    connection = await asyncpg.connect(large_server.database_url)
    yield Scene(operator, org, await org.hire(), connection)
    await connection.close()


@pytest.mark.parametrize("name", LISTS)
async def test_a_list_of_the_largest_rows_is_read_in_pages(scene: Scene, name: str) -> None:
    """Over gRPC and over REST each page arrives and has a row; together they have each row once."""
    listing = LISTINGS[name]
    request = await listing.plant(scene)
    caller: Party = getattr(scene, listing.caller)
    told = await by_grpc(caller, METHODS[name], request, listing)
    assert len(told) == len(set(told))
    assert len(told) == listing.rows or not listing.rows
    assert await by_rest(caller, METHODS[name], request, listing) == told


async def by_grpc(
    caller: Party, method: MethodDescriptor, asked: Message, listing: Listing
) -> list[str]:
    """Keys of all rows, read by a channel with default options."""
    request = type(asked)()
    request.CopyFrom(asked)
    output_type: Any = method.output_type
    call = caller.wire.channel.unary_unary(
        path_of(method),
        request_serializer=type(asked).SerializeToString,
        response_deserializer=message_factory.GetMessageClass(output_type).FromString,
    )
    keys: list[str] = []
    pages = 0
    while True:
        answering = call(request, metadata=tuple(caller.headers.items()), timeout=PATIENCE)
        answer: Any = await answering
        headers = dict(await answering.initial_metadata() or ())
        rows = getattr(answer, rows_of(method).name)
        assert rows
        assert answer.ByteSize() <= STOCK_BYTES
        keys += [str(getattr(row, listing.key)) for row in rows]
        pages += 1
        if not go_on(request, str(headers.get(NEXT, "")), keys, getattr(answer, "head_seq", 0)):
            assert pages > 1
            return keys


async def by_rest(
    caller: Party, method: MethodDescriptor, asked: Message, listing: Listing
) -> list[str]:
    """Keys of all rows, read through the edge."""
    request = type(asked)()
    request.CopyFrom(asked)
    field = rows_of(method)
    bare = method.GetOptions().Extensions[rest_pb2.face].bare_array
    keys: list[str] = []
    while True:
        path, query = rest_call(method, request)
        answer = await caller.wire.http.get(path, params=query, headers=caller.headers)
        assert answer.status_code == 200, answer.text[:500]
        assert len(answer.content) <= REST_BYTES
        body = answer.json()
        rows = body if bare else body[field.name]
        assert rows
        keys += [str(row[listing.key]) for row in rows]
        head = 0 if bare else body.get("head_seq", 0)
        if not go_on(request, answer.headers.get(NEXT, ""), keys, head):
            return keys


def go_on(request: Any, token: str, keys: list[str], head: int) -> bool:
    """Make the request one for the next page. False after the last page.

    An inbox goes on after its last item, while there is a newer one.
    """
    if isinstance(request, delegation.PullInboxRequest):
        request.after_seq = int(keys[-1])
        return request.after_seq < head
    request.page_token = token
    return bool(token)


def path_of(method: MethodDescriptor) -> str:
    service: Any = method.containing_service
    return f"/{service.full_name}/{method.name}"


def rows_of(method: MethodDescriptor) -> FieldDescriptor:
    [field] = [field for field in method.output_type.fields if field.is_repeated]
    return field


def rest_call(method: MethodDescriptor, request: Message) -> tuple[str, dict[str, Any]]:
    """Path and query of a request."""
    given = json_format.MessageToDict(request, preserving_proto_field_name=True)
    [*_, form] = REST_PATHS[path_of(method)]
    if "workspace_id" not in given:
        form = REST_PATHS[path_of(method)][0]
    path = form.template
    for name in form.fields:
        path = path.replace("{" + name + "}", str(given.pop(name)))
    return path, given


async def test_the_sdk_reads_all_pages(scene: Scene, large_server: RunningServer) -> None:
    await LISTINGS["WorkspaceService/ListPeers"].plant(scene)
    await LISTINGS["AdminService/ListDelegations"].plant(scene)
    await LISTINGS["UploadService/ListPendingUploads"].plant(scene)
    await LISTINGS["AdminService/ListOrgTokens"].plant(scene)
    token = scene.org.headers["authorization"].removeprefix("Bearer ")
    async with Platform(large_server.url, token) as platform:
        assert len([each async for each in platform.workspaces()]) == 41
        assert len(await platform.peers(scene.agent.id)) == 40
        assert len(await platform.ledger("stuck", 900)) == 900
        assert len(await platform.org_tokens()) == 510
    async with Client(large_server.url, scene.agent.id, scene.agent.token) as client:
        assert len(await client.peers()) == 40


async def test_a_crowd_of_children_is_named_in_part(scene: Scene) -> None:
    await scene.database.execute(
        """
        INSERT INTO workspaces (id, organization_id, parent_id, name, tier)
        SELECT gen_random_uuid(), $1, $2, repeat('n', 200) || n, 3 FROM generate_series(1, 150) n
        """,
        scene.org.id,
        scene.agent.id,
    )
    answer = await scene.org.rpc(workspace.DeleteWorkspaceRequest(workspace_id=scene.agent.id))
    assert (len(answer.children), answer.children_count) == (100, 150)


async def test_the_largest_frames_of_a_watch_arrive(scene: Scene) -> None:
    """A result and an error of 1 MiB, on a channel with default options."""
    other = await scene.org.hire()
    handed = await scene.agent.rpc(
        delegation.DelegateRequest(
            workspace_id=scene.agent.id, target_id=other.id, task="t" * 1_000_000
        )
    )
    await scene.database.execute(
        "UPDATE delegations SET status = 'failed', result = $2, error_detail = $2,"
        " failure_reason = 'agent_error' WHERE delegation_id = $1",
        handed.delegation_id,
        "r" * MIB,
    )
    watch = scene.agent.wire.channel.unary_stream(
        "/moleculeai.delegation.v1.DelegationService/WatchDelegation",
        request_serializer=delegation.WatchDelegationRequest.SerializeToString,
        response_deserializer=delegation.WatchDelegationResponse.FromString,
    )(
        delegation.WatchDelegationRequest(
            workspace_id=scene.agent.id, delegation_id=handed.delegation_id
        ),
        metadata=tuple(scene.agent.headers.items()),
        timeout=PATIENCE,
    )
    frames = [frame async for frame in watch]
    assert [frame.WhichOneof("frame") for frame in frames] == ["delegation", "end"]
    assert len(frames[0].delegation.result) == MIB
    assert await watch.code() is grpc.StatusCode.OK
