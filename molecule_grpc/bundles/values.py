"""Bundles, and what becomes of them, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Skill:
    """A directory of texts, by their paths below it."""

    id: str
    name: str = ""
    description: str = ""
    files: Mapping[str, str] = field(default_factory=dict)


class Tool(NamedTuple):
    """A file of JSON. `config` is its text."""

    id: str
    config: str


class Omission(NamedTuple):
    """A file or part of the workspace that the bundle lacks, and the reason."""

    path: str
    reason: str


class Texts(NamedTuple):
    """Files that can be read as texts, by path below /configs, and what was left out."""

    files: dict[str, str]
    omitted: list[Omission]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A workspace as a document.

    Args:
        id: of the workspace that was exported.
        card: JSON text; None for no card.
    """

    id: str = ""
    name: str
    description: str = ""
    tier: int = 0
    model: str = ""
    system_prompt: str = ""
    skills: tuple[Skill, ...] = ()
    tools: tuple[Tool, ...] = ()
    prompts: Mapping[str, str] = field(default_factory=dict)
    below: tuple[Bundle, ...] = ()
    card: str | None = None
    author: str = ""
    version: str = ""
    omitted: tuple[Omission, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The import's outcome for a workspace of a bundle, with the outcomes of its children.

    Args:
        workspace_id: None where there is no such workspace.
        error: why it failed, or why there is none; empty where all is well.
    """

    workspace_id: UUID | None
    name: str
    status: str
    error: str = ""
    below: tuple[Outcome, ...] = ()
