"""The contract as the generators see it: every RPC with its HTTP bindings and its REST face.

Imports no generated code: gen.sh runs this module before any exists.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import (
    Descriptor,
    DescriptorBase,
    EnumDescriptor,
    MethodDescriptor,
)
from google.protobuf.descriptor_pb2 import (
    FileDescriptorProto,
    FileDescriptorSet,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

DEFAULT_PATH = Path(__file__).parent.parent / "gen" / "descriptor.binpb"
OUR_PACKAGE = "moleculeai."
VERBS = ("get", "put", "post", "delete", "patch")


@dataclass(frozen=True, slots=True)
class Binding:
    """One REST form of an RPC."""

    verb: str
    """In upper case."""
    path: str
    """With the variables as google.api.http writes them: `/workspaces/{workspace_id}`."""
    body: str
    """`*`, the name of the request field that the HTTP body fills, or empty for no body."""
    response_body: str
    """The response field that becomes the whole HTTP body; empty in all our bindings."""


@dataclass(frozen=True, slots=True)
class Face:
    """The REST face of an RPC: moleculeai.rest.v1.Face with defaults filled in."""

    success_status: int
    bare_array: str
    sse: bool
    other_statuses: tuple[int, ...]
    """Further HTTP statuses whose body is the response message, not an error."""


@dataclass(frozen=True, slots=True)
class Rpc:
    """One RPC of one of our services."""

    service: str
    """Full name: `moleculeai.workspace.v1.WorkspaceService`."""
    name: str
    bindings: tuple[Binding, ...]
    """The main binding first; empty for an RPC that REST cannot express."""
    face: Face
    method: MethodDescriptor

    @property
    def request(self) -> Descriptor:
        """The request message."""
        return self.method.input_type

    @property
    def response(self) -> Descriptor:
        """The response message, or one message of the stream."""
        return self.method.output_type


class Contract:
    """A descriptor set with its custom options readable."""

    def __init__(self, files: FileDescriptorSet) -> None:
        self.files = files
        self._pool = DescriptorPool()
        for file in files.file:  # buf and protoc list a file after what it imports.
            self._pool.Add(file)

    @classmethod
    def load(cls, path: Path = DEFAULT_PATH) -> Contract:
        """Read a descriptor set. Comments are empty unless buf built the set with source info."""
        return cls(FileDescriptorSet.FromString(path.read_bytes()))

    def rpcs(self) -> Iterator[Rpc]:
        """Every RPC of our services, in the order of the files."""
        for file in self.files.file:
            if not file.package.startswith(OUR_PACKAGE):
                continue
            for declared in file.service:
                service = self._pool.FindServiceByName(f"{file.package}.{declared.name}")
                for method in service.methods:
                    yield self._rpc(method)

    def _rpc(self, method: MethodDescriptor) -> Rpc:
        http = self.option(method, "google.api.http")
        face = self.option(method, "moleculeai.rest.v1.face")
        return Rpc(
            service=method.containing_service.full_name,
            name=method.name,
            bindings=tuple(_bindings(http)) if http else (),
            face=Face(
                success_status=(face and face.success_status) or 200,
                bare_array=face.bare_array if face else "",
                sse=face.sse if face else False,
                other_statuses=tuple(face.other_statuses) if face else (),
            ),
            method=method,
        )

    def option(self, described: DescriptorBase, name: str) -> Any | None:
        """The value of a custom option, or None where it is not set."""
        options: Message = described.GetOptions()
        known = self._pool.FindMessageTypeByName(options.DESCRIPTOR.full_name)
        extension = self._pool.FindExtensionByName(name)
        # The default pool, which does not know our extensions, parsed the options: parse again.
        parsed: Any = GetMessageClass(known).FromString(options.SerializeToString())
        if extension.is_repeated:
            return parsed.Extensions[extension]
        return parsed.Extensions[extension] if parsed.HasExtension(extension) else None

    def enum(self, full_name: str) -> EnumDescriptor:
        """The enum of that name. Raises KeyError where there is none."""
        return self._pool.FindEnumTypeByName(full_name)

    def comment(self, full_name: str) -> str:
        """The comment above an element (file, message, field, RPC); empty if it has none."""
        return self._comments.get(full_name, "")

    @cached_property
    def _comments(self) -> dict[str, str]:
        return {name: text for file in self.files.file for name, text in _comments(file)}


def _bindings(rule: Any) -> Iterator[Binding]:
    verb = rule.WhichOneof("pattern")
    if verb in VERBS:
        yield Binding(verb.upper(), getattr(rule, verb), rule.body, rule.response_body)
    else:
        yield Binding(rule.custom.kind, rule.custom.path, rule.body, rule.response_body)
    for other in rule.additional_bindings:
        yield from _bindings(other)


def _comments(file: FileDescriptorProto) -> Iterator[tuple[str, str]]:
    for location in file.source_code_info.location:
        if location.leading_comments:
            name = _name_at(file, location.path)
            if name:
                yield f"{file.package}.{name}", _paragraphs(location.leading_comments)


def _name_at(file: FileDescriptorProto, path: Any) -> str | None:
    """The element's name inside its package for a source path; None for unnamed elements."""
    names = []
    element: Any = file
    steps = list(path)
    while len(steps) > 1:
        number, index, *steps = steps
        field = element.DESCRIPTOR.fields_by_number.get(number)
        if field is None or not field.is_repeated or field.message_type is None:
            return None
        element = getattr(element, field.name)[index]
        if not hasattr(element, "name"):
            return None
        names.append(element.name)
    return None if steps or not names else ".".join(names)


def _paragraphs(comment: str) -> str:
    """Join wrapped lines of a comment; keep paragraphs, list items and table rows apart."""
    out: list[str] = []
    for line in (raw.strip() for raw in comment.strip().splitlines()):
        starts_anew = not line or line.startswith(("- ", "* ", "|")) or not out or not out[-1]
        if starts_anew:
            out.append(line)
        else:
            out[-1] += " " + line
    return "\n".join(out)
