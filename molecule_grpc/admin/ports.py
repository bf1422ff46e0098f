"""What the slice needs of others. `organization_id` None means all organisations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol, TypeAlias
from uuid import UUID


class LedgerEntry(Protocol):
    """A delegation as operators see it."""

    @property
    def delegation_id(self) -> str: ...
    @property
    def caller_id(self) -> UUID: ...
    @property
    def callee_id(self) -> UUID: ...
    @property
    def task_preview(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def last_heartbeat(self) -> datetime | None: ...
    @property
    def deadline(self) -> datetime: ...
    @property
    def result_preview(self) -> str | None: ...
    @property
    def error_detail(self) -> str | None: ...
    @property
    def retry_count(self) -> int: ...
    @property
    def created_at(self) -> datetime: ...
    @property
    def updated_at(self) -> datetime: ...
    @property
    def failure_reason(self) -> str | None: ...


class LedgerPage(Protocol):
    """Some delegations, and the token of the next page; empty on the last page."""

    @property
    def entries(self) -> Sequence[LedgerEntry]: ...
    @property
    def next_page_token(self) -> str: ...


class LedgerViews(Protocol):
    """The ledger across workspaces."""

    async def list_entries(
        self, wanted: str, organization_id: UUID | None, *, limit: int, page_token: str = ""
    ) -> LedgerPage:
        """A page of delegations under a filter, newest first, of at most 3 MiB.

        Args:
            wanted: `in_flight`, `stuck`, `failed` or `completed`.

        Raises:
            Invalid: the page token is not one of ours.
        """
        ...

    async def count_by_status(self, organization_id: UUID | None) -> Mapping[str, int]:
        """How many delegations have each status that occurs."""
        ...


class DeadLetter(Protocol):
    """An inbox item that was set aside after five failures.

    `source_id` is None for a human, `delegation_id` for a message. `reason` is what the agent said
    of the last failure, `summary` a line of the item's content, and `done_at` the time at which the
    item was set aside.
    """

    @property
    def workspace_id(self) -> UUID: ...
    @property
    def seq(self) -> int: ...
    @property
    def message_id(self) -> str: ...
    @property
    def method(self) -> str: ...
    @property
    def source_id(self) -> UUID | None: ...
    @property
    def delegation_id(self) -> str | None: ...
    @property
    def deliveries(self) -> int: ...
    @property
    def reason(self) -> str | None: ...
    @property
    def summary(self) -> str | None: ...
    @property
    def created_at(self) -> datetime: ...
    @property
    def done_at(self) -> datetime: ...


# Sorts dead letters: when an item was set aside, its workspace, its number.
DeadLetterPlace: TypeAlias = tuple[datetime, UUID, int]


class Retries(Protocol):
    """Delegations that ended as failed or stuck."""

    async def retry(self, delegation_id: str, organization_id: UUID | None) -> str:
        """Try a delegation again as a new one; the new one's id."""
        ...


class DeadLetters(Protocol):
    """Inbox items that were set aside."""

    async def list_rows(
        self,
        *,
        organization_id: UUID | None,
        workspace_id: UUID | None,
        before: DeadLetterPlace | None,
        limit: int,
    ) -> Sequence[DeadLetter]:
        """Dead letters, newest first; None leaves a filter out."""
        ...

    async def drop(self, workspace_id: UUID, seq: int, organization_id: UUID | None) -> None:
        """Take an item off the list. Raises `NotFound` ITEM_NOT_FOUND."""
        ...

    async def replay(self, workspace_id: UUID, seq: int, organization_id: UUID | None) -> int:
        """Send an item again; its new number. Raises `NotFound` ITEM_NOT_FOUND."""
        ...


# Lets go of queued messages of this age, for one workspace, of one organisation; returns how many.
DropStale = Callable[[timedelta, UUID | None, UUID | None], Awaitable[int]]
# Whether the database answers.
Healthy = Callable[[], Awaitable[bool]]


class TaskState(Protocol):
    """What is known of a background task. Times are in seconds, `last_success` since 1970."""

    @property
    def period(self) -> float: ...
    @property
    def last_success(self) -> float | None: ...
    @property
    def failures(self) -> int: ...


# The background tasks of this worker, by name.
TaskStates = Callable[[], Mapping[str, TaskState]]
