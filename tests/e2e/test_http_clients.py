"""The edge as old and plain HTTP clients drive it."""

from __future__ import annotations

import json
import uuid

import pytest

from tests.e2e.plain_http import BOUNDARY, Client, form, hire
from tests.running import RunningServer

FIELD = b'name="files"; '
ORIGIN = "http://localhost:3000"


@pytest.fixture(scope="module")
def agent(server: RunningServer) -> Client:
    """A workspace that the tests of this module share."""
    return hire(server)


@pytest.fixture(scope="module")
def file(agent: Client) -> str:
    """The path of a file of ten bytes."""
    return agent.file(b"0123456789")


# Old versions, and requests that are hardly HTTP.


@pytest.mark.parametrize("host", ["", "Host: example.org\r\n"])
def test_http_1_0_is_served(agent: Client, host: str) -> None:
    token = f"Authorization: Bearer {agent.token}\r\n"
    request = f"GET /workspaces/{agent.id} HTTP/1.0\r\n{host}{token}\r\n"
    head, _, body = agent.raw(request.encode()).partition(b"\r\n\r\n")
    assert b" 200 " in head.splitlines()[0]
    assert b"chunked" not in head.lower()  # HTTP/1.0 does not know it
    assert json.loads(body)["id"] == agent.id


@pytest.mark.parametrize(
    ("request_lines", "status", "error"),
    [
        ("GET /health HTTP/1.1\r\n", 400, "the Host header is missing"),
        ("GET /workspaces/%00 HTTP/1.1\r\nHost: h\r\n", 400, "the path is malformed"),
        ("GET /nope HTTP/1.1\r\nHost: h\r\n", 404, "not found"),
        ("GET /nope?workspace_id=1 HTTP/1.1\r\nHost: h\r\n", 404, "not found"),
        (
            (
                "GET /health HTTP/1.1\r\nHost: h\r\nConnection: close, upgrade\r\n"
                "Upgrade: websocket\r\n"
            ),
            403,
            "no protocol upgrade is served: read streams as server-sent events",
        ),
    ],
)
def test_every_refusal_says_why(agent: Client, request_lines: str, status: int, error: str) -> None:
    closing = "" if "Connection" in request_lines else "Connection: close\r\n"
    head, _, body = agent.raw(f"{request_lines}{closing}\r\n".encode()).partition(b"\r\n\r\n")
    assert int(head.split()[1]) == status
    assert json.loads(body) == {"error": error}


@pytest.mark.parametrize(
    ("verb", "path", "allowed"),
    [
        ("DELETE", "/workspaces/{id}/mcp", "GET, HEAD, POST"),
        ("PUT", "/health", "GET, HEAD"),
        ("GET", "/registry/heartbeat", "POST"),
        ("HEAD", "/registry/heartbeat", "POST"),
    ],
)
def test_a_verb_that_a_path_lacks_is_405_with_those_it_has(
    agent: Client, verb: str, path: str, allowed: str
) -> None:
    answer = agent.call(verb, path)
    assert (answer.status, answer.headers["allow"]) == (405, allowed)


def test_a_body_that_is_no_json_is_told_without_the_parsers_place_in_it(agent: Client) -> None:
    answer = agent.call("POST", "/registry/heartbeat", b'{"a":', content_type="application/json")
    assert answer.status == 400
    assert answer.json()["error"].startswith("the body is no JSON for this call: ")
    assert "^" not in answer.json()["error"]


# HEAD.


@pytest.mark.parametrize("path", ["/health", "/workspaces/{id}", "/workspaces/{id}/activity"])
@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_head_is_get_without_the_body(agent: Client, path: str, coding: str) -> None:
    head = agent.call("HEAD", path, accept_encoding=coding)
    got = agent.call("GET", path, accept_encoding=coding)
    assert (head.status, head.body) == (200, b"")
    for name in ("content-type", "content-encoding"):
        assert head.headers.get(name) == got.headers.get(name)
    assert int(head.headers["content-length"]) == len(got.body)


def test_head_of_a_file_tells_length_and_tag(agent: Client, file: str) -> None:
    answer = agent.call("HEAD", file, range="bytes=0-1")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-length"] == "10"
    assert answer.headers["etag"] == agent.call("GET", file).headers["etag"]


def test_head_leaves_the_connection_usable(agent: Client) -> None:
    head = "HEAD /workspaces/{} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {}\r\n\r\n"
    last = "GET /health HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    answer = agent.raw((head.format(agent.id, agent.token) * 2 + last).encode())
    assert answer.count(b"HTTP/1.1 200") == 3
    assert answer.endswith(b'\r\n\r\n{"status":"ok"}')


def test_head_of_a_stream_ends(agent: Client) -> None:
    answer = agent.call("HEAD", "/workspaces/{id}/inbox/stream")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-type"] == "text/event-stream"


def test_head_of_what_does_not_exist_is_no_success(agent: Client) -> None:
    assert agent.call("HEAD", f"/workspaces/{uuid.uuid4()}").status in (401, 403, 404)


# Queries.


def test_a_plus_in_a_query_is_a_blank(server: RunningServer, agent: Client) -> None:
    for summary in ("deploy the blue server", "2+2"):
        report = {"activity_type": "agent_log", "summary": summary}
        assert agent.post("/workspaces/{id}/activity", report).status == 200
    for query, expected in (
        ("blue+server", "deploy the blue server"),
        ("blue%20server", "deploy the blue server"),
        ("2%2B2", "2+2"),
    ):
        hits = agent.call("GET", f"/workspaces/{{id}}/session-search?q={query}").json()
        assert [hit["label"] for hit in hits] == [expected], query
    peer = hire(server, f"blue bird {uuid.uuid4().hex[:8]}")
    peers = agent.call("GET", "/registry/{id}/peers?q=blue+bird").json()
    assert peer.id in [each["id"] for each in peers]


def test_a_time_zone_may_be_written_with_a_bare_plus(agent: Client) -> None:
    path = "/workspaces/{id}/activity?before_ts=2036-01-01T00:00:00+00:00"
    assert agent.call("GET", path).status == 200


# Conditions and ranges.


@pytest.mark.parametrize(
    ("headers", "status", "body"),
    [
        ({"if_none_match": "{tag}"}, 304, b""),
        ({"if_none_match": "W/{tag}"}, 304, b""),
        ({"if_none_match": '"other", {tag}'}, 304, b""),
        ({"if_none_match": "*"}, 304, b""),
        ({"if_none_match": '"other"'}, 200, b"0123456789"),
        ({"if_match": "{tag}"}, 200, b"0123456789"),
        ({"if_match": "*"}, 200, b"0123456789"),
        ({"if_match": '"other"'}, 412, None),
        ({"if_match": "W/{tag}"}, 412, None),
        ({"if_match": '"other"', "range": "bytes=0-1"}, 412, None),
        ({"range": "bytes=2-4"}, 206, b"234"),
        ({"range": "Bytes=-3"}, 206, b"789"),
        ({"range": "bytes=7-99"}, 206, b"789"),
        ({"range": "bytes=5-2"}, 200, b"0123456789"),
        ({"range": "bytes=0-1,4-5"}, 200, b"0123456789"),
        ({"range": "bytes=0-1", "if_range": "{tag}"}, 206, b"01"),
        ({"range": "bytes=0-1", "if_range": '"other"'}, 200, b"0123456789"),
    ],
)
def test_a_file_is_sent_as_its_conditions_ask(
    agent: Client, file: str, headers: dict[str, str], status: int, body: bytes | None
) -> None:
    tag = agent.call("HEAD", file).headers["etag"]
    sent = {name: value.replace("{tag}", tag) for name, value in headers.items()}
    answer = agent.call("GET", file, None, **sent)
    assert answer.status == status
    if body is None:
        assert answer.json() == {"error": "If-Match names no version of the file"}
    else:
        assert answer.body == body
        assert answer.headers["etag"] == tag


def test_a_range_behind_the_file_is_told_its_length(agent: Client, file: str) -> None:
    answer = agent.call("GET", file, range="bytes=10-")
    assert (answer.status, answer.headers["content-range"]) == (416, "bytes */10")
    assert answer.json() == {"error": "the file has 10 bytes"}


# Forms.


@pytest.mark.parametrize(
    "disposition",
    [
        FIELD + b'filename="report\\"',
        FIELD + b'filename="C:\\tmp\\"',
        FIELD + b'filename="a\\b.txt"',
        FIELD + b'filename="quoted \\"name\\".txt"',
        b'filename="x\\"; name="files"',
        b"name=files; filename=photo.jpg; filename*=utf-8''photo.jpg",
    ],
)
def test_a_file_arrives_under_whatever_name(agent: Client, disposition: bytes) -> None:
    answer = agent.upload(form(disposition, b"hi"))
    assert answer.status == 200, answer.body
    assert [each["size"] for each in answer.json()["files"]] == [2]


@pytest.mark.parametrize(
    "change",
    [
        lambda body: b"This is a preamble.\r\nTwo lines.\r\n" + body,
        lambda body: b"\r\n" + body,
        lambda body: body.replace(BOUNDARY + b"\r\n", BOUNDARY + b" \t\r\n", 1),
        lambda body: body + b"an epilogue\r\n--" + BOUNDARY + b"\r\n",
    ],
    ids=["preamble", "line first", "padding", "epilogue"],
)
def test_what_receivers_must_ignore_is_ignored(agent: Client, change: object) -> None:
    assert callable(change)
    answer = agent.upload(change(form(FIELD + b'filename="a.txt"', b"hi")))
    assert answer.status == 200, answer.body
    assert [each["size"] for each in answer.json()["files"]] == [2]


# Browsers.


def test_a_web_page_may_send_and_read_what_the_server_knows(agent: Client, file: str) -> None:
    wanted = (
        "authorization, content-type, idempotency-key, if-match, if-none-match, if-range, range"
    )
    asked = agent.call(
        "OPTIONS",
        f"/workspaces/{agent.id}/chat/uploads",
        origin=ORIGIN,
        access_control_request_method="POST",
        access_control_request_headers=wanted,
    )
    assert asked.status in (200, 204)
    assert asked.headers["access-control-allow-origin"] == ORIGIN
    allowed = asked.headers["access-control-allow-headers"].split(", ")
    assert set(wanted.split(", ")) <= set(allowed)
    got = agent.call("GET", file, origin=ORIGIN, range="bytes=0-1")
    shown = got.headers["access-control-expose-headers"].split(", ")
    assert {"etag", "content-range", "accept-ranges", "x-next-page-token"} <= set(shown)
