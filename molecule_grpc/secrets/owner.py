"""Whose a secret is."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final
from uuid import UUID

INSTALLATION_ID: Final = UUID(int=0)


class Scope(enum.StrEnum):
    """How far a secret reaches, as on the wire."""

    WORKSPACE = "workspace"
    ORGANIZATION = "organization"
    GLOBAL = "global"


@dataclass(frozen=True, slots=True)
class Owner:
    """A workspace with its organisation, an organisation, or, without both, the installation."""

    organization_id: UUID | None = None
    workspace_id: UUID | None = None

    @property
    def id(self) -> UUID:
        """As rows name the owner."""
        return self.workspace_id or self.organization_id or INSTALLATION_ID

    @property
    def scope(self) -> Scope:
        """How far the owner's secrets reach."""
        if self.workspace_id is not None:
            return Scope.WORKSPACE
        return Scope.GLOBAL if self.organization_id is None else Scope.ORGANIZATION


INSTALLATION: Final = Owner()
