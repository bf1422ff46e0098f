"""Turns of sweeps that ask an engine: one worker takes each."""

from __future__ import annotations

from molecule_grpc.db.pool import Pool

_TAKE = """
    INSERT INTO sweep_turns AS t (name, taken_at) VALUES ($1, now())
    ON CONFLICT (name) DO UPDATE SET taken_at = now()
    WHERE t.taken_at <= now() - make_interval(secs => $2)
    RETURNING true
"""
# A period is measured by each worker's own clock: what comes a little early is not too early.
_EARLY = 0.9


async def take_turn(pool: Pool, name: str, period: float) -> bool:
    """Whether this worker sweeps now: no worker has taken the sweep's turn for a period."""
    return bool(await pool.fetchval(_TAKE, name, period * _EARLY))
