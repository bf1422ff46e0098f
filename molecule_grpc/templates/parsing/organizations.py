"""A whole template of an organisation, read from files or from an inline document."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from molecule_grpc.directory import InitialMemory
from molecule_grpc.kernel.errors import NotFound
from molecule_grpc.templates.parsing import rules
from molecule_grpc.templates.parsing.defaults import (
    Prompts,
    decoded,
    memories,
    read_defaults,
    requirements,
)
from molecule_grpc.templates.parsing.documents import Documents
from molecule_grpc.templates.parsing.fields import Fields
from molecule_grpc.templates.parsing.nodes import ENV_FILE, NodeReader
from molecule_grpc.templates.reading.files import Files, TemplateInvalid
from molecule_grpc.templates.values import Node, OrgTemplate, Requirements

ORG_FILES: Final = ("org.yaml", "org.yml")
MAX_WORKSPACES: Final = 500
MAX_LEVELS: Final = 50


def of_files(files: Files, variables: Mapping[str, str], name: str = "") -> OrgTemplate:
    """The template of a directory or an archive.

    Args:
        variables: what `${NAME}` means besides what `.env` files say.
        name: where the template does not name itself.

    Raises:
        NotFound: TEMPLATE_NOT_FOUND: there is no org.yaml.
        TemplateInvalid: says where and what is wrong.
    """
    path = next((each for each in ORG_FILES if each in files), None)
    if path is None:
        raise NotFound("the template has no org.yaml", reason="TEMPLATE_NOT_FOUND")
    return _Reader(files, variables).read(Documents(files).load(path), name)


def inline(given: Mapping[str, Any], variables: Mapping[str, str]) -> OrgTemplate:
    """A template that was sent with the call; nothing of it stands in files.

    Raises:
        TemplateInvalid: says where and what is wrong.
    """
    return _Reader({}, variables).read(given, "")


class _Reader:
    def __init__(self, files: Files, variables: Mapping[str, str]) -> None:
        self._files = files
        self._variables = variables
        self._count = 0

    def read(self, given: Any, name: str) -> OrgTemplate:
        top = Fields(given, "org.yaml")
        notes: list[str] = []
        defaults_given = top.below("defaults")
        defaults = read_defaults(defaults_given, Prompts(self._files, notes))
        env = self._env()
        reader = NodeReader(self._files, defaults, env, self._variables)
        roots = self._nodes(top.items("workspaces"), (), reader)
        if not roots:
            raise TemplateInvalid("org.yaml: the template has no workspaces")
        return OrgTemplate(
            name=rules.folded(top.text("name")) or name,
            description=top.text("description"),
            roots=_with_notes(_with_memories(roots, memories(top, "global_memories")), notes),
            requirements=_requirements([top, defaults_given], roots),
            secrets=frozenset(env),
        )

    def _env(self) -> dict[str, str]:
        content = self._files.get(ENV_FILE)
        return {} if content is None else rules.env_entries(decoded(ENV_FILE, content))

    def _nodes(
        self, given: list[Any], above: tuple[str, ...], reader: NodeReader
    ) -> tuple[Node, ...]:
        if len(above) >= MAX_LEVELS and given:
            raise TemplateInvalid(f"{above[-1]}: the tree is deeper than {MAX_LEVELS} levels")
        found: dict[str, Node] = {}
        for entry in given:
            self._count += 1
            if self._count > MAX_WORKSPACES:
                raise TemplateInvalid(f"a template can have {MAX_WORKSPACES} workspaces at most")
            node = reader.read(entry, above)
            if node.name in found:
                raise TemplateInvalid(f"{' / '.join(node.path)}: a sibling has this name")
            children = Fields(entry, " / ".join(node.path)).items("children")
            found[node.name] = dataclasses.replace(
                node, children=self._nodes(children, node.path, reader)
            )
        return tuple(found.values())


def _with_memories(roots: tuple[Node, ...], shared: tuple[InitialMemory, ...]) -> tuple[Node, ...]:
    """The first root knows what all of the organisation shall know."""
    first, *others = roots
    known = (*first.memories, *(each._replace(scope="GLOBAL") for each in shared))
    return (dataclasses.replace(first, memories=known), *others)


def _with_notes(roots: tuple[Node, ...], notes: list[str]) -> tuple[Node, ...]:
    """The first root tells what is ignored of the defaults."""
    first, *others = roots
    told = (*first.notes, *(f"defaults: {note}" for note in notes))
    return (dataclasses.replace(first, notes=told), *others)


def _requirements(shared: list[Fields], roots: tuple[Node, ...]) -> Requirements:
    nodes = OrgTemplate(name="", roots=roots).nodes
    return rules.union(
        [
            *(each for fields in shared for each in requirements(fields, "required_env")),
            *(each for node in nodes for each in node.needs),
        ],
        [
            *(each for fields in shared for each in requirements(fields, "recommended_env")),
            *(each for node in nodes for each in node.wishes),
        ],
    )
