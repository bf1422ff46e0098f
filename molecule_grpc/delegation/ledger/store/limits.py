"""The limits under which the ledger accepts delegations, as its statements compare with them."""

from __future__ import annotations

from typing import NamedTuple

from molecule_grpc.quotas import UNLIMITED, Quotas


class Limits(NamedTuple):
    """What keeps drafts out, as parameters of the statements.

    Args:
        max_items: an inbox, or a queue, with so many undone items takes no more.
        max_bytes: an inbox with so many undone bytes takes no more.
        open_of_workspace: a caller may have so many delegations under way.
        open_of_organization: an organisation may have so many under way.
        day_bytes: an organisation may record so many bytes a day.
    """

    max_items: int
    max_bytes: int
    open_of_workspace: int = UNLIMITED
    open_of_organization: int = UNLIMITED
    day_bytes: int = UNLIMITED

    @classmethod
    def of(cls, quotas: Quotas) -> Limits:
        """The limits that the quotas set."""
        return cls(
            quotas.inbox_items.bound,
            quotas.inbox_bytes.bound,
            quotas.open_of_workspace.bound,
            quotas.open_of_organization.bound,
            quotas.record_bytes.bound,
        )
