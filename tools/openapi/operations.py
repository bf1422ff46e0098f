"""One RPC binding as an OpenAPI operation."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from tools.descriptors import Binding, Contract, Rpc
from tools.openapi.rules import Schema
from tools.openapi.schemas import Schemas

VARIABLE = re.compile(r"\{([^}=]+)(?:=[^}]*)?\}")
HTTP_BODY = "google.api.HttpBody"


class Operations:
    """Builds operations and adds the schemas they refer to to `components`."""

    def __init__(self, contract: Contract, components: dict[str, Schema]) -> None:
        self._contract = contract
        self._requests = Schemas(contract, components, inbound=True)
        self._responses = Schemas(contract, components, inbound=False)

    def operation(self, rpc: Rpc, binding: Binding, number: int) -> tuple[str, Schema]:
        """The path in OpenAPI's spelling and the operation; `number` is the binding's index."""
        comment = self._contract.comment(rpc.method.full_name)
        summary, description = _first_sentence(comment)
        service = rpc.service.rpartition(".")[2]
        in_path = VARIABLE.findall(binding.path)
        operation: Schema = {
            "operationId": f"{service}_{rpc.name}" + (f"_{number + 1}" if number else ""),
            "tags": [service],
            "summary": summary,
        }
        if description:
            operation["description"] = description
        parameters = [self._path_parameter(rpc.request, name) for name in in_path]
        if binding.body != "*":
            parameters += self._query(rpc.request, {*in_path, binding.body})
        if parameters:
            operation["parameters"] = parameters
        if binding.body:
            operation["requestBody"] = self._body(rpc.request, binding.body, in_path)
        operation["responses"] = {
            **{
                str(status): self._answer(rpc, status)
                for status in sorted({rpc.face.success_status, *rpc.face.other_statuses})
            },
            "default": {"$ref": "#/components/responses/Error"},
        }
        return VARIABLE.sub(r"{\1}", binding.path), operation

    def _path_parameter(self, request: Descriptor, path: str) -> Schema:
        return self._parameter(_find(request, path), path) | {"in": "path", "required": True}

    def _query(self, message: Descriptor, without: set[str], prefix: str = "") -> list[Schema]:
        """Parameters for all fields except `without`; nested fields have dotted names."""
        parameters: list[Schema] = []
        for field in message.fields:
            name = prefix + field.name
            nested = field.message_type
            if name in without or (nested is not None and field.is_repeated):
                continue  # The edge reads no maps and no lists of messages from a query.
            if nested is not None and nested.full_name == HTTP_BODY:
                continue  # Bytes come as a body or not at all.
            if nested is None or nested.file.package == "google.protobuf":
                parameter = self._parameter(field, name) | {"in": "query"}
                if self._requests.is_required(field):
                    parameter["required"] = True
                parameters.append(parameter)
            else:
                parameters += self._query(nested, without, f"{name}.")
        return parameters

    def _parameter(self, field: FieldDescriptor, name: str) -> Schema:
        parameter: Schema = {"name": name, "in": ""}
        if comment := self._contract.comment(field.full_name):
            parameter["description"] = comment
        return parameter | {"schema": self._requests.value(field)}

    def _body(self, request: Descriptor, body: str, in_path: list[str]) -> Schema:
        if body == "*":
            schema = self._requests.message(request, without=frozenset(in_path))
            required = bool(schema.get("required"))
        else:
            field = request.fields_by_name[body]
            if field.message_type is not None and field.message_type.full_name == HTTP_BODY:
                return _any_bytes(self._contract.comment(field.full_name))
            schema = self._requests.field(field)
            required = self._requests.is_required(field)
        return {"required": required, "content": {"application/json": {"schema": schema}}}

    def _answer(self, rpc: Rpc, status: int) -> Schema:
        about = HTTPStatus(status).phrase
        if rpc.response.full_name == HTTP_BODY:
            return {"description": about} | _any_bytes()
        if rpc.face.bare_array:
            rows = rpc.response.fields_by_name[rpc.face.bare_array]
            schema = self._responses.field(rows)
        else:
            schema = self._responses.reference(rpc.response)
        if not rpc.method.server_streaming:
            return {"description": about, "content": {"application/json": {"schema": schema}}}
        return {"description": about, "content": self._stream(rpc, schema)}

    def _stream(self, rpc: Rpc, schema: Schema) -> Schema:
        content: Schema = {}
        if rpc.face.sse:
            frames = (
                "One `data:` frame for each message, whose JSON is as in `x-frame`, in one line. "
                "There are no `id:` or `event:` lines."
            )
            text = {"type": "string", "description": frames, "x-frame": schema}
            content["text/event-stream"] = {"schema": text}
        content["application/json"] = {"schema": {"type": "array", "items": schema}}
        return content


def _first_sentence(comment: str) -> tuple[str, str]:
    first, *rest = re.split(r"(?<=\.)\s+", comment, maxsplit=1)
    return first, "".join(rest)


def _find(message: Descriptor, path: str) -> FieldDescriptor:
    *outer, name = path.split(".")
    for step in outer:
        inner = message.fields_by_name[step].message_type
        assert inner is not None, f"{path} goes through {step}, which holds no fields"
        message = inner
    return message.fields_by_name[name]


def _any_bytes(comment: str = "") -> dict[str, Any]:
    """Bytes of any media type, passed through unchanged."""
    content: dict[str, Any] = {"content": {"*/*": {"schema": {}}}}
    return {"description": comment, **content} if comment else content
