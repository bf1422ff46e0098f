"""Translates the protovalidate rules of a field into JSON Schema."""

from __future__ import annotations

import re
from typing import Any

Schema = dict[str, Any]

FORMATS = {
    "uuid": "uuid",
    "email": "email",
    "hostname": "hostname",
    "ipv4": "ipv4",
    "ipv6": "ipv6",
    "uri": "uri",
    "uri_ref": "uri-reference",
}
# Without 64-bit types: their JSON form is a string, and strings have no numeric bounds.
NUMBERS = frozenset({"double", "float", "int32", "sint32", "sfixed32", "uint32", "fixed32"})
IGNORE_IF_ZERO = 1
IGNORE_ALWAYS = 3


def constraints(rules: Any | None) -> Schema:
    """JSON Schema keywords for the rules of one value.

    Rules without a keyword in JSON Schema (CEL, for one) add nothing: the field's comment states
    them. Rules of an enum shorten its list of names: see `allowed_numbers`.
    """
    kind = rules.WhichOneof("type") if rules is not None else None
    if rules is None or kind is None or rules.ignore == IGNORE_ALWAYS:
        return {}
    typed = getattr(rules, kind)
    if kind == "string":
        return _string(typed)
    if kind == "repeated":
        unique = {"uniqueItems": True} if typed.unique else {}
        return _sizes(typed, minItems="min_items", maxItems="max_items") | unique
    if kind == "map":
        return _sizes(typed, minProperties="min_pairs", maxProperties="max_pairs")
    if kind == "bytes" and typed.HasField("max_len"):
        # Base64 makes four characters of three bytes.
        return {"maxLength": -(-typed.max_len // 3) * 4}
    return _number(typed) if kind in NUMBERS else {}


def allowed_numbers(rules: Any | None, declared: list[int]) -> list[int]:
    """The subset of an enum's declared numbers that a request may carry."""
    if rules is None or not rules.HasField("enum"):
        return declared
    enum = rules.enum
    if enum.HasField("const"):
        return [enum.const]
    listed = list(getattr(enum, "in")) or declared
    return [
        n
        for n in declared
        if (n in listed and n not in enum.not_in) or (n == 0 and skips_zero(rules))
    ]


def skips_zero(rules: Any | None) -> bool:
    """Whether the rules skip a field that has its zero value."""
    return rules is not None and rules.ignore in (IGNORE_IF_ZERO, IGNORE_ALWAYS)


def fits(schema: Schema, zero: Any) -> bool:
    """Whether the schema accepts the zero value, which equals leaving the field out."""
    if "enum" in schema and zero not in schema["enum"]:
        return False
    if zero in schema.get("not", {}).get("enum", ()) or schema.get("const", zero) != zero:
        return False
    if isinstance(zero, str):
        matches = re.search(schema.get("pattern", ""), zero) is not None
        return bool(matches and "format" not in schema and not schema.get("minLength"))
    if isinstance(zero, list | dict):
        return not schema.get("minItems") and not schema.get("minProperties")
    at_least, at_most = schema.get("minimum", 0), schema.get("maximum", 0)
    above, below = schema.get("exclusiveMinimum", -1), schema.get("exclusiveMaximum", 1)
    return bool(at_least <= zero <= at_most and above < zero < below)


def not_zero(zero: Any) -> Schema:
    """Keywords that reject the zero value, for a required field without presence."""
    if isinstance(zero, str):
        return {"minLength": 1}
    if isinstance(zero, list | dict):
        return {"minItems": 1} if isinstance(zero, list) else {"minProperties": 1}
    return {"not": {"enum": [zero]}}


def _string(rules: Any) -> Schema:
    schema = _sizes(rules, minLength="min_len", maxLength="max_len")
    if rules.HasField("len"):
        schema |= {"minLength": rules.len, "maxLength": rules.len}
    # A character takes at least one byte, so a limit in bytes also limits the characters.
    if rules.HasField("max_bytes"):
        schema["maxLength"] = min(rules.max_bytes, schema.get("maxLength", rules.max_bytes))
    if rules.HasField("min_bytes") and rules.min_bytes:
        schema.setdefault("minLength", 1)
    if rules.HasField("pattern"):
        schema["pattern"] = rules.pattern
    elif rules.HasField("prefix"):
        schema["pattern"] = f"^{re.escape(rules.prefix)}"
    well_known = rules.WhichOneof("well_known")
    if well_known in FORMATS and getattr(rules, well_known):
        schema["format"] = FORMATS[well_known]
    return schema | _listed(rules)


def _number(rules: Any) -> Schema:
    names = {
        "gte": "minimum",
        "gt": "exclusiveMinimum",
        "lte": "maximum",
        "lt": "exclusiveMaximum",
    }
    bounds = {
        name: _plain(getattr(rules, rule)) for rule, name in names.items() if rules.HasField(rule)
    }
    return bounds | _listed(rules)


def _plain(number: float) -> float:
    """1 for 1.0, as JSON prints it."""
    return int(number) if number == int(number) else number


def _listed(rules: Any) -> Schema:
    schema: Schema = {}
    if rules.HasField("const"):
        schema["const"] = rules.const
    if among := list(getattr(rules, "in")):
        schema["enum"] = among
    if besides := list(rules.not_in):
        schema["not"] = {"enum": besides}
    return schema


def _sizes(rules: Any, **names: str) -> Schema:
    return {name: getattr(rules, rule) for name, rule in names.items() if rules.HasField(rule)}
