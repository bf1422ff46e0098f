"""What the protovalidate rules of a field mean in JSON Schema."""

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
# Without those of 64 bits: they are strings in JSON, and strings have no bounds.
NUMBERS = frozenset({"double", "float", "int32", "sint32", "sfixed32", "uint32", "fixed32"})
IGNORE_IF_ZERO = 1
IGNORE_ALWAYS = 3


def constraints(rules: Any | None) -> Schema:
    """The keywords that the rules of one value add to its schema.

    Rules that JSON Schema cannot say (CEL, for one) add nothing: the field's comment tells them.
    An enum's rules shorten its list of names: see `allowed_numbers`.
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
    return _number(typed) if kind in NUMBERS else {}


def allowed_numbers(rules: Any | None, declared: list[int]) -> list[int]:
    """Which of an enum's declared numbers a request may carry."""
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
    """Whether the rules do not look at a field that has its zero value."""
    return rules is not None and rules.ignore in (IGNORE_IF_ZERO, IGNORE_ALWAYS)


def fits(schema: Schema, zero: Any) -> bool:
    """Whether the zero value of a field, the same as leaving it out, is valid by its schema."""
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
    """What keeps the zero value out, where a field without presence is required."""
    if isinstance(zero, str):
        return {"minLength": 1}
    if isinstance(zero, list | dict):
        return {"minItems": 1} if isinstance(zero, list) else {"minProperties": 1}
    return {"not": {"enum": [zero]}}


def _string(rules: Any) -> Schema:
    schema = _sizes(rules, minLength="min_len", maxLength="max_len")
    if rules.HasField("len"):
        schema |= {"minLength": rules.len, "maxLength": rules.len}
    # A character has one byte or more, so that a limit in bytes is one in characters too.
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
