"""Whatever a client sends, it is told what is wrong, nothing changes, and the server lives on.

MOLECULE_TEST_EXAMPLES=1000 looks longer, and at other examples each time.
"""

from __future__ import annotations

import os
import re


import httpx
import pytest
from google.protobuf import json_format
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moleculeai.admin.v1 import admin_service_pb2 as admin
from moleculeai.delegation.v1 import delegation_service_pb2 as delegation
from moleculeai.workspace.v1 import workspace_service_pb2 as workspace

from tests.e2e import garbage
from tests.e2e.families import Family
from tests.e2e.outcomes import call, path_of
from tests.e2e.parties import Party
from tests.e2e.rows import Rows
from tests.e2e.valid_requests import valid_request
from tools.descriptors import Contract, Rpc

EXAMPLES = int(os.environ.get("MOLECULE_TEST_EXAMPLES", "0"))
RPCS = list(Contract.load().rpcs())
# What a server says of faults of its own, or of those that it should have found itself.
OURS = {"INTERNAL", "UNKNOWN", "DATA_LOSS", "DEADLINE_EXCEEDED", "CANCELLED", "UNIMPLEMENTED"}
# Refusals that tell of the world and not of the server.
AWAY = {"PEER_UNAVAILABLE", "URL_NOT_REGISTERED"}
AWAY_TEXTS = re.compile(r"workspace is |workspace url failed|workspace has no URL")
INSIDE = re.compile(
    r"Traceback|File \"|asyncpg|protovalidate|\.py\b|/work/|site-packages|unix:|\.sock\b"
    r"|\b(SELECT|INSERT|UPDATE|DELETE|FROM|relation|syntax error|column|constraint|jsonb)\b"
    r"|workspaces_|activity_logs|inbox_(heads|items)|_tokens\b|idx_|pg_"
)


def bounded(examples: int) -> settings:
    """The same few examples in every run, or as many new ones as were asked for."""
    return settings(
        max_examples=EXAMPLES or examples,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def name_of(rpc: Rpc) -> str:
    return f"{rpc.service.rpartition('.')[2]}.{rpc.name}"


pytestmark = pytest.mark.timeout(3600 if EXAMPLES else 60)


@pytest.fixture(params=RPCS, ids=name_of)
def rpc(request: pytest.FixtureRequest) -> Rpc:
    """Each RPC in turn."""
    given_rpc: Rpc = request.param
    return given_rpc


@pytest.fixture(params=[rpc for rpc in RPCS if rpc.bindings], ids=name_of)
def rest_rpc(request: pytest.FixtureRequest) -> Rpc:
    """Each RPC in turn that REST can express."""
    given_rpc: Rpc = request.param
    return given_rpc


@pytest.fixture
async def good(rpc: Rpc, family: Family) -> Message:
    """A request that would succeed."""
    return await valid_request(rpc, family)


@pytest.fixture
async def good_rest(rest_rpc: Rpc, family: Family) -> Message:
    """A request that would succeed, of an RPC with a REST form."""
    return await valid_request(rest_rpc, family)


@given(data=st.data())
@bounded(10)
async def test_bytes_that_are_no_request(
    rpc: Rpc, family: Family, rows: Rows, data: st.DataObject
) -> None:
    sent = data.draw(st.binary(max_size=200))
    await send(family.operator, rpc, sent, family, rows)


@given(data=st.data())
@bounded(25)
async def test_requests_that_are_nearly_good(
    rpc: Rpc, good: Message, family: Family, rows: Rows, data: st.DataObject
) -> None:
    """By the operator and by the workspace itself."""
    party = data.draw(st.sampled_from([family.own, family.operator]))
    sent = data.draw(garbage.strange(good))
    await send(party, rpc, sent, family, rows)


@given(data=st.data())
@bounded(25)
async def test_json_that_is_nearly_good(
    rest_rpc: Rpc, good_rest: Message, family: Family, rows: Rows, data: st.DataObject
) -> None:
    fields = json_format.MessageToDict(good_rest, preserving_proto_field_name=True)
    path = path_of(rest_rpc, fields)
    body = data.draw(garbage.ODD_JSON | garbage.json_like(fields))
    party = data.draw(st.sampled_from([family.own, family.operator]))
    headers = {**party.headers, "content-type": "application/json"}
    await send_rest(rest_rpc, path, headers, body, family, rows)


@given(data=st.data())
@bounded(15)
async def test_urls_and_headers_that_nobody_expects(
    rest_rpc: Rpc, good_rest: Message, family: Family, rows: Rows, data: st.DataObject
) -> None:
    fields = json_format.MessageToDict(good_rest, preserving_proto_field_name=True)
    template = rest_rpc.bindings[0].path
    odd = data.draw(garbage.SEGMENTS)
    path = data.draw(
        st.sampled_from([path_of(rest_rpc, fields), re.sub(r"\{\w+\}", odd, template)])
    )
    path += data.draw(garbage.QUERIES)
    headers = {**family.operator.headers, "content-type": data.draw(garbage.CONTENT_TYPES)}
    await send_rest(rest_rpc, path, headers, data.draw(garbage.ODD_JSON), family, rows)


async def send(party: Party, rpc: Rpc, sent: bytes, family: Family, rows: Rows) -> None:
    """One call over gRPC; raises when the server was impolite."""
    before = await rows.look()
    outcome = await call(party, rpc, sent)
    told = f"{outcome.code} {outcome.reason}: {outcome.message}"
    assert outcome.code not in OURS, told
    assert outcome.code != "UNAVAILABLE" or outcome.reason in AWAY, told
    assert not INSIDE.search(outcome.message), told
    if outcome.code == "OK":
        await read_everything(family)
    else:
        assert await rows.look() == before, told


async def send_rest(
    rpc: Rpc, path: str, headers: dict[str, str], body: bytes, family: Family, rows: Rows
) -> None:
    """One call over REST; raises when the server or the edge was impolite."""
    before = await rows.look()
    http = family.operator.wire.http
    url = http.base_url.copy_with(raw_path=path.encode())
    verb = rpc.bindings[0].verb
    async with http.stream(verb, url, headers=headers, content=body) as answer:
        if answer.status_code == httpx.codes.OK and rpc.face.sse:
            return
        await answer.aread()
    told = f"{answer.status_code}: {answer.text[:500]}"
    assert answer.status_code < 500 or AWAY_TEXTS.search(told), told
    if answer.is_success:
        await read_everything(family)
        return
    assert await rows.look() == before, told
    if answer.status_code != 409 or "error" in answer.text:
        assert isinstance(answer.json()["error"], str), told
    assert not INSIDE.search(answer.text), told


async def read_everything(family: Family) -> None:
    """What was taken in can be read again, by every reader and in both forms."""
    own = family.own.id
    for request in (
        admin.ListDelegationsRequest(),
        workspace.ListWorkspacesRequest(),
        workspace.ListPeersRequest(workspace_id=family.related.id),
        delegation.ListDelegationsRequest(workspace_id=own),
        delegation.ListActivityRequest(workspace_id=own),
        delegation.ListActivityRequest(workspace_id=family.related.id),
        delegation.PullInboxRequest(workspace_id=own),
        delegation.PullInboxRequest(workspace_id=family.related.id),
    ):
        await family.operator.rpc(request)
    for path in (
        "/workspaces",
        f"/registry/{family.related.id}/peers",
        f"/workspaces/{own}/delegations",
        f"/workspaces/{own}/activity",
        f"/workspaces/{family.related.id}/activity",
        f"/workspaces/{own}/inbox",
        f"/workspaces/{family.related.id}/inbox",
    ):
        answer = await family.operator.rest("GET", path)
        assert answer.status_code == 200, f"{path}: {answer.text}"
