"""Counts the calls to agents that are open in this worker, and the bytes of their messages."""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.budgets import Budgets
from molecule_grpc.kernel.payer import ORGANIZATION, TARGET


class OpenCall(NamedTuple):
    """A call that counts until `OpenCalls.end`.

    Args:
        size: bytes of the message.
    """

    organization_id: UUID
    target_id: UUID
    size: int

    @property
    def keys(self) -> dict[str, Hashable]:
        return {ORGANIZATION: self.organization_id, TARGET: self.target_id}


class OpenCalls:
    """A call to an agent holds a socket and its message until the agent answers."""

    def __init__(self, budgets: Budgets) -> None:
        self._calls = budgets.calls
        self._bytes = budgets.call_bytes

    @property
    def room(self) -> int:
        """How many more calls this worker may open now."""
        return min(self._calls.room(), self._bytes.room())

    @property
    def full_organizations(self) -> set[Hashable]:
        """Organisations that may open no further call now."""
        return {*self._calls.full_keys(ORGANIZATION), *self._bytes.full_keys(ORGANIZATION)}

    def take(self, call: OpenCall) -> None:
        """Count a call; `end` must follow.

        Raises:
            Exhausted: RESOURCE_EXHAUSTED: a budget has no room; nothing is counted then.
        """
        self._calls.take(1, **call.keys)
        try:
            self._bytes.take(call.size, **call.keys)
        except BaseException:
            self._calls.give_back(1, **call.keys)
            raise

    def count(self, call: OpenCall) -> None:
        """Count a call whatever the budgets say; `end` must follow."""
        self._calls.count(1, **call.keys)
        self._bytes.count(call.size, **call.keys)

    def end(self, call: OpenCall) -> None:
        """A call that was taken or counted is over."""
        self._calls.give_back(1, **call.keys)
        self._bytes.give_back(call.size, **call.keys)
