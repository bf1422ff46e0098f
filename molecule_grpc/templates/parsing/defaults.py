"""What workspaces of a template inherit, and what both of them may say."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from molecule_grpc.directory import InitialMemory
from molecule_grpc.templates.parsing import rules
from molecule_grpc.templates.parsing.fields import Fields
from molecule_grpc.templates.reading.files import Files, TemplateInvalid, shown
from molecule_grpc.templates.values import Requirement

_MAX_IDLE_SECONDS: Final = 366 * 24 * 3600
_MAX_MEMORIES: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """Values that a workspace inherits where its own node is silent."""

    runtime: str = ""
    model: str = ""
    tier: int = 0
    plugins: tuple[str, ...] = ()
    prompts: Mapping[str, str] = field(default_factory=dict)
    idle_interval_seconds: int = 0
    category_routing: Mapping[str, list[str]] = field(default_factory=dict)
    memories: tuple[InitialMemory, ...] = ()
    egress: object = None


class Prompts:
    """Finds the texts that stand in files of the template.

    Args:
        notes: gets what was not found.
    """

    def __init__(self, files: Files, notes: list[str]) -> None:
        self._files = files
        self._notes = notes

    def read(self, fields: Fields, name: str, directory: str = "") -> str:
        """The prompt of a field: inline, else of the file that `<name>_file` names.

        Args:
            directory: where the file is looked for first; then beside the file that names it.

        Raises:
            TemplateInvalid: the file lies outside of the template, or is no UTF-8.
        """
        inline = fields.text(name)
        target = fields.text(f"{name}_file")
        if inline.strip() or not target:
            return inline
        for place in (directory, posixpath.dirname(fields.source)):
            path = within(posixpath.join(place, target), fields.where)
            if (content := self._files.get(path)) is not None:
                return decoded(path, content)
        self._notes.append(f"{name}_file: there is no file {target[:200]!r}")
        return ""


def within(path: str, where: str) -> str:
    """A path below the template's root, without dots.

    Raises:
        TemplateInvalid: it leads out of the template.
    """
    plain = posixpath.normpath(path) if path else ""
    if plain.startswith("/") or "\\" in plain or plain.split("/")[0] == "..":
        raise TemplateInvalid(f"{where}: {shown(path)} leads out of the template")
    return "" if plain == "." else plain


def decoded(path: str, content: bytes) -> str:
    """The text of a file.

    Raises:
        TemplateInvalid: it is no UTF-8, or holds NUL.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TemplateInvalid(f"{shown(path)} is not UTF-8") from error
    if "\0" in text:
        raise TemplateInvalid(f"{shown(path)} is not a text")
    return text


def read_defaults(fields: Fields, prompts: Prompts) -> Defaults:
    """The section `defaults`."""
    return Defaults(
        runtime=fields.text("runtime"),
        model=fields.text("model"),
        tier=fields.whole("tier", 0, 100, 0),
        plugins=tuple(fields.texts("plugins")),
        prompts={name: prompts.read(fields, name) for name in ("initial_prompt", "idle_prompt")},
        idle_interval_seconds=idle_seconds(fields, 0),
        category_routing=category_routing(fields, {}),
        memories=memories(fields),
        egress=fields.given.get("egress"),
    )


def idle_seconds(fields: Fields, default: int) -> int:
    """Seconds without work after which an agent gets its idle prompt; 0 for never."""
    return fields.whole("idle_interval_seconds", 0, _MAX_IDLE_SECONDS, default)


def category_routing(fields: Fields, defaults: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Roles by category: a workspace's own win over the defaults, and an empty list drops them."""
    own = fields.below("category_routing")
    chosen = dict(defaults) | {name: own.texts(name) for name in own.given}
    return {name: roles for name, roles in chosen.items() if roles}


def memories(fields: Fields, name: str = "initial_memories") -> tuple[InitialMemory, ...]:
    """What agents know from the start; entries without a text are left out."""
    found = []
    for entry in fields.items(name):
        if isinstance(entry, str):
            found.append(InitialMemory(entry, ""))
            continue
        memory = Fields(entry, f"{fields.where}: {name}")
        found.append(InitialMemory(memory.text("content"), memory.text("scope").upper()))
    if len(found) > _MAX_MEMORIES:
        raise TemplateInvalid(f"{fields.where}: {name} can have {_MAX_MEMORIES} entries at most")
    return tuple(each for each in found if each.content.strip())


def requirements(fields: Fields, name: str) -> tuple[Requirement, ...]:
    """Variables that are needed; what is no valid name is left out."""
    found = (rules.requirement(entry) for entry in fields.items(name))
    return tuple(each for each in found if each is not None)
