"""The OpenAPI 3.1 document of the REST API: paths and shapes as the edge serves them."""

from __future__ import annotations

from typing import Any

from tools.descriptors import Contract
from tools.openapi.operations import Operations
from tools.openapi.rules import Schema

ERROR_REASONS = "moleculeai.error.v1.ErrorReason"
ABOUT = (
    "Generated from the protos. Unknown fields of a body and unknown query parameters are ignored; "
    "64-bit numbers are strings; absent optional fields are left out. Every RPC is also there over "
    "gRPC and gRPC-Web on the same port."
)


def document(contract: Contract) -> Schema:
    """The whole document, with components in alphabetical order."""
    components: dict[str, Schema] = {"Error": _error(contract)}
    operations = Operations(contract, components)
    paths: dict[str, dict[str, Any]] = {}
    tags: dict[str, Schema] = {}
    for rpc in contract.rpcs():
        name = rpc.service.rpartition(".")[2]
        tags.setdefault(name, {"name": name, "description": contract.comment(rpc.service)})
        for number, binding in enumerate(rpc.bindings):
            path, operation = operations.operation(rpc, binding, number)
            paths.setdefault(path, {})[binding.verb.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Molecule gRPC, REST API",
            "version": "1",
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "tags": list(tags.values()),
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": dict(sorted(components.items())),
            "responses": {"Error": _error_response()},
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A workspace token, an organisation token or the admin token.",
                }
            },
        },
    }


def _error(contract: Contract) -> Schema:
    return {
        "type": "object",
        "description": (
            "Any answer of 400 and above. Some errors carry more keys. gRPC callers also get the "
            "reason, as the name in `google.rpc.ErrorInfo`:\n" + _catalogue(contract)
        ),
        "properties": {"error": {"type": "string", "description": "One sentence for people."}},
        "required": ["error"],
    }


def _error_response() -> Schema:
    schema = {"$ref": "#/components/schemas/Error"}
    return {"description": "An error.", "content": {"application/json": {"schema": schema}}}


def _catalogue(contract: Contract) -> str:
    reasons = contract.enum(ERROR_REASONS).values[1:]  # The zero value is never sent.
    return "\n".join(
        f"- `{reason.name.removeprefix('ERROR_REASON_')}`: "
        + contract.comment(f"{ERROR_REASONS}.{reason.name}")
        for reason in reasons
    )
