"""Reads docstrings of Google's style: text, and the sections Args, Returns and Raises."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, field

_SECTION = re.compile(r"^(Args|Returns|Raises):$")
_ENTRY = re.compile(r"^ {4}(?P<name>[\w.*]+): (?P<text>.*)$")


@dataclass(frozen=True, slots=True)
class Docstring:
    """A docstring in parts; entries map a name to its text, wrapped lines joined."""

    text: str
    args: dict[str, str] = field(default_factory=dict)
    returns: str = ""
    raises: dict[str, str] = field(default_factory=dict)


def read(text: str | None) -> Docstring:
    """Split a docstring; a missing one has an empty text."""
    entries: dict[str, dict[str, str]] = {"Args": {}, "Raises": {}}
    prose: list[str] = []
    returned: list[str] = []
    section = last = ""
    for line in inspect.cleandoc(text or "").splitlines():
        if found := _SECTION.match(line):
            section, last = found[1], ""
        elif section == "Returns" and line.startswith(" " * 4):
            returned.append(line.strip())
        elif section and (entry := _ENTRY.match(line)):
            last = entry["name"]
            entries[section][last] = entry["text"].strip()
        elif section and last and line.startswith(" " * 8):
            entries[section][last] += " " + line.strip()
        elif line.strip() or not section:
            section = ""
            prose.append(line)
    return Docstring(
        "\n".join(prose).strip(), entries["Args"], " ".join(returned), entries["Raises"]
    )
