"""CORS lets web pages use the headers that the code reads and sets, and no others."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from molecule_grpc.server import headers

PACKAGE = Path(__file__).parents[2] / "molecule_grpc"
# Rooms with headers of other answers, or with metadata that are no headers.
OUTSIDE = (
    "client",
    "cli",
    "upload/forward.py",
    "upload/blobs",
    "delegation/outbound/send.py",
    "backends/kubernetes",
)
# Between edge and workers, or added by proxies in front of the edge.
INTERNAL = {
    "x-body-type",
    "x-client-trace-id",
    "x-content-length",
    "x-envoy-original-method",
    "x-envoy-original-path",
    "x-error-body",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-head",
    "x-http-code",
    "x-marked-integers",
    "x-unwrap",
    "host",
}
# No script may set these, and all may read `cache-control`.
OF_BROWSERS = {"cache-control"}


def test_every_header_that_is_read_may_be_sent() -> None:
    read = set(_names("metadata", dicts=False))
    assert "range" in read
    assert "last-event-id" in read
    assert read - INTERNAL <= set(headers.REQUEST)


def test_every_header_that_is_set_may_be_read() -> None:
    written = set(_names("headers", dicts=True))
    assert "x-next-page-token" in written
    assert "content-range" in written
    known = set(headers.RESPONSE) | set(headers.REQUEST)
    assert written - INTERNAL - OF_BROWSERS <= known


def _names(holder: str, *, dicts: bool) -> Iterator[str]:
    """Names in `holder["x"]` and `holder.get("x")`; with `dicts`, in `holder = {"x": …}`."""
    for path in PACKAGE.rglob("*.py"):
        where = path.relative_to(PACKAGE).as_posix()
        if where.startswith(OUTSIDE) or where.startswith("settings"):
            continue
        tree = ast.parse(path.read_text())
        constants = _constants(tree)
        for node in ast.walk(tree):
            for key in _keys(node, holder, dicts=dicts):
                name = key.value if isinstance(key, ast.Constant) else constants.get(_name(key))
                if isinstance(name, str) and name.islower() and "_" not in name:
                    yield name


def _keys(node: ast.AST, wanted: str, *, dicts: bool) -> Iterator[ast.expr]:
    match node:
        case ast.Subscript(value=holder, slice=key) if _name(holder) == wanted:
            yield key
        case ast.Call(func=ast.Attribute(value=holder, attr="get"), args=[key, *_]) if (
            _name(holder) == wanted
        ):
            yield key
        case ast.Assign(targets=[target], value=ast.Dict(keys=keys)) if (
            dicts and _name(target) == wanted
        ):
            yield from filter(None, keys)
        case ast.keyword(arg=str(arg), value=ast.Dict(keys=keys)) if dicts and arg == wanted:
            yield from filter(None, keys)


def _name(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(attr=name):
            return name
    return ""


def _constants(tree: ast.Module) -> dict[str, object]:
    """Names of modules' own constants; those of other modules by their value there."""
    return {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
