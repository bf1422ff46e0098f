"""The rules written in the protos, applied to a request."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import protovalidate
from google.protobuf.message import Message

from molecule_grpc.kernel.errors import Invalid
from molecule_grpc.server.quick_rules import quick_check


class Validator:
    """Checks requests; those of these types quickly."""

    def __init__(self, types: Iterable[type[Message]]) -> None:
        self._validator = protovalidate.Validator()
        self._quick = {kind: quick_check(kind.DESCRIPTOR) for kind in types}
        for kind in self._quick:
            self._validator.collect_violations(kind())  # The first message costs milliseconds.

    def check(self, request: Message) -> None:
        """Raise `Invalid`, naming every field at fault, unless the request keeps the rules."""
        quick = self._quick.get(type(request))
        if quick is not None and quick(request):
            return
        violations = self._validator.collect_violations(request)
        if not violations:
            return
        found = [(_path(v.proto), _sentence(v.proto)) for v in violations]
        error = Invalid(found[0][1])
        error.violations = found
        raise error


def _path(violation: Any) -> str:
    elements = violation.field.elements if violation.field else ()
    return ".".join(
        f"{element.field_name}[{element.subscript.value}]"
        if element.subscript
        else element.field_name
        for element in elements
    )


def _sentence(violation: Any) -> str:
    """The rule's text with the field's name in front; a rule with words of its own as it is."""
    message: str = violation.message
    rule = violation.rule.elements[0].field_name if violation.rule else ""
    if rule == "cel":
        return message
    return f"{_path(violation)} {message.removeprefix('value ')}".strip()
