"""What the edge makes of a worker's answers: status, body and headers of REST, SSE and gRPC-Web."""

from __future__ import annotations

import asyncio
import json
import struct
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import grpc
import pytest
from google.api import httpbody_pb2
from google.rpc import status_pb2
from moleculeai.admin.v1 import admin_service_pb2
from moleculeai.delegation.v1 import activity_pb2, delegation_service_pb2, inbox_pb2
from moleculeai.workspace.v1 import workspace_service_pb2

from molecule_grpc.kernel import errors
from molecule_grpc.server import status
from tests.connections import connected
from tests.e2e.scripted_edge import ScriptedEdge, scripted_edge
from tests.e2e.scripted_worker import Reply

WORKSPACE = "0190a5e2-0000-7000-8000-000000000001"
ANY_PATH = f"/workspaces/{WORKSPACE}"
STREAM = f"/workspaces/{WORKSPACE}/inbox/stream"
GET_WORKSPACE = "/moleculeai.workspace.v1.WorkspaceService/GetWorkspace"
UPDATE_WORKSPACE = "/moleculeai.workspace.v1.WorkspaceService/UpdateWorkspace"
GRPC_WEB = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"}
CODES = {code.value[0]: code for code in grpc.StatusCode}


@pytest.fixture(scope="module")
async def edge() -> AsyncIterator[ScriptedEdge]:
    """An edge whose calls may stand still for a second."""
    origins = ("http://localhost:3000",)
    async with scripted_edge(cors_origins=origins, stream_idle_seconds=1.0) as running:
        yield running


def refusal(http_status: int, body: dict[str, Any], **extra: str) -> Reply:
    """An error as the server sends it to a REST caller."""
    trailers = [
        ("x-http-code", str(http_status)),
        ("x-error-body", quote(json.dumps(body), safe="")),
        *((name.replace("_", "-"), value) for name, value in extra.items()),
    ]
    return Reply(error=(grpc.StatusCode.FAILED_PRECONDITION, "refused"), trailers=trailers)


def item(seq: int, text: str = "") -> delegation_service_pb2.StreamInboxResponse:
    return delegation_service_pb2.StreamInboxResponse(item=inbox_pb2.InboxItem(seq=seq, text=text))


def failure(kind: type[errors.MoleculeError], reason: str | None = None) -> status.CallFailure:
    return status.render(kind("no, because of “this”", reason=reason, body={"hint": "a\nb"}))


# Statuses and bodies.


@pytest.mark.parametrize("code", [200, 201, 202, 206, 207, 409])
async def test_success_has_the_status_that_the_server_names(edge: ScriptedEdge, code: int) -> None:
    message = workspace_service_pb2.DeleteWorkspaceResponse(status="removed")
    edge.script(Reply([message], headers=[("x-http-code", str(code))]))
    response = await edge.http.delete(ANY_PATH)
    assert response.status_code == code
    assert response.json() == {"status": "removed", "cascade_deleted": 0, "children": []}


@pytest.mark.parametrize("code", [400, 401, 402, 404, 409, 410, 412, 413, 422, 429, 501, 502, 503])
async def test_errors_have_the_status_and_body_that_the_server_names(
    edge: ScriptedEdge, code: int
) -> None:
    body = {"error": 'é "quoted" 100%\n', "id": 7, "nothing": None}
    edge.script(refusal(code, body, retry_after="7"))
    response = await edge.http.post("/registry/heartbeat", json={})
    assert (response.status_code, response.json()) == (code, body)
    assert response.headers["content-type"] == "application/json"
    assert response.headers["retry-after"] == "7"


@pytest.mark.parametrize("kind", status.KINDS, ids=lambda kind: kind.__name__)
async def test_every_kind_of_error_reaches_rest_and_grpc(
    edge: ScriptedEdge, kind: type[errors.MoleculeError]
) -> None:
    await check_error(edge, failure(kind), status.KINDS[kind][1])


@pytest.mark.parametrize("reason", status.HTTP_BY_REASON)
async def test_every_reason_with_a_status_of_its_own_reaches_rest(
    edge: ScriptedEdge, reason: str
) -> None:
    await check_error(edge, failure(errors.Conflict, reason), status.HTTP_BY_REASON[reason])


async def check_error(edge: ScriptedEdge, sent: status.CallFailure, http_status: int) -> None:
    error = (CODES[int(sent.code)], sent.message)
    # On a call that changes something: a read would be tried again.
    edge.script(Reply(error=error, trailers=sent.trailers(rest=True)))
    response = await edge.http.patch(ANY_PATH, json={})
    assert (response.status_code, response.json()) == (http_status, sent.body)
    edge.script(Reply(error=error, trailers=sent.trailers(rest=False)))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await edge.native(UPDATE_WORKSPACE)
    assert (caught.value.code(), caught.value.details()) == error
    details = dict(caught.value.trailing_metadata() or ())["grpc-status-details-bin"]
    assert status_pb2.Status.FromString(details).message == sent.message


async def test_an_error_that_the_server_did_not_dress_still_has_our_shape(
    edge: ScriptedEdge,
) -> None:
    edge.script(Reply(error=(grpc.StatusCode.NOT_FOUND, 'no "é" \\ 100%')))
    response = await edge.http.get(ANY_PATH)
    assert (response.status_code, response.json()) == (404, {"error": 'no "é" \\ 100%'})


async def test_details_of_unknown_type_do_not_cost_the_body(edge: ScriptedEdge) -> None:
    details = status_pb2.Status(code=5, message="gone")
    details.details.add(type_url="type.googleapis.com/nobody.Knows", value=b"\1")
    trailers = [("grpc-status-details-bin", details.SerializeToString())]
    edge.script(Reply(error=(grpc.StatusCode.NOT_FOUND, "gone"), trailers=trailers))
    response = await edge.http.get(ANY_PATH)
    assert (response.status_code, response.json()) == (404, {"error": "gone"})


@pytest.mark.parametrize("code", ["abc", "99", "1000", ""])
async def test_a_senseless_status_is_ignored(edge: ScriptedEdge, code: str) -> None:
    edge.script(Reply(headers=[("x-http-code", code)]))
    response = await edge.http.get("/health")
    assert response.status_code == 200


async def test_rest_never_sees_what_is_between_edge_and_server(edge: ScriptedEdge) -> None:
    edge.script(Reply(headers=[("x-http-code", "201"), ("x-next-page-token", "t")]))
    shown = (await edge.http.get(ANY_PATH)).headers
    assert not {name for name in shown if name.startswith(("grpc-", "x-envoy-", "x-http"))}
    assert shown["x-next-page-token"] == "t"
    assert shown["x-request-id"] == edge.worker.call.metadata["x-request-id"]


async def test_rest_answers_carry_security_headers(edge: ScriptedEdge) -> None:
    edge.script()
    for path in (ANY_PATH, "/nowhere"):
        headers = (await edge.http.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["content-security-policy"] == "default-src 'self'"
        assert headers["referrer-policy"] == "strict-origin-when-cross-origin"
        assert headers["strict-transport-security"].startswith("max-age=31536000")


async def test_header_names_are_written_in_proper_case(edge: ScriptedEdge) -> None:
    edge.script()
    async with connected(edge.port) as (reader, writer):
        writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b"\r\nContent-Type: application/json\r\n" in await reader.read()


# Bare arrays.


async def test_an_empty_list_is_an_empty_array(edge: ScriptedEdge) -> None:
    edge.script(Reply(headers=[("x-unwrap", "workspaces")]))
    response = await edge.http.get("/workspaces")
    assert (response.status_code, response.text) == (200, "[]")


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
@pytest.mark.parametrize("size", [1, 3 * 1024 * 1024])
async def test_a_list_is_a_bare_array_of_any_size(
    edge: ScriptedEdge, size: int, encoding: str
) -> None:
    rows = [activity_pb2.Activity(summary="]}" + "x" * size), activity_pb2.Activity(summary="s")]
    answer = delegation_service_pb2.ListActivityResponse(activities=rows)
    edge.script(Reply([answer], headers=[("x-unwrap", "activities")]))
    response = await edge.http.get(f"{ANY_PATH}/activity", headers={"accept-encoding": encoding})
    assert [row["summary"] for row in response.json()] == [row.summary for row in rows]


async def test_an_error_of_a_list_is_not_unwrapped(edge: ScriptedEdge) -> None:
    edge.script(refusal(410, {"error": "since_id cursor not found"}))
    response = await edge.http.get(f"{ANY_PATH}/activity?since_id=x")
    assert (response.status_code, response.json()) == (410, {"error": "since_id cursor not found"})


# What the edge refuses by itself.


async def test_an_unknown_path_is_404(edge: ScriptedEdge) -> None:
    edge.script()
    for path in ("/nowhere", "/workspaces/a/b/c/d", GET_WORKSPACE, "/metrics"):
        response = await edge.http.get(path)
        assert response.status_code == 404
        assert list(response.json()) == ["error"]
    assert not edge.worker.calls


async def test_an_unknown_parameter_is_ignored(edge: ScriptedEdge) -> None:
    edge.script()
    assert (await edge.http.get(f"{ANY_PATH}?zzz=1&include_removed=true")).status_code == 200
    assert edge.worker.call.request.include_removed  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "body", ["{bad", '{"wait_seconds":"abc"}', "[]", '"text"', '{"workspace_id":"another"}']
)
async def test_a_body_that_does_not_fit_is_400(edge: ScriptedEdge, body: str) -> None:
    edge.script()
    response = await edge.http.post(f"{ANY_PATH}/delegate", content=body)
    assert response.status_code == 400
    assert list(response.json()) == ["error"]
    assert not edge.worker.calls


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/x-www-form-urlencoded", "application/grpcx"]
)
async def test_any_content_type_of_a_body_is_taken(edge: ScriptedEdge, content_type: str) -> None:
    edge.script()
    body = {"target_id": "t", "unknown": 1, "idempotency_key": None, "workspace_id": WORKSPACE}
    headers = {"content-type": content_type}
    content = json.dumps(body)
    response = await edge.http.post(f"{ANY_PATH}/delegate", content=content, headers=headers)
    assert response.status_code == 200
    assert edge.worker.call.request.target_id == "t"  # type: ignore[attr-defined]


async def test_a_large_body_passes(edge: ScriptedEdge) -> None:
    edge.script()
    body = b"x" * 4_000_000  # Around it stands the message that the edge makes of the call.
    assert (await edge.http.post(f"{ANY_PATH}/a2a", content=body)).status_code == 200


async def test_spoofed_headers_do_not_reach_the_server(edge: ScriptedEdge) -> None:
    spoofed = {
        "x-envoy-original-path": "/health",
        "x-envoy-original-method": "GET",
        "x-http-code": "201",
        "x-error-body": "x",
        "x-unwrap": "x",
    }
    edge.script()
    await edge.native(GET_WORKSPACE, metadata=tuple(spoofed.items()))
    assert not spoofed.keys() & edge.worker.call.metadata.keys()
    edge.script()
    await edge.http.get(ANY_PATH, headers=spoofed)
    seen = edge.worker.call.metadata
    assert seen["x-envoy-original-path"] == ANY_PATH
    assert not {"x-http-code", "x-error-body", "x-unwrap"} & seen.keys()


async def test_headers_of_clients_arrive_as_metadata(edge: ScriptedEdge) -> None:
    edge.script()
    sent = {"authorization": "Bearer t", "x-workspace-id": "w", "x-timeout": "3"}
    await edge.http.get(ANY_PATH, headers=sent)
    assert sent.items() <= edge.worker.call.metadata.items()


# gRPC and gRPC-Web.


async def test_grpc_is_untouched_whatever_the_server_says(edge: ScriptedEdge) -> None:
    answer = admin_service_pb2.GetHealthResponse(status="ok")
    face = [("x-http-code", "500"), ("x-unwrap", "status"), ("x-error-body", "%7B%7D")]
    edge.script(Reply([answer], headers=[*face, ("x-kept", "1")]))
    path = "/moleculeai.admin.v1.AdminService/GetHealth"
    health: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = edge.channel.unary_unary(path)
    call = health(b"")
    shown = dict(await call.initial_metadata() or ())
    assert shown["x-kept"] == "1"
    assert not {"x-http-code", "x-unwrap", "x-error-body", "x-frame-options"} & shown.keys()
    assert admin_service_pb2.GetHealthResponse.FromString(await call) == answer


async def test_an_unknown_service_is_unimplemented(edge: ScriptedEdge) -> None:
    edge.script()
    for path in ("/nobody.Knows/This", "/health", STREAM):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await edge.native(path)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert "{" not in (caught.value.details() or "")


async def test_a_bidirectional_stream_outlives_the_idle_timeout(edge: ScriptedEdge) -> None:
    path = "/moleculeai.delegation.v1.DelegationService/SubscribeInbox"
    message = delegation_service_pb2.SubscribeInboxResponse()
    edge.script(Reply([message, message], pause=1.5))
    inbox: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = edge.channel.stream_stream(path)
    call = inbox()
    await call.write(b"")
    assert [answer async for answer in call] == [b"", b""]


async def test_grpc_web_gets_the_message_and_the_status(edge: ScriptedEdge) -> None:
    answer = workspace_service_pb2.CheckAccessResponse(allowed=True)
    edge.script(Reply([answer], headers=[("x-http-code", "500")]))
    response = await edge.http.post(
        "/moleculeai.workspace.v1.WorkspaceService/CheckAccess",
        content=struct.pack(">BI", 0, 0),
        headers=GRPC_WEB,
    )
    frames = dict(web_frames(response.content))
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/grpc-web+proto"
    assert frames[0] == answer.SerializeToString()
    assert b"grpc-status:0" in frames[0x80].replace(b" ", b"")


async def test_grpc_web_gets_errors_with_their_details(edge: ScriptedEdge) -> None:
    sent = failure(errors.Denied)
    error = (CODES[int(sent.code)], sent.message)
    edge.script(Reply(error=error, trailers=sent.trailers(rest=False)))
    response = await edge.http.post(
        UPDATE_WORKSPACE, content=struct.pack(">BI", 0, 0), headers=GRPC_WEB
    )
    assert response.status_code == 200
    assert response.headers["grpc-status"] == "7"
    assert response.headers["grpc-status-details-bin"]


async def test_grpc_web_sees_an_error_in_mid_stream(edge: ScriptedEdge) -> None:
    edge.script(Reply([item(1)], error=(grpc.StatusCode.ABORTED, "late")))
    response = await edge.http.post(
        "/moleculeai.delegation.v1.DelegationService/StreamInbox",
        content=struct.pack(">BI", 0, 0),
        headers=GRPC_WEB,
    )
    frames = dict(web_frames(response.content))
    assert frames[0] == item(1).SerializeToString()
    assert b"grpc-status:10" in frames[0x80].replace(b" ", b"")


def web_frames(content: bytes) -> list[tuple[int, bytes]]:
    frames = []
    while content:
        kind, size = struct.unpack_from(">BI", content)
        frames.append((kind, content[5 : 5 + size]))
        content = content[5 + size :]
    return frames


# Streams.


async def test_a_stream_is_server_sent_events_that_leave_at_once(edge: ScriptedEdge) -> None:
    edge.script(Reply([item(1), item(2)], pause=0.5))
    headers = {"accept-encoding": "gzip"}
    arrivals = []
    async with edge.http.stream("GET", STREAM, headers=headers) as response:
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/event-stream"
        async for line in response.aiter_lines():
            if line.startswith("data: "):
                frame = json.loads(line.removeprefix("data: "))
                arrivals.append((frame["item"]["seq"], time.monotonic()))
    assert [seq for seq, _ in arrivals] == [1, 2]
    assert arrivals[1][1] - arrivals[0][1] > 0.3


async def test_a_stream_is_one_object_a_line_for_who_asks(edge: ScriptedEdge) -> None:
    edge.script(Reply([item(1), item(2)]))
    response = await edge.http.get(STREAM, headers={"accept": "application/x-ndjson"})
    assert [json.loads(line)["item"]["seq"] for line in response.text.splitlines()] == [1, 2]


async def test_an_error_before_the_first_frame_has_its_status(edge: ScriptedEdge) -> None:
    edge.script(refusal(401, {"error": "invalid workspace auth token"}))
    response = await edge.http.get(STREAM)
    assert (response.status_code, response.json()) == (
        401,
        {"error": "invalid workspace auth token"},
    )


@pytest.mark.parametrize("accept", ["text/event-stream", "application/x-ndjson"])
async def test_large_frames_arrive_whole(edge: ScriptedEdge, accept: str) -> None:
    text = "x" * (2 * 1024 * 1024)
    edge.script(Reply([item(1, text), item(2, text)]))
    response = await edge.http.get(STREAM, headers={"accept": accept})
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line]
    assert [json.loads(line)["item"]["text"] == text for line in lines] == [True, True]


async def test_a_silent_stream_outlives_the_idle_timeout(edge: ScriptedEdge) -> None:
    """The timeout that ends a silent unary call after a second leaves streams alone."""
    edge.script(Reply(pause=3.0))
    assert (await edge.http.get(ANY_PATH)).status_code == 504
    edge.script(Reply([item(1), item(2)], pause=3.0))
    response = await edge.http.get(STREAM)
    assert response.text.count("data: ") == 2


async def test_calls_that_wait_outlive_the_idle_timeout(edge: ScriptedEdge) -> None:
    edge.script(Reply(pause=2.0))
    delegate, message, pull = await asyncio.gather(
        edge.http.post(f"{ANY_PATH}/delegate", json={"wait_seconds": 2}),
        edge.http.post(f"{ANY_PATH}/a2a", json={}),
        edge.http.get(f"{ANY_PATH}/inbox?wait_seconds=2"),
    )
    assert [delegate.status_code, message.status_code, pull.status_code] == [200, 200, 200]


# Bytes.


@pytest.mark.parametrize("size", [0, 5, 20 * 1024 * 1024])
async def test_an_upload_of_any_size_arrives_byte_for_byte(edge: ScriptedEdge, size: int) -> None:
    sent = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    edge.script()
    headers = {"content-type": "multipart/form-data; boundary=b"}
    response = await edge.http.post(f"{ANY_PATH}/chat/uploads", content=sent, headers=headers)
    assert response.status_code == 200
    first = edge.worker.call.request
    assert first.workspace_id == WORKSPACE  # type: ignore[attr-defined]
    pieces = [first, *edge.worker.call.rest]
    assert pieces[0].body.content_type == headers["content-type"]  # type: ignore[attr-defined]
    assert b"".join(piece.body.data for piece in pieces) == sent  # type: ignore[attr-defined]


@pytest.mark.parametrize("accept_encoding", ["identity", "gzip"])
async def test_a_part_of_a_file_arrives_byte_for_byte(
    edge: ScriptedEdge, accept_encoding: str
) -> None:
    chunk = b"ab\0" * 300_000
    headers = [
        ("x-http-code", "206"),
        ("content-range", "bytes 0-1799999/1800000"),
        ("content-disposition", 'attachment; filename="a b.txt"'),
    ]
    pieces = [httpbody_pb2.HttpBody(content_type="text/plain", data=chunk) for _ in range(2)]
    edge.script(Reply(pieces, headers=headers))
    path = f"{ANY_PATH}/pending-uploads/f/content"
    response = await edge.http.get(path, headers={"accept-encoding": accept_encoding})
    assert response.status_code == 206
    assert "content-encoding" not in response.headers
    assert response.headers["content-type"] == "text/plain"
    assert response.headers["content-disposition"] == 'attachment; filename="a b.txt"'
    assert response.content == chunk * 2


async def test_json_of_agents_passes_as_it_is(edge: ScriptedEdge) -> None:
    text = b'{"z": 1,  "a":null, "id":"custom-id-123"}'
    answer = httpbody_pb2.HttpBody(content_type="application/json", data=text)
    edge.script(Reply([answer], headers=[("x-http-code", "202")]))
    response = await edge.http.post(f"{ANY_PATH}/a2a", content=text)
    assert (response.status_code, response.content) == (202, text)
    assert edge.worker.call.request.body.data == text  # type: ignore[attr-defined]


# Browsers.


async def test_cors_admits_the_listed_origins_only(edge: ScriptedEdge) -> None:
    edge.script()
    for origin, admitted in (
        ("http://localhost:3000", True),
        ("http://localhost:3000.evil", False),
    ):
        for method, path in (("GET", ANY_PATH), ("GET", "/health"), ("OPTIONS", ANY_PATH)):
            headers = {"origin": origin, "access-control-request-method": "PATCH"}
            response = await edge.http.request(method, path, headers=headers)
            assert (response.headers.get("access-control-allow-origin") == origin) is admitted
            assert method == "OPTIONS" or response.status_code == 200
