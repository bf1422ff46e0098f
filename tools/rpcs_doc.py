"""Prints docs/rpcs.md: where each RPC is served, decided and tested.

python -m tools.rpcs_doc > docs/rpcs.md

RPCs and REST paths come from gen/descriptor.binpb, the handler from the slice's service class, the
use case from the call that the handler makes, the policy from auth/policy.py, and the test file
from the calls that tests/e2e makes.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import math
import pkgutil
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import molecule_grpc
from molecule_grpc.auth.policy import POLICIES, Policy
from molecule_grpc.auth.principal import Role
from tools.descriptors import Contract, Rpc

ROOT = Path(__file__).parent.parent
_HEAD = """\
# RPCs

<!-- Generated from gen/descriptor.binpb and the code by tools/rpcs_doc.py. -->

For each RPC: its REST form, the use case that its handler calls, who may call it, and the test
file that calls it most. The handler is the method of the RPC's name in the service's file; field
rules and limits stand in the proto, reasons of errors in [errors.md](errors.md). A call that may
last ends with its token: UNAUTHENTICATED within 5 s of the revocation. "Reads" marks the RPCs that
a read-only token may call.
"""
_WITHOUT_REST = "gRPC only"
# Slices that serve RPCs of a service which is named after another slice.
_FURTHER_SLICES = {
    "workspace": ("secrets", "schedules", "approvals", "configuration", "bundles", "backends"),
    "admin": ("backends", "templates"),
}


@dataclass(frozen=True, slots=True)
class Handler:
    """The method that serves an RPC.

    Args:
        file: of the service class, from the repository's root.
        use_cases: `(file, name)` of the functions and methods of our code that the handler calls.
    """

    file: str
    use_cases: tuple[tuple[str, str], ...]


def render(contract: Contract) -> str:
    """The whole page as Markdown."""
    services: dict[str, dict[Rpc, Handler]] = {}
    for rpc in contract.rpcs():
        services.setdefault(rpc.service, {})[rpc] = handler(rpc)
    sections = [
        [*_service_head(served), *(_row(rpc, found) for rpc, found in served.items())]
        for served in services.values()
    ]
    return "\n".join([_HEAD, "\n\n".join("\n".join(lines) for lines in sections)]) + "\n"


def _service_head(served: dict[Rpc, Handler]) -> list[str]:
    first = next(iter(served))
    proto = f"proto/{first.method.containing_service.file.name}"
    files = ", ".join(_link(file) for file in dict.fromkeys(each.file for each in served.values()))
    return [
        f"## {first.service.rpartition('.')[2]}\n",
        f"Contract: {_link(proto)}. Handlers: {files}.\n",
        "| RPC | REST | Use case | May call | Tested in |",
        "|---|---|---|---|---|",
    ]


def _row(rpc: Rpc, found: Handler) -> str:
    rest = "<br>".join(f"`{b.verb} {b.path}`" for b in rpc.bindings) or _WITHOUT_REST
    cases = "<br>".join(f"{_link(file, name)}" for file, name in found.use_cases)
    policy = _policy(POLICIES[f"/{rpc.service}/{rpc.name}"])
    tested = most_calling(rpc)
    test = _link(f"tests/e2e/{tested}", tested) if tested else ""
    return f"| {rpc.name} | {rest} | {cases or 'in the handler'} | {policy} | {test} |"


def _link(path: str, text: str = "") -> str:
    return f"[`{text or path}`](../{path})"


def _policy(policy: Policy) -> str:
    roles = [role.value for role in Role if role in policy.roles]
    parties = {len(Role): "everybody", len(Role) - 1: "any token"}.get(len(roles), ", ".join(roles))
    acting = f"; as `{policy.workspace}`" if policy.workspace else ""
    reads = "; reads" if policy.reads else ""
    return parties + acting + reads + ("; ends with its token" if policy.lasts else "")


def handler(rpc: Rpc) -> Handler:
    """The handler of an RPC, and the use cases that it calls.

    Raises:
        LookupError: no service class of our code has a method of this name.
    """
    named_after = rpc.service.split(".")[1]
    slices = (named_after, *_FURTHER_SLICES.get(named_after, ()))
    for module in (each for name in slices for each in _modules(f"molecule_grpc.{name}")):
        for service in _classes(module):
            if rpc.name in vars(service):
                calls = _Calls(service, module)
                return Handler(_file(module), tuple(calls.of(getattr(service, rpc.name))))
    raise LookupError(f"{rpc.service}/{rpc.name} has no handler in {', '.join(slices)}")


class _Calls:
    """Finds which of our functions a method of a service class calls."""

    def __init__(self, service: type, module: ModuleType) -> None:
        self._module = module
        self._attributes = _attributes(service)

    def of(self, function: Any) -> list[tuple[str, str]]:
        """In the order of the calls, each once; conversions and checks of the face left out."""
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        called = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
        found = list(dict.fromkeys(case for func in called if (case := self._resolve(func))))
        # Beside a method of a use case's class, functions only prepare its arguments.
        methods = [case for case in found if case[1][0].isupper()]
        return methods or found

    def _resolve(self, func: ast.expr) -> tuple[str, str] | None:
        match func:
            case ast.Attribute(ast.Attribute(ast.Name("self"), attribute), method):
                return _method(self._attributes.get(attribute), method, self._module)
            case ast.Attribute(ast.Name("self"), attribute):
                match self._attributes.get(attribute):
                    case (owner, method):
                        return _method(owner, method, self._module)
            case ast.Attribute(ast.Name(name), function):
                target = getattr(self._module, name, None)
                return _function(getattr(target, function, None), self._module)
            case ast.Name(name):
                return _function(getattr(self._module, name, None), self._module)
        return None


def _method(owner: Any, name: str, caller: ModuleType) -> tuple[str, str] | None:
    owner = _implementation(owner)
    function = getattr(owner, name, None)
    if not inspect.isfunction(function) or not _is_use_case(function.__module__, caller.__name__):
        return None
    return _file(importlib.import_module(owner.__module__)), f"{owner.__name__}.{name}"


def _function(function: Any, caller: ModuleType) -> tuple[str, str] | None:
    if not inspect.isfunction(function) or function.__module__ == caller.__name__:
        return None
    if not _is_use_case(function.__module__, caller.__name__):
        return None
    path = _file(importlib.import_module(function.__module__))
    return path, f"{function.__module__.rpartition('.')[2]}.{function.__name__}"


def _is_use_case(module: str, caller: str) -> bool:
    """Whether a module of ours holds use cases: not the face's conversions, not shared tools.

    The service of another package, as of events, serves RPCs that are declared with the caller's.
    """
    parts = module.split(".")
    if parts[-1] == "service":
        return parts[1] != caller.split(".")[1]
    shared = {"kernel", "server", "db", "settings", "auth"}
    return parts[0] == "molecule_grpc" and parts[1] not in shared and not _FACE & set(parts)


_FACE = {"convert", "conversion", "rules"}


def _attributes(service: type) -> dict[str, Any]:
    """Attributes of instances by name: their class, or `(class, method)` for a bound method."""
    found: dict[str, Any] = {}
    for each in reversed(service.__mro__):
        if "__init__" not in vars(each) or not each.__module__.startswith("molecule_grpc"):
            continue
        module = importlib.import_module(each.__module__)
        init: Any = vars(each)["__init__"]
        hints = _hints(init, module)
        tree = ast.parse(textwrap.dedent(inspect.getsource(init)))
        for node in ast.walk(tree):
            match node:
                case ast.Assign([ast.Attribute(ast.Name("self"), name)], value):
                    found[name] = _assigned(value, hints, module, found)
    return found


def _assigned(value: ast.expr, hints: dict[str, Any], module: ModuleType, found: Any) -> Any:
    match value:
        case ast.Name(parameter):
            return hints.get(parameter)
        case ast.Call(ast.Name(name)):
            return getattr(module, name, None)
        case ast.Attribute(ast.Name(parameter), attribute) if parameter != "self":
            owner = hints.get(parameter)
            home = importlib.import_module(owner.__module__) if inspect.isclass(owner) else module
            return _hints(owner, home).get(attribute) or (owner, attribute)
        case ast.Attribute(ast.Attribute(ast.Name("self"), attribute), method):
            return (found.get(attribute), method)
    return None


def _hints(annotated: Any, module: ModuleType) -> dict[str, Any]:
    """What the annotations of a function or class name, where that is one class or alias."""
    texts = getattr(annotated, "__annotations__", {})
    return {
        name: _named(ast.parse(str(text), mode="eval").body, module) for name, text in texts.items()
    }


def _named(annotation: ast.expr, module: ModuleType) -> Any:
    match annotation:
        case ast.Name(name):
            return getattr(module, name, None)
        case ast.Attribute(ast.Name(name), attribute):
            return getattr(getattr(module, name, None), attribute, None)
        case ast.BinOp(left):  # X | None
            return _named(left, module)
    return None


def _implementation(owner: Any) -> Any:
    """The one class of our code with all methods of a port; a class that is no port, itself."""
    if not getattr(owner, "_is_protocol", False):
        return owner
    wanted = {name for name in vars(owner) if inspect.isfunction(vars(owner)[name])}
    wanted = {name for name in wanted if not name.startswith("_")}
    candidates = [
        each
        for module in _modules("molecule_grpc")
        for each in _classes(module)
        if not getattr(each, "_is_protocol", False) and wanted <= set(vars(each))
    ]
    return candidates[0] if len(candidates) == 1 else owner


def _classes(module: ModuleType) -> Iterator[type]:
    for value in list(vars(module).values()):
        if inspect.isclass(value) and value.__module__ == module.__name__:
            yield value


@cache
def _modules(package: str) -> tuple[ModuleType, ...]:
    """A package's modules in alphabetical order; without programs, which run when imported."""
    parent = importlib.import_module(package)
    names = [each.name for each in pkgutil.walk_packages(parent.__path__, f"{package}.")]
    return tuple(importlib.import_module(n) for n in sorted(names) if not n.endswith("__main__"))


def _file(module: ModuleType) -> str:
    base = Path(molecule_grpc.__path__[0]).parent
    return str(Path(str(module.__file__)).relative_to(base))


def most_calling(rpc: Rpc) -> str:
    """The file of tests/e2e that is most about the RPC; empty for none.

    Counts calls by stub and by REST path, in relation to all RPCs that the file calls: a file about
    everything is about nothing.
    """
    own = _calls(rpc)
    scored = [
        (len(own.findall(text)) / math.sqrt(1 + len(_ANY_CALL.findall(text))), name)
        for name, text in _tests()
    ]
    score, name = min(scored, key=lambda each: (-each[0], each[1]))
    if score:
        return name
    # Called through a client of its own, as MCP is: a file named by a word of the RPC's name.
    for word in reversed(re.findall("[A-Z][a-z]+", rpc.name)):
        for name, _ in _tests():
            if word.lower() in name:
                return name
    return ""


_ANY_CALL = re.compile(r"\.[A-Z][a-z]\w+\(|/workspaces|/registry|/admin")


def _calls(rpc: Rpc) -> re.Pattern[str]:
    """Matches a call by a stub, or a REST path from below its workspace on."""
    patterns = [rf"\.{rpc.name}\("]
    for binding in rpc.bindings:
        path = re.sub(r"^/workspaces/{workspace_id}(?=/)", "", binding.path)
        path = re.sub(r"{[^}]*}", "\0", path)
        quoted = re.escape(path).replace("\0", r"(?:{[^}]*}|[^/\s\"'{}]+)")
        patterns.append(rf"(?<![\w]){quoted}[\"'?]")
    return re.compile("|".join(patterns))


@cache
def _tests() -> tuple[tuple[str, str], ...]:
    files = sorted((ROOT / "tests" / "e2e").glob("test_*.py"))
    return tuple((file.name, file.read_text()) for file in files)


def main() -> None:
    """Entry of `python -m tools.rpcs_doc`."""
    print(render(Contract.load()), end="")


if __name__ == "__main__":
    main()
