"""How long a call may wait for what its caller wants to know."""

from __future__ import annotations

from typing import Final

# A caller that waits is answered this long before it would give up.
ANSWER_SECONDS: Final = 0.5


def wait_limit(asked: float, left: float | None) -> float:
    """Seconds to wait: as many as asked for, and no longer than until 0.5 s before the deadline.

    Args:
        left: seconds until the caller gives up; None when it has no deadline.
    """
    return asked if left is None else max(0.0, min(asked, left - ANSWER_SECONDS))
