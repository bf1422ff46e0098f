"""What the agents of a run saw."""

from __future__ import annotations

import collections
from dataclasses import dataclass, field
from uuid import UUID


@dataclass(slots=True)
class History:
    """The agents' record of the run: accepted work, files and messages, and their outcomes."""

    accepted: dict[str, str] = field(default_factory=dict)
    worked: collections.Counter[str] = field(default_factory=collections.Counter)
    # Delegation id → (seq, delivery) of every result item received.
    results: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    # Results received again although their item said `delivery` 1.
    unmarked: int = 0
    errors: collections.Counter[str] = field(default_factory=collections.Counter)
    # Name of every accepted file → SHA-256; every (name, SHA-256) on its receiver's disk.
    sent_files: dict[str, str] = field(default_factory=dict)
    received_files: list[tuple[str, str]] = field(default_factory=list)
    # Texts of the messages to a reader that follows its inbox, and the (seq, text) it was shown.
    sent_messages: list[str] = field(default_factory=list)
    followed: list[tuple[int, str]] = field(default_factory=list)
    # Revoked tokens; those among them whose stream went on, or that opened something afterwards.
    revoked: list[str] = field(default_factory=list)
    alive: set[str] = field(default_factory=set)
    # Delegations whose callee was purged before any work: they end, but not as completed.
    abandoned: set[str] = field(default_factory=set)
    purged: list[UUID] = field(default_factory=list)
