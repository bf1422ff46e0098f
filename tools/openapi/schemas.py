"""JSON Schemas of messages, in the JSON form that the edge reads and writes.

One message has two schemas: a request must satisfy the protovalidate rules, a response always
carries its scalars, lists and maps.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from tools.descriptors import Contract
from tools.openapi.rules import (
    Schema,
    allowed_numbers,
    constraints,
    fits,
    not_zero,
    skips_zero,
)

Kind = FieldDescriptor
INT32: Schema = {
    "type": "integer",
    "format": "int32",
    "minimum": -(2**31),
    "maximum": 2**31 - 1,
}
UINT32: Schema = {"type": "integer", "minimum": 0, "maximum": 2**32 - 1}
# JSON numbers cannot carry 64 bits.
INT64: Schema = {"type": "string", "format": "int64", "pattern": "^-?[0-9]+$"}
UINT64: Schema = {"type": "string", "format": "uint64", "pattern": "^[0-9]+$"}
SCALARS: dict[int, Schema] = {
    Kind.TYPE_BOOL: {"type": "boolean"},
    Kind.TYPE_STRING: {"type": "string"},
    Kind.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    Kind.TYPE_DOUBLE: {"type": "number", "format": "double"},
    Kind.TYPE_FLOAT: {"type": "number", "format": "float"},
    **dict.fromkeys((Kind.TYPE_INT32, Kind.TYPE_SINT32, Kind.TYPE_SFIXED32), INT32),
    **dict.fromkeys((Kind.TYPE_UINT32, Kind.TYPE_FIXED32), UINT32),
    **dict.fromkeys((Kind.TYPE_INT64, Kind.TYPE_SINT64, Kind.TYPE_SFIXED64), INT64),
    **dict.fromkeys((Kind.TYPE_UINT64, Kind.TYPE_FIXED64), UINT64),
}
WELL_KNOWN: dict[str, Schema] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?s$"},
    "google.protobuf.FieldMask": {"type": "string"},
    "google.protobuf.Struct": {"type": "object"},
    "google.protobuf.ListValue": {"type": "array", "items": {}},
    "google.protobuf.Value": {},
    "google.protobuf.Empty": {"type": "object"},
    "google.protobuf.Any": {"type": "object", "properties": {"@type": {"type": "string"}}},
    "google.api.HttpBody": {"type": "string", "contentMediaType": "application/octet-stream"},
}


class Schemas:
    """The schemas of one direction (requests or responses), collected on first use."""

    def __init__(self, contract: Contract, components: dict[str, Schema], *, inbound: bool) -> None:
        self._contract = contract
        self._components = components
        self._inbound = inbound

    def reference(self, message: Descriptor) -> Schema:
        """A reference to the message's component; the first reference adds the component."""
        if message.full_name in WELL_KNOWN:
            return dict(WELL_KNOWN[message.full_name])
        name = self._component_name(message)
        if name not in self._components:
            self._components[name] = {}  # Ends the recursion of a message that contains itself.
            self._components[name] = self.message(message)
        return {"$ref": f"#/components/schemas/{name}"}

    def message(self, message: Descriptor, *, without: frozenset[str] = frozenset()) -> Schema:
        """The schema of a message, leaving out the named fields."""
        fields = [field for field in message.fields if field.name not in without]
        schema: Schema = {"type": "object"}
        if comment := self._contract.comment(message.full_name):
            schema["description"] = comment
        schema["properties"] = {field.name: self.field(field) for field in fields}
        if required := [field.name for field in fields if self.is_required(field)]:
            schema["required"] = required
        return schema

    def field(self, field: FieldDescriptor) -> Schema:
        """The schema of a field with its comment."""
        schema = self.value(field)
        texts = (self._contract.comment(field.full_name), schema.pop("description", ""))
        if text := "\n".join(filter(None, texts)):
            schema = {"description": text} | schema
        return schema

    def value(self, field: FieldDescriptor) -> Schema:
        """The schema of a field's value."""
        rules = self._rules(field)
        schema = self._unconditional(field, rules)
        if field.has_presence or rules is None or fits(schema, _zero(field)) != rules.required:
            return schema
        if rules.required:
            return schema | not_zero(_zero(field))
        if skips_zero(rules):
            return {"anyOf": [schema, {"const": _zero(field)}]}
        return schema

    def is_required(self, field: FieldDescriptor) -> bool:
        """Whether every request must carry the field, or every response carries it."""
        if not self._inbound:
            return not field.has_presence
        rules = self._rules(field)
        if rules is None or rules.required:
            return rules is not None
        if field.has_presence or skips_zero(rules):
            return False
        return not fits(self._unconditional(field, rules), _zero(field))

    def _unconditional(self, field: FieldDescriptor, rules: Any | None) -> Schema:
        if entry := _map_entry(field):
            values = entry.fields_by_name["value"]
            single = self._single(values, rules and rules.map.values)
            return {"type": "object", "additionalProperties": single} | constraints(rules)
        if field.is_repeated:
            single = self._single(field, rules and rules.repeated.items)
            return {"type": "array", "items": single} | constraints(rules)
        return self._single(field, rules)

    def _rules(self, field: FieldDescriptor) -> Any | None:
        return self._contract.option(field, "buf.validate.field") if self._inbound else None

    def _single(self, field: FieldDescriptor, rules: Any | None) -> Schema:
        if field.enum_type is not None:
            return self._enum(field.enum_type, rules)
        if field.message_type is not None:
            return self.reference(field.message_type)
        return SCALARS[field.type] | constraints(rules)

    def _enum(self, enum: EnumDescriptor, rules: Any | None) -> Schema:
        numbers = allowed_numbers(rules, [value.number for value in enum.values])
        values = [value for value in enum.values if value.number in numbers]
        meanings = (
            f"- `{value.name}`: {comment}"
            for value in values
            if (comment := self._contract.comment(f"{enum.full_name}.{value.name}"))
        )
        schema: Schema = {"type": "string", "enum": [value.name for value in values]}
        if text := "\n".join(meanings):
            schema["description"] = text
        return schema

    def _component_name(self, message: Descriptor) -> str:
        # Drop the parts common to all packages: moleculeai.workspace.v1.Peer → workspace.Peer.
        name = message.full_name.removeprefix("moleculeai.").replace(".v1.", ".")
        outermost = name.split(".")[1]
        return f"{name}.Input" if self._inbound and not outermost.endswith("Request") else name


def _zero(field: FieldDescriptor) -> Any:
    if _map_entry(field):
        return {}
    if field.enum_type is not None and not field.is_repeated:
        return field.enum_type.values_by_number[0].name
    if isinstance(field.default_value, bytes):
        # In base64.
        return ""
    return field.default_value


def _map_entry(field: FieldDescriptor) -> Descriptor | None:
    entry = field.message_type
    return entry if entry is not None and entry.GetOptions().map_entry else None
