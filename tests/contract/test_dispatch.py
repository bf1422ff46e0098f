"""No code but the dispatcher's calls a backend to start, stop or remove."""

from __future__ import annotations

import ast
from pathlib import Path

import molecule_grpc

PROGRAM = Path(molecule_grpc.__file__).parent
BACKENDS = PROGRAM / "backends"
# The dispatcher, and the backends themselves.
ALLOWED = [BACKENDS / "dispatch.py", *(each for each in BACKENDS.glob("*/backend.py"))]
VERBS = {"start", "stop", "remove_volumes"}


def calls(text: str) -> list[int]:
    """Lines on which a backend is called, or its method handed on to be called."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call)
        and any(keyword.arg == "deadline" for keyword in node.keywords)
        and any(_is_verb(each) for each in (node.func, *node.args))
    ]


def _is_verb(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and node.attr in VERBS


def test_only_the_dispatcher_starts_stops_and_removes() -> None:
    """R-8.3, INV-1: no verb knows one backend and forgets the others."""
    found = {
        str(path.relative_to(PROGRAM)): lines
        for path in PROGRAM.rglob("*.py")
        if path not in ALLOWED and (lines := calls(path.read_text()))
    }
    assert found == {}
    assert calls((BACKENDS / "dispatch.py").read_text()) != []


def test_the_search_bites() -> None:
    assert calls("await self._docker.stop(resource, deadline=30)\n") == [1]
    assert calls("f = partial(backend.start, request, deadline=left)") == [1]
    assert calls("# backend.stop(resource, deadline=30)\nawait dispatch.stop(name, resource)") == []
