"""Every RPC as data, read from the descriptors: types, streaming, REST face, policy, handler."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from moleculeai.rest.v1 import rest_pb2

from molecule_grpc.auth.policy import POLICIES, Policy


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC.

    Args:
        path: `/package.Service/Method`, as gRPC names it.
        success_status: HTTP status of success, 0 for 200.
        bare_array: the response field that REST prints bare; empty for none.
        face_headers: response headers by which the edge gives a REST caller the expected answer.
    """

    path: str
    service: str
    name: str
    request_type: type[Message]
    response_type: type[Message]
    client_streaming: bool
    server_streaming: bool
    success_status: int
    bare_array: str
    face_headers: Mapping[str, str]
    policy: Policy
    handler: Callable[..., Any]


def bind(served: Iterable[tuple[ServiceDescriptor, object]]) -> list[Method]:
    """The methods of services, each with its handler.

    Args:
        served: services with the objects that have their handlers. Several objects may serve one
            service: each RPC is a method of one of them.

    Raises:
        LookupError: an RPC has no handler or several, or no row in the policy table.
    """
    objects: dict[str, list[object]] = {}
    services: dict[str, ServiceDescriptor] = {}
    for service, handlers in served:
        services[service.full_name] = service
        objects.setdefault(service.full_name, []).append(handlers)
    return [
        _bind(name, method, objects[name])
        for name, service in services.items()
        for method in service.methods
    ]


def _bind(service: str, method: MethodDescriptor, objects: Sequence[object]) -> Method:
    path = f"/{service}/{method.name}"
    handlers = [found for each in objects if (found := getattr(each, method.name, None))]
    if len(handlers) != 1:
        raise LookupError(f"{path} has {len(handlers) or 'no'} handlers")
    if path not in POLICIES:
        raise LookupError(f"{path} has no row in the policy table")
    face = method.GetOptions().Extensions[rest_pb2.face]
    return Method(
        path=path,
        service=service,
        name=method.name,
        request_type=message_factory.GetMessageClass(method.input_type),
        response_type=message_factory.GetMessageClass(method.output_type),
        client_streaming=method.client_streaming,
        server_streaming=method.server_streaming,
        success_status=face.success_status,
        bare_array=face.bare_array,
        face_headers=_face_headers(face),
        policy=POLICIES[path],
        handler=handlers[0],
    )


def _face_headers(face: rest_pb2.Face) -> dict[str, str]:
    headers: dict[str, str] = {}
    if face.success_status:
        headers["x-http-code"] = str(face.success_status)
    if face.bare_array:
        headers["x-unwrap"] = face.bare_array
    return headers


def request_types(methods: Iterable[Method]) -> set[type[Message]]:
    """Every type that a client may send."""
    return {method.request_type for method in methods}
