"""Requests of every shape: both hosts answer each of them alike, or differ for a reason."""

from __future__ import annotations

import base64
import functools
import gzip
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from moleculeai.admin.v1 import admin_service_pb2 as admin
from moleculeai.delegation.v1 import delegation_service_pb2 as delegation
from moleculeai.upload.v1 import upload_service_pb2 as upload
from moleculeai.workspace.v1 import workspace_service_pb2 as workspace

from tests.e2e.raw_http import Asked

WORKSPACES = "/moleculeai.workspace.v1.WorkspaceService/"
DELEGATIONS = "/moleculeai.delegation.v1.DelegationService/"
UPLOADS = "/moleculeai.upload.v1.UploadService/"
ADMIN = "/moleculeai.admin.v1.AdminService/"
CHECK = f"{ADMIN}GetHealth"
HEALTH = "/grpc.health.v1.Health/"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
GRPC = (("content-type", "application/grpc"), ("te", "trailers"))
WEB = (("content-type", "application/grpc-web+proto"), ("x-grpc-web", "1"))
JSON = (("content-type", "application/json"),)
NOBODY = str(uuid.UUID(int=7))
BROKEN = b"\xff\xff"

# How two answers are compared.
BYTES, BODY, CODE = "every byte", "status and body", "status and code"


@dataclass(frozen=True, slots=True)
class Case:
    """A request, and how its two answers compare.

    Args:
        alike: BYTES, BODY or CODE; empty where the hosts differ for `reason`, and `code` is what
            the host inside Envoy answers.
    """

    asked: Asked
    alike: str = BYTES
    code: str = ""
    reason: str = ""


def frame(message: Message | bytes, flag: int = 0, size: int | None = None) -> bytes:
    """A message as it stands in a body, with any flag and any announced size."""
    data = message if isinstance(message, bytes) else message.SerializeToString()
    return bytes([flag]) + (len(data) if size is None else size).to_bytes(4, "big") + data


def get(agent: str) -> workspace.GetWorkspaceRequest:
    """The unary request of most cases."""
    return workspace.GetWorkspaceRequest(workspace_id=agent)


def hello(agent: str) -> bytes:
    """The first frame of a session."""
    opening = delegation.SubscribeInboxRequest.Hello(
        workspace_id=agent, consumer_id="case", takeover=True
    )
    return frame(delegation.SubscribeInboxRequest(hello=opening))


def begin(agent: str) -> bytes:
    """The first frame of an upload."""
    opening = upload.StageUploadsRequest.Begin(workspace_id=agent)
    return frame(upload.StageUploadsRequest(begin=opening))


def pull(agent: str) -> delegation.PullInboxRequest:
    """A long poll."""
    return delegation.PullInboxRequest(workspace_id=agent, wait_seconds=40)


def inbox(agent: str) -> bytes:
    """The request of a stream."""
    return frame(delegation.StreamInboxRequest(workspace_id=agent))


def cases(agent: str) -> dict[str, Case]:
    """All by name; `agent` is the workspace that calls."""
    return {
        **dict(_unary(agent)),
        **dict(_compressed(agent)),
        **dict(_headers(agent)),
        **dict(_forms(agent)),
        **dict(_streams(agent)),
        **dict(_native()),
        **dict(_rest(agent)),
        **dict(_pages()),
    }


Cases = Iterator[tuple[str, Case]]


def _call(*body: bytes, path: str = f"{WORKSPACES}GetWorkspace", **more: object) -> Asked:
    headers = GRPC + tuple(more.pop("headers", ()))  # type: ignore[arg-type]
    return Asked(path, body, headers, **more)  # type: ignore[arg-type]


_HANGS = "the library of the other host never answers"
_SKIPS = "the library of the other host takes the flag for none"


def _unary(agent: str) -> Cases:
    whole = frame(get(agent))
    yield "one message", Case(_call(whole))
    yield "in pieces", Case(_call(whole[:3], whole[3:9], whole[9:], pause=0.02))
    yield "two messages", Case(_call(whole + whole))
    yield "two messages apart", Case(_call(whole, whole, pause=0.1))
    yield "a message and more", Case(_call(whole + b"\0\0"))
    yield "no end of the body", Case(_call(whole, open_end=True))
    yield "garbage", Case(_call(frame(BROKEN)))
    yield "an invalid field", Case(_call(frame(get("x"))))
    yield "nobody's id", Case(_call(frame(get(NOBODY))))
    yield "too large, announced", Case(_call(frame(b"x", size=5_000_000)))
    yield "too large, sent", Case(_call(frame(b"x" * 5_000_000)))
    yield "nearly too large", Case(_call(frame(b"x" * 4_100_000)))
    yield "unknown method", Case(_call(whole, path=f"{WORKSPACES}Nothing"))
    yield "unknown service", Case(_call(whole, path="/no.Such/Thing"))
    yield "no service", Case(_call(whole, path="/nothing"))
    yield "a query", Case(_call(whole, path=f"{WORKSPACES}GetWorkspace?a=b"))
    yield "operator's service", Case(_call(frame(b""), path=f"{ADMIN}GetLiveness"), CODE)
    yield (
        "operator's health",
        Case(_call(frame(admin.GetHealthRequest()), path=CHECK)),
    )
    yield "no message", Case(_call(), "", "13", _HANGS)
    yield "cut off", Case(_call(whole[:-3]), "", "13", _HANGS)
    yield "cut off early", Case(_call(b"\0\0\0"), "", "13", _HANGS)
    yield "flag of 2", Case(_call(frame(get(agent), 2)), "", "13", _SKIPS)


def _compressed(agent: str) -> Cases:
    data = get(agent).SerializeToString()

    def call(body: bytes, encoding: str = "gzip", flag: int = 1) -> Asked:
        return _call(frame(body, flag), headers=[("grpc-encoding", encoding)])

    yield "gzip", Case(call(gzip.compress(data)))
    yield "deflate", Case(call(zlib.compress(data), "deflate"))
    yield "gzip, not marked", Case(call(data, flag=0))
    yield "gzip of nothing", Case(call(b""))
    yield "no gzip", Case(call(b"no gzip"), CODE)
    yield "gzip, cut off", Case(call(gzip.compress(data)[:-6]), CODE)
    yield "gzip and more", Case(call(gzip.compress(data) + b"more"), CODE)
    yield "a bomb", Case(call(_bomb()), CODE)
    yield "marked, not named", Case(_call(frame(data, 1)), CODE)
    yield (
        "answers may be compressed",
        Case(_call(frame(data), headers=[("grpc-accept-encoding", "gzip")])),
    )
    unserved = "UNIMPLEMENTED is what gRPC's specification says"
    yield "unknown encoding", Case(call(data, "zstd"), "", "12", unserved)
    yield "unknown encoding, not marked", Case(call(data, "zstd", 0), "", "12", unserved)


@functools.cache
def _bomb() -> bytes:
    """50 MB in 50 KB; a third of a second of CPU to make."""
    return gzip.compress(b"\0" * 50_000_000)


def _headers(agent: str) -> Cases:
    whole = frame(get(agent))

    def call(*headers: tuple[str, str]) -> Asked:
        return _call(whole, headers=headers)

    yield "time limit of 5 min", Case(call(("grpc-timeout", "300S")))
    # From here on the connection between edge and worker has seen limits that are none.
    for text in ("soon", "-1S", "123456789S", "", "5X", "1.5S"):
        yield f"time limit {text!r}", Case(call(("grpc-timeout", text)), CODE)
    # The other host may be quicker than its clock.
    yield "time limit of 1 ns", Case(call(("grpc-timeout", "1n")), "", "4", "a race there")
    yield "headers of 58 KB", Case(call(*_filling(56)))
    yield "headers of 72 KB", Case(call(*_filling(70)), CODE)
    yield "headers of 110 KB", Case(call(*_filling(110)), CODE)
    yield "not ASCII", Case(call(("x-name", "äö")))
    yield "bytes", Case(call(("x-thing-bin", "AAEC")))
    yield "twice", Case(call(("x-workspace-id", "a"), ("x-workspace-id", "b")))
    yield "the client's request id", Case(call(("x-request-id", "mine")))
    yield "no te", Case(Asked(f"{WORKSPACES}GetWorkspace", (whole,), GRPC[:1]))
    yield "another te", Case(Asked(f"{WORKSPACES}GetWorkspace", (whole,), (GRPC[0], ("te", "x"))))
    lenient = "no handler reads this header"
    yield "no bytes", Case(call(("x-thing-bin", "***")), "", "0", lenient)
    yield "an odd name", Case(call(("x'odd", "a")), "", "0", lenient)


def _filling(count: int) -> list[tuple[str, str]]:
    return [(f"x-fill-{number}", "y" * 1000) for number in range(count)]


def _forms(agent: str) -> Cases:
    path, whole = f"{WORKSPACES}GetWorkspace", frame(get(agent))
    for kind in ("grpc+proto", "grpc+json", "grpcx", "grpc; charset=utf-8", "json"):
        headers = (("content-type", f"application/{kind}"), ("te", "trailers"))
        yield f"content type {kind}", Case(Asked(path, (whole,), headers))
    yield "no content type", Case(Asked(path, (whole,)))
    yield "HTTP/1.1", Case(_call(whole, http1=True))
    yield "HTTP/1.1, an error", Case(_call(frame(BROKEN), http1=True))
    # Trailers are part of the body there: the other host's have an empty `grpc-message`.
    yield "gRPC-Web", Case(Asked(path, (whole,), WEB), CODE)
    yield "gRPC-Web over HTTP/1.1", Case(Asked(path, (whole,), WEB, http1=True), CODE)
    yield "gRPC-Web, an error", Case(Asked(path, (frame(BROKEN),), WEB))
    yield "gRPC-Web, unknown", Case(Asked(f"{WORKSPACES}No", (whole,), WEB), CODE)
    text = (("content-type", "application/grpc-web-text"), ("accept", "application/grpc-web-text"))
    yield "gRPC-Web as text", Case(Asked(path, (base64.b64encode(whole),), text), CODE)
    yield "OPTIONS", Case(_call(verb="OPTIONS"), CODE)
    retried = "the edge of the other host retries a call that is reset"
    for verb in ("GET", "PUT", "HEAD"):
        yield verb, Case(_call(*([whole] if verb == "PUT" else []), verb=verb), "", "13", retried)


def _streams(agent: str) -> Cases:
    staging, reading = f"{UPLOADS}StageUploads", f"{DELEGATIONS}StreamInbox"
    session = f"{DELEGATIONS}SubscribeInbox"
    limit = [("grpc-timeout", "900m")]
    for name, path in {"upload": staging, "stream": reading, "session": session}.items():
        yield f"{name}: garbage", Case(_call(frame(BROKEN), path=path))
        yield f"{name}: too large", Case(_call(frame(b"x", size=5_000_000), path=path))
        yield (
            f"{name}: too many headers",
            Case(_call(inbox(agent), path=path, headers=_filling(70)), CODE),
        )
        yield f"{name}: flag of 2", Case(_call(frame(b"", 2), path=path), "", "13", _SKIPS)
        yield f"{name}: cut off", Case(_call(b"\0\0", path=path), "", "13", "taken for no message")
    yield "upload: nothing", Case(_call(path=staging))
    yield "session: nothing", Case(_call(path=session))
    yield "stream: nothing", Case(_call(path=reading), "", "3", _HANGS)
    second = frame(b"x", size=5_000_000)
    yield "upload: the second too large", Case(_call(begin(agent), second, path=staging, pause=0.2))
    yield "upload: nothing after its begin", Case(_call(begin(agent), path=staging))
    yield "stream: a time limit", Case(_call(inbox(agent), path=reading, headers=limit), CODE)
    yield (
        "session: a time limit",
        Case(_call(hello(agent), path=session, headers=limit, open_end=True), CODE),
    )
    yield "session: half-closed", Case(_call(hello(agent), path=session), CODE)
    yield (
        "session: then garbage",
        Case(_call(hello(agent), frame(BROKEN), path=session, pause=0.3), CODE),
    )
    yield (
        "session: then cut off",
        Case(_call(hello(agent), b"\0\0", path=session, pause=0.3), "", "13", "taken for the end"),
    )


def _native() -> Cases:
    limit = [("grpc-timeout", "500m")]
    unknown = frame(health_pb2.HealthCheckRequest(service="no.Such"))
    yield "health", Case(_call(frame(b""), path=f"{HEALTH}Check"))
    yield "health of an unknown service", Case(_call(unknown, path=f"{HEALTH}Check"), CODE)
    yield "health, watched", Case(_call(frame(b""), path=f"{HEALTH}Watch", headers=limit))
    yield (
        "health of an unknown service, watched",
        Case(_call(unknown, path=f"{HEALTH}Watch", headers=limit)),
    )
    yield "health, listed", Case(_call(frame(b""), path=f"{HEALTH}List"), CODE)
    ask = reflection_pb2.ServerReflectionRequest
    yield "reflection", Case(_call(frame(ask(list_services="*")), path=REFLECTION))
    yield (
        "reflection of a file",
        Case(_call(frame(ask(file_containing_symbol=WORKSPACES[1:-1])), path=REFLECTION)),
    )
    yield (
        "reflection of nothing",
        Case(_call(frame(ask(file_containing_symbol="no")), path=REFLECTION)),
    )
    unread = "UNKNOWN, with Python's own words"
    yield "health, garbage", Case(_call(frame(BROKEN), path=f"{HEALTH}Check"), "", "3", unread)
    yield "reflection, garbage", Case(_call(frame(BROKEN), path=REFLECTION), "", "3", unread)


def _rest(agent: str) -> Cases:
    def read(path: str, *headers: tuple[str, str], verb: str = "GET", http1: bool = False) -> Case:
        return Case(Asked(path, (), headers, verb, http1=http1))

    own = f"/workspaces/{agent}"
    yield "REST", read(own)
    yield "REST over HTTP/1.1", read(own, http1=True)
    yield "REST HEAD", read(own, verb="HEAD")
    yield "REST HEAD over HTTP/1.1", read(own, verb="HEAD", http1=True)
    yield "REST, nobody's", read(f"/workspaces/{NOBODY}")
    yield "REST 404", read("/nope")
    yield "REST 405", read("/health", verb="DELETE")
    yield "REST 431", read(own, *_filling(70))
    yield "REST, the operator's", read("/admin/liveness")
    yield "REST health", read("/health")
    large = b"{" + b" " * 5_000_000 + b"}"
    for http1 in (False, True):
        yield f"REST 413 {http1}", Case(Asked("/workspaces", (large,), JSON, http1=http1))
    yield "REST, no JSON", Case(Asked("/workspaces", (b"{",), JSON))
    yield "REST, no message of MCP", Case(Asked("/mcp", (b"{}",), JSON))
    yield "REST time limit is no header", read(f"{own}/inbox", ("grpc-timeout", "1n"))
    yield (
        "a web page asks",
        read(
            "/health",
            ("origin", "http://a.example"),
            ("access-control-request-method", "GET"),
            verb="OPTIONS",
        ),
    )
    upgrade = (("upgrade", "websocket"), ("connection", "Upgrade"))
    yield "REST upgrade", read("/health", *upgrade, http1=True)
    form = (("content-type", "multipart/form-data; boundary=b"),)
    for name, to in {"bad form": agent, "nobody's": NOBODY}.items():
        pieces = (b"x" * 100_000,) * 3
        path = f"/workspaces/{to}/chat/uploads"
        yield f"REST upload, {name}", Case(Asked(path, pieces, form, http1=True, pause=0.05))


def _pages() -> Cases:
    # The other host answers /healthz before the face adds its headers.
    for verb in ("GET", "HEAD", "POST"):
        body = (b"x",) if verb == "POST" else ()
        yield f"healthz {verb}", Case(Asked("/healthz", body, (), verb), BODY)
        yield f"metrics {verb}", Case(Asked("/metrics", body, (), verb), CODE)
    yield "healthz with a query", Case(Asked("/healthz?a=b", verb="GET"), BODY)
    yield "metrics with a query", Case(Asked("/metrics?a=b", verb="GET"), CODE)
    yield "healthz over HTTP/1.1", Case(Asked("/healthz", verb="GET", http1=True), BODY)
