"""Whom the work of a call is charged to."""

from __future__ import annotations

from collections.abc import Hashable
from contextvars import ContextVar
from typing import NamedTuple
from uuid import UUID

ORGANIZATION = "organization"
WORKSPACE = "workspace"
TOKEN = "token"
TARGET = "target"


class Payer(NamedTuple):
    """The parties whose budgets a call uses.

    Args:
        organization: an organisation's id; `operator` and `strangers` count as organisations.
        workspace: the workspace that the call acts as, if any.
        token: the row of the caller's token; None for the operator and for strangers.
    """

    organization: UUID | str
    workspace: UUID | None = None
    token: UUID | None = None

    @property
    def keys(self) -> dict[str, Hashable]:
        """The payer as the keys of a budget."""
        keys: dict[str, Hashable] = {ORGANIZATION: self.organization}
        if self.workspace is not None:
            keys[WORKSPACE] = self.workspace
        if self.token is not None:
            keys[TOKEN] = self.token
        return keys


OPERATOR_PAYS = Payer("operator")
STRANGERS_PAY = Payer("strangers")

# Set by the pipeline for the task of a call, and inherited by tasks that the call starts. None in
# the platform's own tasks: those are not bounded.
payer: ContextVar[Payer | None] = ContextVar("payer", default=None)
