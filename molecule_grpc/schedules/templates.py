"""Schedules that templates name: put beside a workspace's own, refreshed by the next import."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from molecule_grpc.db.pool import Connection
from molecule_grpc.directory import TemplateSchedule
from molecule_grpc.kernel.errors import Exhausted, Invalid
from molecule_grpc.kernel.ids import new_id
from molecule_grpc.quotas import Quotas
from molecule_grpc.schedules import rules
from molecule_grpc.schedules.refusals import no_workspace
from molecule_grpc.schedules.schedules import changed
from molecule_grpc.schedules.store import changing
from molecule_grpc.schedules.store.changing import Owner
from molecule_grpc.schedules.values import ScheduleChange, ScheduleText

_TEMPLATE: Final = "template"


class TemplateSchedules:
    """Puts schedules of templates.

    Args:
        changed: tells the scheduler that a time may be nearer now.
    """

    def __init__(self, quotas: Quotas, changed: Callable[[], None]) -> None:
        self._quotas = quotas
        self._changed = changed

    async def put(
        self, conn: Connection, workspace_id: UUID, schedules: Sequence[TemplateSchedule]
    ) -> list[tuple[str, str]]:
        """Create schedules, or refresh what an earlier import made of them; nothing is deleted.

        Takes part in the caller's transaction. What cannot be a schedule is left out.

        Returns:
            Name and reason of each that was left out.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND.
        """
        owner = await changing.owner(conn, workspace_id)
        if owner is None:
            raise no_workspace()
        skipped: list[tuple[str, str]] = []
        now = datetime.now(UTC)
        for each in schedules:
            try:
                why = await self._put_one(conn, owner, each, now)
            except (Invalid, Exhausted) as error:
                why = error.message
            if why:
                skipped.append((each.name, why))
        self._changed()
        return skipped

    async def _put_one(
        self, conn: Connection, owner: Owner, wanted: TemplateSchedule, now: datetime
    ) -> str:
        """Why a schedule is left out; empty when it is there now."""
        text = rules.checked(
            ScheduleText(wanted.name, wanted.cron, wanted.timezone, wanted.prompt, wanted.enabled)
        )
        first = rules.first_fire(text, now)
        found = await changing.hold_named(conn, owner.workspace_id, text.name)
        if found is None:
            quotas = self._quotas
            await changing.require_room(conn, owner, quotas.schedules, quotas.workspace_schedules)
            await changing.insert(conn, new_id(), owner, text, first, _TEMPLATE)
            return ""
        if found.source != _TEMPLATE:
            return "the workspace has a schedule of its own with this name"
        change = ScheduleChange(text.name, text.cron_expr, text.timezone, text.prompt, text.enabled)
        refreshed, next_run_at = changed(found, change, now)
        if refreshed != found.text:
            await changing.change(conn, found.id, refreshed, next_run_at)
        return ""
