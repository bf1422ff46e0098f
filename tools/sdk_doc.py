"""Prints docs/sdk.md: every public name of molecule_grpc.client, from signatures and docstrings.

python -m tools.sdk_doc > docs/sdk.md
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from molecule_grpc import client
from tools import docstrings

_HEAD = """\
# The SDK

<!-- Generated from the docstrings of molecule_grpc/client by tools/sdk_doc.py. -->

`molecule_grpc.client` is an async client for agents and operators. A program starts with one of
{exported}, all importable from `molecule_grpc.client`; everything else on this page is returned or
raised by them. How an inbox behaves: [inbox.md](inbox.md). Every reason of an error:
[errors.md](errors.md).
"""
# The order of reading; further modules follow by name.
_PATH = re.compile(r"PosixPath\('([^']*)'\)")
_FIRST = (
    "agent", "serve", "items", "inbox", "files", "delegation",
    "platform", "workspaces", "verbs", "tokens", "administration", "errors",
)  # fmt: skip


def render() -> str:
    """The whole page as Markdown."""
    exported = ", ".join(f"`{name}`" for name in client.__all__)
    lines = [_HEAD.format(exported=exported)]
    for module in modules():
        if parts := [line for name, value in names(module) for line in _name(name, value, 3)]:
            path = module.__name__
            lines += [f"## `{path}`\n", f"{docstrings.read(module.__doc__).text}\n", *parts]
    return "\n".join(lines).rstrip() + "\n"


def modules() -> list[ModuleType]:
    """The modules of the package, the most used first."""
    found = [each.name for each in pkgutil.iter_modules(client.__path__)]
    order = [name for name in _FIRST if name in found]
    order += sorted(name for name in found if name not in order and not name.startswith("_"))
    return [importlib.import_module(f"{client.__name__}.{name}") for name in order]


def names(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Public classes, functions and types that the module itself defines, in the file's order."""
    for node in ast.parse(inspect.getsource(module)).body:
        defined = getattr(node, "name", "") or _assigned(node)
        if defined and not defined.startswith("_"):
            value = getattr(module, defined)
            if inspect.isclass(value) or inspect.isfunction(value):
                yield defined, value


def _assigned(node: ast.stmt) -> str:
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id
    return ""


def _name(name: str, value: Any, level: int) -> Iterator[str]:
    if not inspect.isclass(value):
        yield from _callable(name, value, level)
        return
    bases = [base.__name__ for base in value.__bases__ if base.__module__.startswith("molecule")]
    kind = f" (a kind of {', '.join(f'`{base}`' for base in bases)})" if bases else ""
    kind = " (a protocol)" if _is_protocol(value) else kind
    yield f"{'#' * level} class `{name}`{kind}\n"
    if dataclasses.is_dataclass(value):
        fields = [f"{f.name}: {f.type}" for f in dataclasses.fields(value) if f.name[0] != "_"]
        yield "```python\n" + "\n".join(fields) + "\n```\n"
    elif (
        "__init__" in vars(value)
        and not issubclass(value, BaseException)
        and not _is_protocol(value)
    ):
        yield f"```python\n{name}{_signature(value.__init__)}\n```\n"
    yield from _text(value)
    for member, attribute in vars(value).items():
        if member.startswith("_"):
            continue
        if isinstance(attribute, property):
            yield f"{'#' * (level + 1)} `{name}.{member}`\n"
            yield from _text(attribute.fget)
        elif inspect.isfunction(attribute) or isinstance(attribute, classmethod | staticmethod):
            function = getattr(attribute, "__func__", attribute)
            yield from _callable(f"{name}.{member}", function, level + 1)


def _callable(name: str, function: Any, level: int) -> Iterator[str]:
    yield f"{'#' * level} `{name}`\n"
    waits = "await " if inspect.iscoroutinefunction(function) else ""
    yield f"```python\n{waits}{name}{_signature(function)}\n```\n"
    yield from _text(function)


def _signature(function: Any) -> str:
    signature = inspect.signature(function)
    parameters = [p for n, p in signature.parameters.items() if n not in ("self", "cls")]
    returned = signature.return_annotation
    if returned in ("None", "Self") or function.__name__ == "__init__":
        returned = inspect.Signature.empty
    return _plain(str(signature.replace(parameters=parameters, return_annotation=returned)))


def _plain(signature: str) -> str:
    """Without what `inspect` adds: quotes of annotations, addresses of default functions."""
    signature = re.sub(r"<\w+ [^<>]* at 0x\w+>", "...", signature)
    return _PATH.sub(r"Path('\1')", re.sub(r"(: |-> )'([^']*)'", r"\1\2", signature))


def _text(value: Any) -> Iterator[str]:
    read = docstrings.read(value.__doc__)
    if read.text:
        yield read.text + "\n"
    entries = [(f"`{name}`", text) for name, text in read.args.items()]
    if read.returns:
        entries.append(("returns", read.returns))
    entries += [(f"raises `{name}`", text) for name, text in read.raises.items()]
    if entries:
        yield "".join(f"- {entry}: {text}\n" for entry, text in entries)


def _is_protocol(value: Any) -> bool:
    return getattr(value, "_is_protocol", False)


def main() -> None:
    """Entry of `python -m tools.sdk_doc`."""
    print(render(), end="")


if __name__ == "__main__":
    main()
