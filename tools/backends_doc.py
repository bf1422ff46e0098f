"""Writes what each backend can do, and is held to by the suite, into docs/backends.md.

python -m tools.backends_doc

Capabilities are read from the classes, promises from the names of the tests that run over every
backend.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from molecule_grpc.backends.contract.backend import Backend
from molecule_grpc.backends.contract.names import Capability
from molecule_grpc.backends.control_plane.backend import ControlPlane
from molecule_grpc.backends.docker.backend import DockerBackend
from molecule_grpc.backends.ec2.backend import Ec2Backend
from molecule_grpc.backends.kubernetes.backend import KubernetesBackend
from molecule_grpc.backends.none import NoBackend
from tools import sections

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "backends.md"
SUITE = ROOT / "tests" / "integration" / "test_backend_contract.py"
_BACKENDS: tuple[type[Backend], ...] = (
    ControlPlane,
    Ec2Backend,
    KubernetesBackend,
    DockerBackend,
    NoBackend,
)
# The fixture that opens each backend in turn.
_FIXTURE = "stand"


def render(page: str) -> str:
    """The page with both lists written anew."""
    page = sections.replaced(page, "capabilities", "\n".join(_capabilities()))
    return sections.replaced(page, "promises", "\n".join(_promises()))


def _capabilities() -> Iterator[str]:
    yield f"| | {' | '.join(f'`{each.name}`' for each in _BACKENDS)} |"
    yield "|---" * (len(_BACKENDS) + 1) + "|"
    for capability in Capability:
        cells = ["yes" if capability in _has(each) else "" for each in _BACKENDS]
        yield f"| {capability} | {' | '.join(cells)} |"


def _has(backend: type[Backend]) -> frozenset[Capability]:
    found: frozenset[Capability] = vars(backend)["capabilities"]
    return found


def _promises() -> Iterator[str]:
    for node in ast.parse(SUITE.read_text()).body:
        if isinstance(node, ast.AsyncFunctionDef) and node.name.startswith("test_"):
            over_all = any(argument.arg == _FIXTURE for argument in node.args.args)
            if over_all:
                yield f"- {node.name.removeprefix('test_').replace('_', ' ')}"


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text()))
