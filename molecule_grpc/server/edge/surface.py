"""Every RPC as the edge sees it: its REST paths, its timeouts, whether it may be retried.

Read from the descriptor set and the policy table, so that a new RPC needs no change of the edge.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from google.api import annotations_pb2, http_pb2
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
)
from moleculeai.rest.v1 import rest_pb2

from molecule_grpc.auth.policy import POLICIES

_OURS = "moleculeai."
_VALUE = "google.protobuf.Value"
_BYTES = ".google.api.HttpBody"
_VARIABLE = re.compile(r"\{([\w.]+)(?:=([^}]*))?\}")
_WILDCARD = re.compile(r"(\*\*|\*)")
_WILDCARDS = {"*": "[^/]+", "**": ".*"}  # The same for RE2 and Lua.


@dataclass(frozen=True, slots=True)
class RestPath:
    """A verb and a path template of google.api.http.

    Args:
        marking: whether the edge marks long integers in a request's body.
    """

    verb: str
    template: str
    marking: bool = False

    @property
    def fields(self) -> list[str]:
        """The request fields that the path binds, in its order."""
        return [match[1] for match in _VARIABLE.finditer(self.template)]

    @property
    def regex(self) -> str:
        """Matches exactly the paths of this form (RE2)."""
        return self._translated(re.escape, "{}")

    @property
    def lua_pattern(self) -> str:
        """The same for Lua, with one capture for each field."""
        return self._translated(_lua_escape, "({})")

    def _translated(self, literal: Callable[[str], str], variable: str) -> str:
        def translated(text: str) -> str:
            pieces = _WILDCARD.split(text)
            return "".join(_WILDCARDS.get(piece) or literal(piece) for piece in pieces)

        # The split yields literal text, name and form of a variable, literal text, and so on.
        pieces = _VARIABLE.split(self.template)
        texts = map(translated, pieces[::3])
        variables = (variable.format(translated(form or "*")) for form in pieces[2::3])
        return "".join(map("".join, zip_longest(texts, variables, fillvalue="")))


@dataclass(frozen=True, slots=True)
class Rpc:
    """One RPC as the edge sees it.

    Args:
        path: `/package.Service/Method`.
        sse: REST offers its stream as server-sent events.
        lasting: a call may take minutes, as the policy table says.
        silent: a call may be without traffic for minutes: all of `lasting` but uploads.
        beating: the server sends a beat into the silence of its stream.
        taking: a REST call has a body of any length, which the handler reads as a stream.
        reading: a call changes nothing and answers once, so Envoy may retry.
    """

    path: str
    service: str
    rest: tuple[RestPath, ...]
    sse: bool
    lasting: bool
    silent: bool
    beating: bool
    taking: bool
    reading: bool


def _lua_escape(text: str) -> str:
    return re.sub(r"([^\w/])", r"%\1", text)


def read_surface(descriptor_set: Path) -> list[Rpc]:
    """Every RPC of our services."""
    files = FileDescriptorSet.FromString(descriptor_set.read_bytes())
    messages = {
        f".{file.package}.{message.name}": message
        for file in files.file
        for message in file.message_type
    }
    return [
        _rpc(f"{file.package}.{service.name}", method, messages)
        for file in files.file
        if file.package.startswith(_OURS)
        for service in file.service
        for method in service.method
    ]


def _rpc(service: str, method: MethodDescriptorProto, messages: dict[str, DescriptorProto]) -> Rpc:
    marking = _takes_json(_fields(method.input_type, messages))
    rest = tuple(_rest_paths(method.options.Extensions[annotations_pb2.http], marking=marking))
    streaming = method.client_streaming or method.server_streaming
    path = f"/{service}/{method.name}"
    lasting = POLICIES[path].lasts
    sse = method.options.Extensions[rest_pb2.face].sse
    return Rpc(
        path=path,
        service=service,
        rest=rest,
        sse=sse,
        lasting=lasting,
        silent=lasting and not (method.client_streaming and not method.server_streaming),
        # Not where the stream is a file.
        beating=lasting and method.server_streaming and (sse or method.output_type != _BYTES),
        taking=bool(rest) and method.client_streaming,
        reading=bool(rest) and all(form.verb == "GET" for form in rest) and not streaming,
    )


def _fields(
    name: str, messages: Mapping[str, DescriptorProto], seen: frozenset[str] = frozenset()
) -> list[FieldDescriptorProto]:
    """The fields of a request and of our messages within it, those of each message once."""
    if name not in messages or not name.startswith(f".{_OURS}") or name in seen:
        return []
    seen |= {name}
    fields = list(messages[name].field)
    return fields + [each for field in fields for each in _fields(field.type_name, messages, seen)]


def _takes_json(fields: list[FieldDescriptorProto]) -> bool:
    """Whether all numbers of a request that may be long are in fields that hold any JSON.

    A mark is a text: in a field of doubles it would be refused.
    """
    doubles = FieldDescriptorProto.TYPE_DOUBLE
    return any(field.type_name == f".{_VALUE}" for field in fields) and not any(
        field.type == doubles for field in fields
    )


def _rest_paths(rule: http_pb2.HttpRule, *, marking: bool) -> Iterator[RestPath]:
    kind = rule.WhichOneof("pattern")
    if kind == "custom":
        yield RestPath(rule.custom.kind, rule.custom.path, marking)
    elif kind:
        yield RestPath(kind.upper(), getattr(rule, kind), marking)
    for other in rule.additional_bindings:
        yield from _rest_paths(other, marking=marking)
