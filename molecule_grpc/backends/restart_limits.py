"""How often a workspace is started again whose workload ended by itself."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple
from uuid import UUID

from molecule_grpc.backends.operations.store import live
from molecule_grpc.db.pool import Connection

# Sources of these restarts: the sweep, and the comparison with engines.
AUTO_RESTART: Final = "auto-restart"
RECONCILE: Final = "reconcile"
_SOURCES: Final = (AUTO_RESTART, RECONCILE)
_WITHIN_SECONDS: Final = 600.0
WITHIN: Final = f"within {_WITHIN_SECONDS / 60:.0f} minutes"
_LONGEST_PAUSE_SECONDS: Final = 60.0


class RestartLimits(NamedTuple):
    """When a workspace is started again, and when no more.

    Args:
        deaths: a workspace that is lost so often within ten minutes is failed at that loss.
        backoff: seconds before the second restart; doubled up to a minute.
    """

    deaths: int
    backoff: float

    def spent(self, earlier: int) -> bool:
        """Whether a loss after so many restarts is the last one."""
        return earlier + 1 >= self.deaths

    def pause(self, earlier: int) -> float:
        """Seconds to wait after so many earlier restarts; 0 before the first."""
        if not earlier:
            return 0.0
        return float(min(self.backoff * 2.0 ** min(earlier - 1, 10), _LONGEST_PAUSE_SECONDS))


async def earlier_restarts(conn: Connection, workspace_ids: Collection[UUID]) -> dict[UUID, int]:
    """Restarts within ten minutes, after the last start that somebody asked for. 0 is left out."""
    return await live.recent_starts(conn, workspace_ids, _SOURCES, _WITHIN_SECONDS)
