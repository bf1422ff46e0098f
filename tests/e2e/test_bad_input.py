"""Whatever a client sends, it is told what is wrong, nothing changes, and the server lives on.

MOLECULE_TEST_EXAMPLES=1000 looks longer, and at other examples each time.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable

import httpx
import pytest
from google.api import httpbody_pb2
from google.protobuf import json_format
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moleculeai.admin.v1 import admin_service_pb2 as admin
from moleculeai.delegation.v1 import delegation_service_pb2 as delegation
from moleculeai.workspace.v1 import workspace_service_pb2 as workspace

from tests.e2e import garbage
from tests.e2e.families import Family
from tests.e2e.outcomes import VARIABLE, call, path_of
from tests.e2e.parties import Party
from tests.e2e.rows import Rows
from tests.e2e.valid_requests import valid_frames
from tools.descriptors import Contract, Rpc

EXAMPLES = int(os.environ.get("MOLECULE_TEST_EXAMPLES", "0"))
RPCS = list(Contract.load().rpcs())
# Codes that blame the server: bad input must never lead to one of them.
OURS = {"INTERNAL", "UNKNOWN", "DATA_LOSS", "DEADLINE_EXCEEDED", "CANCELLED", "UNIMPLEMENTED"}
# Refusals that tell of the world and not of the server.
AWAY = {"PEER_UNAVAILABLE", "URL_NOT_REGISTERED", "NO_BACKEND"}
AWAY_TEXTS = re.compile(
    r"workspace is |workspace url failed|workspace has no URL|no backend here has"
)
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


pytestmark = pytest.mark.timeout(3600 if EXAMPLES else 300)


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
    return (await valid_frames(rpc, family))[0]


@pytest.fixture
async def good_rest(rest_rpc: Rpc, family: Family) -> Message:
    """A request that would succeed, of an RPC with a REST form."""
    return (await valid_frames(rest_rpc, family))[0]


@given(data=st.data())
@bounded(3)
async def test_bytes_that_are_no_request(
    rpc: Rpc, bystanders: Family, rows: Rows, data: st.DataObject
) -> None:
    sent = data.draw(st.binary(max_size=200))
    await send(bystanders.operator, rpc, sent, bystanders, rows)


@given(data=st.data())
@bounded(6)
async def test_requests_that_are_nearly_good(
    rpc: Rpc, good: Message, family: Family, rows: Rows, data: st.DataObject
) -> None:
    """By the operator and by the workspace itself."""
    party = family.parties[data.draw(st.sampled_from(["own token", "operator"]))]
    sent = data.draw(garbage.strange(good))
    await send(party, rpc, sent, family, rows)


@given(data=st.data())
@bounded(6)
async def test_json_that_is_nearly_good(
    rest_rpc: Rpc, good_rest: Message, family: Family, rows: Rows, data: st.DataObject
) -> None:
    path, body, content_type = rest_form(rest_rpc, good_rest)
    spoilt = garbage.broken(body) if content_type else garbage.json_like(json.loads(body))
    body = data.draw(garbage.ODD_JSON | spoilt)
    party = family.parties[data.draw(st.sampled_from(["own token", "operator"]))]
    headers = {**party.headers, "content-type": content_type or "application/json"}
    await send_rest(rest_rpc, path, headers, body, family, rows)


@given(data=st.data())
@bounded(4)
async def test_urls_and_headers_that_nobody_expects(
    rest_rpc: Rpc, good_rest: Message, family: Family, rows: Rows, data: st.DataObject
) -> None:
    path, *_ = rest_form(rest_rpc, good_rest)
    odd = VARIABLE.sub(data.draw(garbage.SEGMENTS), rest_rpc.bindings[0].path)
    path = data.draw(st.sampled_from([path, odd]))
    path += data.draw(garbage.QUERIES)
    headers = {**family.operator.headers, "content-type": data.draw(garbage.CONTENT_TYPES)}
    await send_rest(rest_rpc, path, headers, data.draw(garbage.ODD_JSON), family, rows)


def rest_form(rpc: Rpc, good: Message) -> tuple[str, bytes, str]:
    """Path and body of a good request, and the content type of a body that is no JSON."""
    fields = json_format.MessageToDict(good, preserving_proto_field_name=True)
    path = path_of(rpc, fields)
    if rpc.bindings[0].body in ("", "*"):
        return path, json.dumps(fields).encode(), ""
    body = getattr(good, rpc.bindings[0].body)
    if not isinstance(body, httpbody_pb2.HttpBody):
        return path, json.dumps(fields.get(rpc.bindings[0].body, {})).encode(), ""
    is_json = body.data.startswith(b"{")
    return path, body.data, "" if is_json else body.content_type or "application/octet-stream"


async def send(party: Party, rpc: Rpc, sent: bytes, family: Family, rows: Rows) -> None:
    """One call over gRPC; raises when the server was impolite."""
    before = await rows.look()
    outcome = await call(party, rpc, sent)
    told = f"{outcome.code} {outcome.reason}: {outcome.message}"
    assert outcome.code not in OURS, told
    assert outcome.code != "UNAVAILABLE" or outcome.reason in AWAY, told
    assert not INSIDE.search(outcome.message), told
    if changed := await rows.changed_since(before):
        assert outcome.code == "OK", f"{told}; changed: {changed}"
        await read_everything(family)


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
    if changed := await rows.changed_since(before):
        assert answer.is_success, f"{told}; changed: {changed}"
        await read_everything(family)
    if answer.is_success:
        return
    if is_error_body(answer):
        assert isinstance(answer.json()["error"], str), told
    assert not INSIDE.search(answer.text), told


def is_error_body(answer: httpx.Response) -> bool:
    """Whether REST promises an error here: not to gRPC's own content types, nor where the answer
    itself is the refusal."""
    is_rest = not answer.request.headers.get("content-type", "").startswith("application/grpc")
    words_of_its_own = (b"confirmation_required", b'"jsonrpc":"2.0"')
    return is_rest and not any(words in answer.content for words in words_of_its_own)


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


def _card(family: Family, deep: str) -> tuple[str, str]:
    return "/registry/update-card", f'{{"workspace_id":"{family.own.id}","agent_card":{deep}}}'


def _announcement(family: Family, deep: str) -> tuple[str, str]:
    return "/registry/register", f'{{"id":"{family.own.id}","agent_card":{deep}}}'


def _message(family: Family, deep: str) -> tuple[str, str]:
    message = f'{{"parts":[{{"kind":"text","text":"x"}}],"more":{deep}}}'
    body = f'{{"method":"message/send","params":{{"message":{message}}}}}'
    return f"/workspaces/{family.own.id}/a2a", body


def _report(family: Family, deep: str) -> tuple[str, str]:
    bodies = f'"request_body":{deep},"response_body":{deep},"tool_trace":{deep}'
    return f"/workspaces/{family.own.id}/activity", f'{{"activity_type":"agent_log",{bodies}}}'


@pytest.mark.parametrize("writer", [_card, _announcement, _message, _report])
@pytest.mark.parametrize("objects", [False, True])
async def test_deep_json_is_refused_or_can_be_read_again(
    writer: Callable[[Family, str], tuple[str, str]], objects: bool, family: Family
) -> None:
    """One body that no reader can parse would close a whole record, inbox or list."""
    taken: set[int] = set()
    for depth in (1, 16, 20, 24, 28, 32, 36, 40, 44, 46, 47, 48, 49, 50, 60, 100, 400, 2000):
        path, body = writer(family, garbage.nested(depth, objects=objects))
        answer = await family.operator.wire.http.post(
            path, content=body, headers=family.operator.headers
        )
        assert answer.status_code in (200, 400), f"{depth}: {answer.text}"
        if answer.status_code == 200:
            taken.add(depth)
            await read_everything(family)
    assert taken >= {1, 16}


@pytest.mark.parametrize("size", [9_000, 15_000, 30_000, 50_000])
async def test_a_long_url_is_read_or_refused_but_never_lost(family: Family, size: int) -> None:
    """And never taken for an exhausted quota."""
    answer = await family.operator.rest("GET", "/workspaces", pad="x" * size)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "name",
    ["x*y", "x'y", "a%20b", "x|y", "x-data-bin", "grpc-timeout", "grpc-encoding", "te", "cookie"],
)
async def test_a_header_that_only_http_knows_does_no_harm(family: Family, name: str) -> None:
    """HTTP permits names and values for which gRPC refuses a call as if the server were broken."""
    party = family.operator
    answer = await party.wire.http.get("/workspaces", headers={**party.headers, name: "!"})
    assert answer.status_code == 200, answer.text


async def test_headers_beyond_any_use_are_refused_by_the_edge(family: Family) -> None:
    """431, before they reach a worker."""
    wire = family.operator.wire
    answer = await wire.party(x_pad="x" * 70_000).rest("GET", "/health")
    assert answer.status_code == 431
