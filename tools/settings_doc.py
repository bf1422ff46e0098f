"""Writes every setting, by group, into docs/operating.md.

python -m tools.settings_doc
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from molecule_grpc.settings.settings import Settings
from tools import docstrings, sections

PAGE = Path(__file__).parent.parent / "docs" / "operating.md"
# Defaults that differ from machine to machine.
_COMPUTED = {"WORKERS": "half the cores"}


def render(page: str) -> str:
    """The page with its list of settings written anew."""
    return sections.replaced(page, "settings", "\n".join(_groups()))


def meanings() -> dict[str, str]:
    """Every variable with its meaning; empty where the group's docstring has no entry."""
    return {
        item.metadata["variable"]: docstrings.read(group.__doc__).args.get(item.name, "")
        for group in _group_types()
        for item in fields(group)
    }


def _groups() -> Iterator[str]:
    known = meanings()
    for group in _group_types():
        yield f"### {group.__name__.removesuffix('Settings')}\n"
        yield docstrings.read(group.__doc__).text + "\n"
        yield "| Variable | Default | Allowed | Meaning |"
        yield "|---|---|---|---|"
        for item in fields(group):
            variable = item.metadata["variable"]
            allowed = item.metadata["kind"].allowed
            meaning = known[variable][:1].upper() + known[variable][1:]
            yield f"| `{variable}` | {_default(item)} | {allowed} | {meaning} |"
        yield ""


def _group_types() -> list[Any]:
    return [item.default_factory for item in fields(Settings) if item.name != "warnings"]


def _default(item: Field[Any]) -> str:
    variable, value = item.metadata["variable"], item.default
    if variable in _COMPUTED:
        return _COMPUTED[variable]
    shown = str(item.metadata["kind"].show(value))
    if isinstance(value, bool):
        return shown
    if shown.isalpha():  # also a number that has a name
        return f"`{shown}`"
    if isinstance(value, int | float):
        return f"{value:.0f}" if value == int(value) else f"{value:g}"
    text = shown if isinstance(value, tuple) else str(value)
    return f"`{text}`" if text else ""


def main() -> None:
    """Entry of `python -m tools.settings_doc`."""
    PAGE.write_text(render(PAGE.read_text()))


if __name__ == "__main__":
    main()
