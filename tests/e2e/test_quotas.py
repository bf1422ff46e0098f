"""What organisations and workspaces may keep, and what is answered beyond: over both faces."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator

import grpc
import httpx
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from moleculeai.admin.v1 import admin_service_pb2 as admin
from moleculeai.delegation.v1 import delegation_service_pb2 as delegations
from moleculeai.workspace.v1 import workspace_service_pb2 as workspaces

from tests.conftest import execute, with_database
from tests.e2e.parties import Organization, Party, Wire, found, wire_to
from tests.running import RunningServer
from tests.waiting import PATIENCE, until

WORKSPACES = 3
ORGANIZATION_TOKENS = 4
WORKSPACE_TOKENS = 2
OPEN = 2
RECORD_BYTES = 100_000
AT_ONCE = 12


@pytest.fixture(scope="module")
def narrow_server(
    postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """A server with quotas that a test can use up."""
    asyncio.run(execute(postgres, f"CREATE DATABASE narrow_quotas TEMPLATE {template}"))
    running = RunningServer(
        with_database(postgres, "narrow_quotas"),
        tmp_path_factory.mktemp("narrow"),
        MOLECULE_ENABLE_TEST_TOKENS="1",
        MOLECULE_WORKSPACES_PER_ORGANIZATION=str(WORKSPACES),
        MOLECULE_TOKENS_PER_ORGANIZATION=str(ORGANIZATION_TOKENS),
        MOLECULE_TOKENS_PER_WORKSPACE=str(WORKSPACE_TOKENS),
        MOLECULE_OPEN_DELEGATIONS_PER_WORKSPACE=str(OPEN),
        MOLECULE_RECORD_BYTES_PER_DAY=str(RECORD_BYTES),
    )
    running.start()
    yield running
    running.kill()
    asyncio.run(execute(postgres, "DROP DATABASE narrow_quotas WITH (FORCE)"))


@pytest.fixture
async def narrow_wire(narrow_server: RunningServer) -> AsyncIterator[Wire]:
    async with wire_to(narrow_server) as opened:
        yield opened


@pytest.fixture
def ruler(narrow_wire: Wire, narrow_server: RunningServer) -> Party:
    """The operator of the server with small quotas."""
    return narrow_wire.party(narrow_server.admin_token)


@pytest.fixture
async def narrow(narrow_wire: Wire, ruler: Party) -> Organization:
    """An organisation of this test's own."""
    return await found(narrow_wire, ruler)


async def details_of(party: Party, request: Message, method: str) -> dict[str, Message]:
    """The details of the error that a call ends with, by their names."""
    call: grpc.aio.UnaryUnaryMultiCallable[Message, bytes] = party.wire.channel.unary_unary(
        method, request_serializer=type(request).SerializeToString
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(request, metadata=tuple(party.headers.items()), timeout=PATIENCE)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    packed = status_pb2.Status.FromString(
        dict(caught.value.trailing_metadata() or ())["grpc-status-details-bin"]
    )
    found: dict[str, Message] = {}
    for each in packed.details:
        name = each.TypeName().rpartition(".")[2]
        found[name] = message = getattr(error_details_pb2, name)()
        each.Unpack(message)
    return found


async def refusals(server: RunningServer, quota: str, of: str) -> float:
    """How many refusals the metric of a quota has counted."""
    async with httpx.AsyncClient(timeout=PATIENCE) as http:
        text = (await http.get(f"{server.url}/metrics")).text
    wanted = f'molecule_grpc_budget_refused_total{{budget="{quota}",of="{of}"}} '
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(wanted))


def create() -> workspaces.CreateWorkspaceRequest:
    return workspaces.CreateWorkspaceRequest(name=f"w {uuid.uuid4().hex[:8]}", external=True)


async def test_an_organization_has_so_many_workspaces_however_many_ask_at_once(
    narrow: Organization, narrow_wire: Wire, ruler: Party, narrow_server: RunningServer
) -> None:
    answers = await asyncio.gather(
        *(narrow.rpc(create()) for _ in range(AT_ONCE)), return_exceptions=True
    )
    made = [one for one in answers if not isinstance(one, BaseException)]
    assert len(made) == WORKSPACES
    details = await details_of(
        narrow, create(), "/moleculeai.workspace.v1.WorkspaceService/CreateWorkspace"
    )
    info, quota = details["ErrorInfo"], details["QuotaFailure"]
    assert isinstance(info, error_details_pb2.ErrorInfo)
    assert isinstance(quota, error_details_pb2.QuotaFailure)
    assert info.reason == "QUOTA_EXCEEDED"
    assert dict(info.metadata) == {"quota": "workspaces", "limit": "3", "of": "organization"}
    assert quota.violations[0].subject == f"organization:{narrow.id}"
    assert quota.violations[0].description == "workspaces: 3 for each organization"
    # Waiting does not help.
    assert "RetryInfo" not in details
    over_rest = await narrow.rest("POST", "/workspaces", {"name": "one more", "external": True})
    assert over_rest.status_code == 429
    assert "retry-after" not in over_rest.headers
    registered = await narrow.rest(
        "POST",
        "/registry/register",
        {"id": str(uuid.uuid4()), "agent_card": {"name": "a"}, "delivery_mode": "poll"},
    )
    assert registered.status_code == 429
    # Nobody else is concerned, and a removal makes room.
    await (await found(narrow_wire, ruler)).hire()
    await narrow.rest("DELETE", f"/workspaces/{made[0].id}")
    await narrow.hire()

    async def counted() -> float:
        return await refusals(narrow_server, "workspaces", "organization")

    assert await until(counted, lambda count: count >= AT_ONCE) >= AT_ONCE - WORKSPACES + 3


async def test_an_organization_has_so_many_live_tokens_however_many_ask_at_once(
    narrow: Organization,
) -> None:
    mint = admin.CreateOrgTokenRequest()
    answers = await asyncio.gather(
        *(narrow.rpc(mint) for _ in range(AT_ONCE)), return_exceptions=True
    )
    made = [one for one in answers if not isinstance(one, BaseException)]
    # The first token exists from the beginning.
    assert len(made) == ORGANIZATION_TOKENS - 1
    refused = await narrow.rest("POST", "/org/tokens", {})
    assert refused.status_code == 429
    details = await details_of(narrow, mint, "/moleculeai.admin.v1.AdminService/CreateOrgToken")
    info = details["ErrorInfo"]
    assert isinstance(info, error_details_pb2.ErrorInfo)
    assert (info.reason, info.metadata["max"]) == ("TOO_MANY_TOKENS", "4")
    await narrow.rest("DELETE", f"/org/tokens/{made[0].id}")
    assert (await narrow.rest("POST", "/org/tokens", {})).status_code == 200


async def test_a_workspace_has_so_many_live_tokens_whoever_mints_them(
    narrow: Organization, ruler: Party
) -> None:
    agent = await narrow.hire()
    test_token = f"/admin/workspaces/{agent.id}/test-token"
    assert (await ruler.rest("GET", test_token)).status_code == 200
    assert (await ruler.rest("GET", test_token)).status_code == 429
    assert (await agent.rest("POST", f"/workspaces/{agent.id}/tokens")).status_code == 429


async def test_a_caller_with_too_many_delegations_under_way_may_come_back(
    narrow: Organization, narrow_server: RunningServer
) -> None:
    caller, callee = await narrow.hire(), await narrow.hire()
    task = {"target_id": callee.id, "task": "work"}
    made = [await caller.rest("POST", f"/workspaces/{caller.id}/delegate", task) for _ in range(3)]
    assert [each.status_code for each in made] == [202, 202, 429]
    assert made[2].headers["retry-after"] == "30"
    assert made[2].json() == {
        "error": "too many open delegations: the limit of each workspace is 2",
        "retry_after": 30,
    }
    details = await details_of(
        caller,
        delegations.DelegateRequest(workspace_id=caller.id, target_id=callee.id, task="work"),
        "/moleculeai.delegation.v1.DelegationService/Delegate",
    )
    retry = details["RetryInfo"]
    assert isinstance(retry, error_details_pb2.RetryInfo)
    assert retry.retry_delay.seconds == 30
    done = made[0].json()["delegation_id"]
    await callee.rest(
        "POST", f"/workspaces/{callee.id}/delegations/{done}/update", {"status": "completed"}
    )
    again = await caller.rest("POST", f"/workspaces/{caller.id}/delegate", task)
    assert again.status_code == 202
    assert await refusals(narrow_server, "open delegations", "workspace") >= 2


async def test_a_record_takes_so_many_bytes_a_day(narrow: Organization, narrow_wire: Wire) -> None:
    """Whichever agent of the organisation writes, over REST and gRPC; the answer says when."""
    one, two = await narrow.hire(), await narrow.hire()
    report = {"activity_type": "agent_log", "request_body": {"text": "x" * 30_000}}
    for _ in range(3):
        assert (await one.rest("POST", f"/workspaces/{one.id}/activity", report)).is_success
    for answer in (
        await two.rest("POST", f"/workspaces/{two.id}/activity", report),
        await two.rest("POST", f"/workspaces/{two.id}/notify", {"message": "x" * 30_000}),
        await narrow.rest(
            "POST",
            f"/workspaces/{two.id}/a2a",
            {
                "method": "message/send",
                "params": {
                    "message": {
                        "role": "user",
                        "messageId": "m",
                        "parts": [{"kind": "text", "text": "x" * 30_000}],
                    }
                },
            },
        ),
    ):
        assert answer.status_code == 429, answer.text
        assert 0 < int(answer.headers["retry-after"]) <= 86_400
    small = {"activity_type": "agent_log", "summary": "small"}
    assert (await two.rest("POST", f"/workspaces/{two.id}/activity", small)).is_success


def uses_of(answer: workspaces.GetQuotaResponse) -> dict[tuple[str, str], tuple[float, float]]:
    """Use and limit, by quota and dimension."""
    return {(each.name, each.of): (each.used, each.limit) for each in answer.quotas}


async def test_who_asks_reads_where_it_stands(narrow: Organization, ruler: Party) -> None:
    """An agent of itself, an organisation of any of its own, the operator of all."""
    caller, callee = await narrow.hire(), await narrow.hire()
    await caller.rest("POST", f"/workspaces/{caller.id}/tokens")
    task = {"target_id": callee.id, "task": "work"}
    await caller.rest("POST", f"/workspaces/{caller.id}/delegate", task)
    own = await caller.rpc(workspaces.GetQuotaRequest())
    assert (own.organization_id, own.workspace_id) == (narrow.id, caller.id)
    uses = uses_of(own)
    assert uses["workspaces", "organization"] == (2, WORKSPACES)
    assert uses["live tokens", "organization"] == (1, ORGANIZATION_TOKENS)
    assert uses["live tokens", "workspace"] == (2, WORKSPACE_TOKENS)
    assert uses["open delegations", "workspace"] == (1, OPEN)
    assert uses["open delegations", "organization"] == (1, 100_000)
    assert uses["undone items of an inbox", "workspace"] == (0, 10_000)
    assert uses["waiting files", "workspace"] == (0, 200)
    used, limit = uses["bytes of records a day", "organization"]
    assert limit == RECORD_BYTES
    assert 512 < used < 2_000
    # Kept first; then what is in use at once, by this very call, too.
    kept = [each.at_once for each in own.quotas]
    assert kept == sorted(kept)
    assert uses["streams", "workspace"] == (0, 1_500)
    assert uses["statements", "token"][1] == 4
    assert ("statements", "worker") not in uses
    of_callee = await narrow.rest("GET", "/quota", workspace_id=callee.id)
    assert of_callee.status_code == 200
    body = of_callee.json()
    assert (body["organization_id"], body["workspace_id"]) == (narrow.id, callee.id)
    assert {"name": "undone items of an inbox", "of": "workspace", "used": 1, "limit": 10_000,
            "at_once": False} in body["quotas"]  # fmt: skip
    alone = await narrow.rpc(workspaces.GetQuotaRequest())
    assert {each.of for each in alone.quotas} == {"organization", "token"}
    seen = await ruler.rpc(workspaces.GetQuotaRequest(organization_id=narrow.id))
    assert uses_of(seen)["workspaces", "organization"] == (2, WORKSPACES)
    assert ("streams", "worker") in uses_of(seen)


async def test_nobody_reads_where_others_stand(
    narrow: Organization, narrow_wire: Wire, ruler: Party
) -> None:
    stranger = await found(narrow_wire, ruler)
    agent, peer = await narrow.hire(), await narrow.hire()
    for party, query in (
        (agent, {"workspace_id": peer.id}),
        (agent, {"organization_id": stranger.id}),
        (stranger, {"workspace_id": agent.id}),
        (stranger, {"organization_id": narrow.id}),
        (ruler, {"organization_id": stranger.id, "workspace_id": agent.id}),
        (ruler, {"organization_id": str(uuid.uuid4())}),
    ):
        answer = await party.rest("GET", "/quota", **query)
        assert answer.status_code == 404, (query, answer.text)
    await narrow.rest("DELETE", f"/workspaces/{peer.id}")
    gone = await narrow.rest("GET", "/quota", workspace_id=peer.id)
    assert gone.status_code == 404
