"""Pieces of SQL that several statements of the ledger share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from molecule_grpc.delegation.ledger.rules import FINAL, LIVE, Status


def _statuses(of: Iterable[Status]) -> str:
    return ", ".join(f"'{status}'" for status in sorted(of))


# Written out in each statement: a partial index serves no parameter.
FINAL_STATUSES: Final = _statuses(FINAL)
LIVE_STATUSES: Final = _statuses(LIVE)

# Whether a workspace `w` is called at a URL; anything else reads its inbox.
PUSHED: Final = "w.mode_in_force = 'push'"

# Who a task comes from, as its reader sees it. A fire of a workspace's own schedule is a delegation
# of the workspace to itself, and comes from nobody: no client may converse with itself.
SENDER: Final = "nullif(caller_id, callee_id)"


def cut(text: str, limit: int) -> str:
    """SQL for at most `limit` characters of a text, the last of them `…` where something is cut."""
    return (
        f"CASE WHEN length({text}) > {limit} THEN left({text}, {limit - 1}) || '…' ELSE {text} END"
    )
