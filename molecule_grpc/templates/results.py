"""What an import did, or would do."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from uuid import UUID

from molecule_grpc.templates.values import Requirement, Skipped


class Action(enum.StrEnum):
    """What became of a workspace, as on the wire."""

    CREATE = "create"
    SKIP = "skip"
    DIFFER = "differ"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The import's outcome for a workspace of a template.

    Args:
        id, parent_id: None where there is none.
        status: of the workspace; empty for one that is not there.
        error: why it cannot be created, or failed at once.
        changed: parts that the template describes differently by now.
        schedules: how many of the template's the workspace has.
    """

    path: tuple[str, ...]
    tier: int
    action: Action
    id: UUID | None = None
    parent_id: UUID | None = None
    status: str = ""
    error: str = ""
    changed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    schedules: int = 0
    schedules_skipped: tuple[Skipped, ...] = ()
    channels_skipped: tuple[Skipped, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportResult:
    """What became of a template.

    Args:
        missing: required variables that have no value.
    """

    name: str
    organization_id: UUID
    dry_run: bool
    outcomes: tuple[Outcome, ...]
    missing: tuple[Requirement, ...] = ()

    def count(self, *actions: Action) -> int:
        """How many workspaces have one of these actions."""
        return sum(each.action in actions for each in self.outcomes)

    @property
    def error(self) -> str:
        """Why the first workspace that cannot be created cannot be; empty for none."""
        failed = (each for each in self.outcomes if each.action is Action.FAIL)
        first = next(failed, None)
        return "" if first is None else f"{' / '.join(first.path)}: {first.error}"
