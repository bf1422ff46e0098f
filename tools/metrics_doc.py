"""Writes the list of metrics into docs/operating.md.

python -m tools.metrics_doc
"""
# prometheus_client has no public way to a metric's labels and type.
# ruff: noqa: SLF001

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prometheus_client import REGISTRY

import molecule_grpc
from tools import sections

PAGE = Path(__file__).parent.parent / "docs" / "operating.md"
_PREFIX = "molecule_"


def render(page: str) -> str:
    """The page with its list of metrics written anew."""
    return sections.replaced(page, "metrics", "\n".join(_rows()))


def _rows() -> Iterator[str]:
    yield "| Metric | Type | Labels | Meaning |"
    yield "|---|---|---|---|"
    for metric in _metrics():
        labels = ", ".join(f"`{label}`" for label in metric._labelnames)
        name = metric._name + ("_total" if metric._type == "counter" else "")
        yield f"| `{name}` | {metric._type} | {labels} | {metric._documentation} |"


def _metrics() -> list[Any]:
    """Our metrics by name; each registers itself when its module is imported."""
    for module in pkgutil.walk_packages(molecule_grpc.__path__, "molecule_grpc."):
        importlib.import_module(module.name)
    collectors: list[Any] = list(set(REGISTRY._names_to_collectors.values()))
    ours = [each for each in collectors if getattr(each, "_name", "").startswith(_PREFIX)]
    return sorted(ours, key=lambda metric: metric._name)


def main() -> None:
    """Entry of `python -m tools.metrics_doc`."""
    PAGE.write_text(render(PAGE.read_text()))


if __name__ == "__main__":
    main()
