"""Which hosts were refused, gathered for a second and written at once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from molecule_grpc.backends.egress import store
from molecule_grpc.backends.egress.values import Outcome, Refusal
from molecule_grpc.db.pool import Pool
from molecule_grpc.host_list import Target

# Hosts that wait to be written: of one workspace, and of all. What comes beyond that is counted and
# logged, and not listed.
_OF_ONE: Final = store.MOST_REFUSED
_OF_ALL: Final = 10_000


class RefusedHosts:
    """Gathers refusals. `write` stores them."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._waiting: dict[UUID, dict[Target, Refusal]] = {}
        self._count = 0

    def note(self, workspace_id: UUID, target: Target, outcome: Outcome) -> None:
        """A workspace was refused a host."""
        now = datetime.now(UTC)
        hosts = self._waiting.setdefault(workspace_id, {})
        before = hosts.get(target)
        if before is None and (len(hosts) >= _OF_ONE or self._count >= _OF_ALL):
            return
        if before is None:
            self._count += 1
        attempts, first = (1, now) if before is None else (before.attempts + 1, before.first_at)
        hosts[target] = Refusal(workspace_id, *target, outcome, attempts, first, now)

    async def write(self) -> None:
        """Store what waits. What cannot be stored now waits on."""
        waiting, self._waiting, self._count = self._waiting, {}, 0
        refused = [each for hosts in waiting.values() for each in hosts.values()]
        if not refused:
            return
        try:
            async with self._pool.acquire() as conn, conn.transaction():
                await store.note_refused(conn, refused)
        except BaseException:
            self._keep(refused)
            raise

    def _keep(self, refused: list[Refusal]) -> None:
        for each in refused:
            hosts = self._waiting.setdefault(each.workspace_id, {})
            target = Target(each.host, each.port)
            if target not in hosts and len(hosts) < _OF_ONE and self._count < _OF_ALL:
                hosts[target] = each
                self._count += 1
