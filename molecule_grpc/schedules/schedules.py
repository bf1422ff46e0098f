"""The use cases of callers: creating, changing, deleting, running and listing schedules."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, NamedTuple, cast
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool, database_errors
from molecule_grpc.kernel.errors import Exhausted
from molecule_grpc.kernel.ids import new_id
from molecule_grpc.kernel.page import Page, page_of
from molecule_grpc.kernel.page_tokens import PageTokens
from molecule_grpc.quotas import Quotas, QuotaUse
from molecule_grpc.schedules import rules
from molecule_grpc.schedules.ports import Ledger
from molecule_grpc.schedules.refusals import name_taken, no_schedule, no_workspace
from molecule_grpc.schedules.store import changing, reading, runs
from molecule_grpc.schedules.store.runs import HandedOver
from molecule_grpc.schedules.values import Run, Schedule, ScheduleChange, ScheduleText

_LISTING: Final = "schedules"
_HISTORY: Final = "schedule runs"
_DEFAULT_LISTED: Final = 100
_DEFAULT_RUNS: Final = 20
_RUNTIME: Final = "runtime"


class Fired(NamedTuple):
    """What a call for a fire is answered with.

    Args:
        delegation_id: None where the prompt was only asked for.
    """

    prompt: str
    delegation_id: UUID | None


class Schedules:
    """Schedules of workspaces.

    Args:
        ledger: takes fires that callers ask for.
        changed: tells the scheduler that a time may be nearer now.
    """

    def __init__(
        self,
        pool: Pool,
        ledger: Ledger,
        page_tokens: PageTokens,
        quotas: Quotas,
        changed: Callable[[], None],
    ) -> None:
        self._pool = pool
        self._ledger = ledger
        self._page_tokens = page_tokens
        self._quotas = quotas
        self._changed = changed

    async def create(self, workspace_id: UUID, text: ScheduleText) -> Schedule:
        """Add a schedule.

        Raises:
            Invalid: names the field.
            NotFound: WORKSPACE_NOT_FOUND.
            AlreadyExists: SCHEDULE_NAME_TAKEN.
            Exhausted: QUOTA_EXCEEDED.
        """
        text = rules.checked(text)
        first = rules.first_fire(text, _now())
        schedule_id = new_id()
        with database_errors():
            async with self._pool.acquire() as conn, conn.transaction():
                owner = await changing.owner(conn, workspace_id)
                if owner is None:
                    raise no_workspace()
                quotas = self._quotas
                if await changing.name_taken(conn, workspace_id, text.name, but=schedule_id):
                    raise name_taken(text.name)
                await changing.require_room(
                    conn, owner, quotas.schedules, quotas.workspace_schedules
                )
                if not await changing.insert(conn, schedule_id, owner, text, first, _RUNTIME):
                    raise name_taken(text.name)
            self._changed()
            return await self._get(workspace_id, schedule_id)

    async def update(
        self, workspace_id: UUID, schedule_id: UUID, change: ScheduleChange
    ) -> Schedule:
        """Change the fields that are named, all or none.

        Raises:
            Invalid: names the field.
            NotFound: SCHEDULE_NOT_FOUND.
            AlreadyExists: SCHEDULE_NAME_TAKEN.
        """
        with database_errors():
            async with self._pool.acquire() as conn, conn.transaction():
                # Serialises renames within an organisation: of two to a name the second is refused.
                owner = await changing.owner(conn, workspace_id)
                found = await changing.hold(conn, workspace_id, schedule_id)
                if owner is None or found is None:
                    raise no_schedule()
                text, next_run_at = changed(found, change, _now())
                if await changing.name_taken(conn, workspace_id, text.name, but=schedule_id):
                    raise name_taken(text.name)
                await changing.change(conn, schedule_id, text, next_run_at)
            self._changed()
            return await self._get(workspace_id, schedule_id)

    async def delete(self, workspace_id: UUID, schedule_id: UUID) -> None:
        """Delete a schedule with its history.

        Raises:
            NotFound: SCHEDULE_NOT_FOUND.
        """
        with database_errors():
            if not await changing.delete(self._pool, workspace_id, schedule_id):
                raise no_schedule()

    async def run(self, workspace_id: UUID, schedule_id: UUID, *, deliver: bool) -> Fired:
        """The prompt of a schedule; with `deliver` it is handed over now, as another fire.

        Raises:
            NotFound: SCHEDULE_NOT_FOUND.
            Exhausted: INBOX_FULL or QUOTA_EXCEEDED.
        """
        run_id = new_id()
        with database_errors():
            async with self._pool.acquire() as conn, conn.transaction():
                found = await changing.hold(conn, workspace_id, schedule_id)
                if found is None:
                    raise no_schedule()
                if not deliver:
                    return Fired(found.prompt, None)
                await runs.begin(conn, run_id, schedule_id)
            try:
                await self._ledger.fire(run_id, workspace_id, found.prompt)
            except Exhausted as full:
                await runs.handed_over(self._pool, [HandedOver(run_id, full.message)])
                raise
            # After any other error the row stays claimed: the scheduler hands the fire over.
            await runs.handed_over(self._pool, [HandedOver(run_id, "")])
        return Fired(found.prompt, run_id)

    async def list_of(self, workspace_id: UUID, *, limit: int, page_token: str) -> Page[Schedule]:
        """Schedules of a workspace, by name.

        Args:
            limit: most of the page; 0 means 100.

        Raises:
            Invalid: the page token is not one of ours.
        """
        parts = self._page_tokens.read(_LISTING, page_token, str, UUID)
        behind = None if parts is None else cast("tuple[str, UUID]", tuple(parts))
        limit = limit or _DEFAULT_LISTED
        with database_errors():
            found = await reading.of_workspace(
                self._pool, workspace_id, behind=behind, limit=limit + 1
            )
        return page_of(found, limit=limit, size=_size)

    def token_after(self, row: Schedule) -> str:
        """The token of the page of schedules that begins behind a row."""
        return self._page_tokens.make(_LISTING, row.name, row.id)

    async def history(
        self, workspace_id: UUID, schedule_id: UUID, *, limit: int, page_token: str
    ) -> Page[Run]:
        """Fires of a schedule, newest first.

        Args:
            limit: most of the page; 0 means 20.

        Raises:
            NotFound: SCHEDULE_NOT_FOUND.
            Invalid: the page token is not one of ours.
        """
        parts = self._page_tokens.read(_HISTORY, page_token, datetime, UUID)
        before = None if parts is None else cast("tuple[datetime, UUID]", tuple(parts))
        limit = limit or _DEFAULT_RUNS
        with database_errors():
            await self._get(workspace_id, schedule_id)
            found = await runs.history(self._pool, schedule_id, before=before, limit=limit + 1)
        return page_of(found, limit=limit)

    def token_after_run(self, row: Run) -> str:
        """The token of the page of fires that begins behind a row."""
        return self._page_tokens.make(_HISTORY, row.scheduled_for, row.id)

    async def quota_uses(self, organization_id: UUID, workspace_id: UUID | None) -> list[QuotaUse]:
        """Use of an organisation's quota of schedules, and of a workspace's."""
        used = await reading.count_of_organization(self._pool, organization_id)
        uses = [QuotaUse(self._quotas.schedules, used)]
        if workspace_id is not None:
            of_workspace = await reading.count_of_workspace(self._pool, workspace_id)
            uses.append(QuotaUse(self._quotas.workspace_schedules, of_workspace))
        return uses

    async def disable_all(self, conn: Connection, workspace_ids: list[UUID]) -> None:
        """Switch off the schedules of workspaces, in the transaction that removes them."""
        await changing.disable_all(conn, workspace_ids)

    async def _get(self, workspace_id: UUID, schedule_id: UUID) -> Schedule:
        found = await reading.get(self._pool, workspace_id, schedule_id)
        if found is None:
            raise no_schedule()
        return found


def changed(
    found: Schedule, change: ScheduleChange, now: datetime
) -> tuple[ScheduleText, datetime | None]:
    """A schedule's new text, and its next fire.

    A time that waits stays, unless what it came from is another one now.

    Raises:
        Invalid: names the field.
    """
    before = found.text
    named = {
        field.name: value
        for field in dataclasses.fields(change)
        if (value := getattr(change, field.name)) is not None
    }
    text = rules.checked(dataclasses.replace(before, **named))
    following = rules.first_fire(text, now)
    if not text.enabled:
        return text, None
    same = (before.cron_expr, before.timezone) == (text.cron_expr, text.timezone)
    return text, found.next_run_at if same and found.enabled else following


def _size(row: Schedule) -> int:
    """Bytes of a schedule on the wire, about."""
    return len(row.prompt.encode()) + 1024


def _now() -> datetime:
    return datetime.now(UTC)
