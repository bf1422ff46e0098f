"""How soon a process that died is started again."""

from __future__ import annotations

from typing import Final

_SETTLED_SECONDS: Final = 10.0
_FIRST_PAUSE_SECONDS: Final = 0.5
_MAX_PAUSE_SECONDS: Final = 10.0


class RestartPauses:
    """Pauses before restarts: none after a life of 10 s, else 0, 0.5, 1, 2 ... 10 s."""

    def __init__(self) -> None:
        self._deaths = 0

    def after(self, lived_seconds: float) -> float:
        """Seconds to wait now that a process has died, or has failed to start."""
        if lived_seconds >= _SETTLED_SECONDS:
            self._deaths = 0
        self._deaths += 1
        if self._deaths == 1:
            return 0.0
        return float(min(_FIRST_PAUSE_SECONDS * 2 ** min(self._deaths - 2, 10), _MAX_PAUSE_SECONDS))
