"""A protoc plugin for `*_handlers.py`: one Protocol per service, with a method per RPC.

An RPC without a handler is a type error, and handlers need not know grpc.aio.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator

from google.protobuf.compiler import plugin_pb2
from google.protobuf.descriptor_pb2 import (
    FileDescriptorProto,
    MethodDescriptorProto,
    ServiceDescriptorProto,
)

SERVICE_FIELD = FileDescriptorProto.SERVICE_FIELD_NUMBER
METHOD_FIELD = ServiceDescriptorProto.METHOD_FIELD_NUMBER


def main() -> None:
    """Answer one CodeGeneratorRequest from stdin on stdout."""
    request = plugin_pb2.CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
    response = plugin_pb2.CodeGeneratorResponse(
        supported_features=plugin_pb2.CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL
    )
    homes = dict(_homes(request))
    for file in request.proto_file:
        if file.service and file.name in request.file_to_generate:
            name = file.name.removesuffix(".proto") + "_handlers.py"
            response.file.add(name=name, content=_module(file, homes))
    sys.stdout.buffer.write(response.SerializeToString())


def _homes(request: plugin_pb2.CodeGeneratorRequest) -> Iterator[tuple[str, str]]:
    """Pairs of a top-level message's full name (with its leading dot) and its Python module."""
    for file in request.proto_file:
        module = file.name.removesuffix(".proto").replace("/", ".") + "_pb2"
        for message in file.message_type:
            yield f".{file.package}.{message.name}", module


def _module(file: FileDescriptorProto, homes: dict[str, str]) -> str:
    comments = {tuple(at.path): at.leading_comments for at in file.source_code_info.location}
    used = {
        homes[name]
        for service in file.service
        for method in service.method
        for name in (method.input_type, method.output_type)
    }
    streams = any(
        method.client_streaming or method.server_streaming
        for service in file.service
        for method in service.method
    )
    lines = [
        f'"""Generated from {file.name} by tools/protoc_gen_handlers.py: do not edit."""',
        "",
        "from __future__ import annotations",
        "",
        "from typing import TYPE_CHECKING, Protocol",
        "",
        "if TYPE_CHECKING:",
        *(["    from collections.abc import AsyncIterator", ""] if streams else []),
        *(f"    from {m.rpartition('.')[0]} import {m.rpartition('.')[2]}" for m in sorted(used)),
        "",
        "    from molecule_grpc.server.call import Call",
    ]
    for at, service in enumerate(file.service):
        lines += ["", "", f"class {service.name}Handlers(Protocol):"]
        lines += _docstring(comments.get((SERVICE_FIELD, at), ""), indent=4)
        for index, method in enumerate(service.method):
            lines += ["", *_signature(method, homes)]
            lines += _docstring(comments.get((SERVICE_FIELD, at, METHOD_FIELD, index), ""), 8)
            lines += ["        ..."]
    return "\n".join(lines) + "\n"


def _signature(method: MethodDescriptorProto, homes: dict[str, str]) -> list[str]:
    request = _python_name(method.input_type, homes)
    response = _python_name(method.output_type, homes)
    takes = f"request: {request}"
    if method.client_streaming:
        takes = f"requests: AsyncIterator[{request}]"
    if method.server_streaming:
        # Callers do not await an async generator function: its Protocol method has no `async`.
        define, gives = "def", f"AsyncIterator[{response}]"
    else:
        define, gives = "async def", response
    return [
        f"    {define} {method.name}(",
        "        self,",
        f"        {takes},",
        "        call: Call,",
        f"    ) -> {gives}:",
    ]


def _python_name(message: str, homes: dict[str, str]) -> str:
    return f"{homes[message].rpartition('.')[2]}.{message.rpartition('.')[2]}"


def _docstring(comment: str, indent: int) -> list[str]:
    text = textwrap.dedent(comment).strip().replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    if not text:
        return []
    body = f'"""{text}"""' if "\n" not in text else f'"""{text}\n"""'
    return textwrap.indent(body, " " * indent).splitlines()


if __name__ == "__main__":
    main()
