"""What a template says, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from molecule_grpc.directory import InitialMemory, TemplateSchedule
from molecule_grpc.host_list import ALL_HOSTS, HostList


class Skipped(NamedTuple):
    """Something of a workspace that is left out, and why."""

    what: str
    reason: str


class Requirement(NamedTuple):
    """A variable that agents need, or several of which any one is enough. Names are sorted."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """Variables that the agents of a template need, and those that they can use."""

    required: tuple[Requirement, ...] = ()
    recommended: tuple[Requirement, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A workspace of a template, with what it inherits from the template's defaults.

    Args:
        path: names from the root down to this one, which tell nodes of one template apart.
        name, role: folded to one line.
        runtime, model: empty where neither the node nor the defaults say.
        tier: 0 where nobody says.
        template: of a workspace; empty for none.
        files: what the agent finds below /configs, but for what is generated.
        settings: of `config.yaml`, over those of its file and of the template.
        secrets: by name, what `.env` files say.
        needs, wishes: variables that this agent needs or can use, as of its node alone.
        egress: the hosts that the agent may reach.
        fault: why the workspace cannot be created; empty for no reason.
        notes: what is ignored, for people.
    """

    path: tuple[str, ...]
    name: str
    role: str = ""
    runtime: str = ""
    model: str = ""
    tier: int = 0
    template: str = ""
    external: bool = False
    url: str = ""
    workspace_dir: str = ""
    workspace_access: str = "none"
    max_concurrent_tasks: int = 1
    place: tuple[float, float] | None = None
    egress: HostList = ALL_HOSTS
    files: Mapping[str, bytes] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    plugins: tuple[str, ...] = ()
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    memories: tuple[InitialMemory, ...] = ()
    schedules: tuple[TemplateSchedule, ...] = ()
    schedules_skipped: tuple[Skipped, ...] = ()
    channels_skipped: tuple[Skipped, ...] = ()
    needs: tuple[Requirement, ...] = ()
    wishes: tuple[Requirement, ...] = ()
    fault: str = ""
    notes: tuple[str, ...] = ()
    children: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OrgTemplate:
    """A template of an organisation.

    Args:
        secrets: names that the `.env` at its root brings to every workspace.
    """

    name: str
    description: str = ""
    roots: tuple[Node, ...] = ()
    requirements: Requirements = Requirements()
    secrets: frozenset[str] = frozenset()

    @property
    def nodes(self) -> list[Node]:
        """All workspaces, each behind its parent."""
        found: list[Node] = []
        waiting = list(reversed(self.roots))
        while waiting:
            node = waiting.pop()
            found.append(node)
            waiting.extend(reversed(node.children))
        return found
