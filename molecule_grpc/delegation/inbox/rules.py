"""Pure decisions about inboxes."""

from __future__ import annotations

import math

MAX_NACK_DELAY_SECONDS = 86_400.0


def nack_delay(seconds: float) -> float:
    """Seconds that are safe to add to a clock: at least 0, at most a day, 0 for NaN."""
    return 0.0 if math.isnan(seconds) else min(max(seconds, 0.0), MAX_NACK_DELAY_SECONDS)
