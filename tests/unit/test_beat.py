"""The metric of an event loop that was kept busy."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from prometheus_client import REGISTRY

from molecule_grpc.server.process.beat import beat, last_beat
from tests.waiting import until

_BUSY_SECONDS = 1.2


def lag() -> float:
    """Seconds by which the loop was late so far."""
    return REGISTRY.get_sample_value("molecule_event_loop_lag_seconds_sum") or 0.0


async def test_a_loop_that_was_blocked_is_late(tmp_path: Path) -> None:
    """What blocks it for longer than a beat shows in the sum."""
    before = lag()
    file = tmp_path / "beat"

    async def look() -> float:
        return lag() - before

    beating = asyncio.create_task(beat(file))
    await asyncio.sleep(0)
    assert last_beat(file) > 0
    time.sleep(_BUSY_SECONDS)  # noqa: ASYNC251  (a loop that is blocked)
    await until(look, lambda late: late > _BUSY_SECONDS / 2)
    beating.cancel()
