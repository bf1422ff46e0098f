"""How often one workspace may write, at this worker."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from uuid import UUID

from molecule_grpc.kernel.errors import Exhausted, Invalid
from molecule_grpc.kernel.payer import WORKSPACE

_MAX_AUTHORS = 10_000


class CommitRate:
    """Counts memories by author. An author has a minute's worth at once, and the same each minute.

    Args:
        per_minute: memories of one author; 0 for no limit.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._clock = clock
        # What an author has left, and when that was so; the author of the last call is at the end.
        self._left: OrderedDict[UUID, tuple[float, float]] = OrderedDict()

    def charge(self, author_id: UUID, memories: int) -> None:
        """Count memories of an author.

        Raises:
            Exhausted: QUOTA_EXCEEDED: the author has written too many; nothing is counted.
            Invalid: more than an author may ever write at once.
        """
        if not self._per_minute:
            return
        if memories > self._per_minute:
            raise Invalid(
                f"too many memories at once: a workspace may commit {self._per_minute} in a minute"
            )
        now = self._clock()
        left, at = self._left.pop(author_id, (float(self._per_minute), now))
        left = min(self._per_minute, left + (now - at) * self._per_minute / 60)
        fits = memories <= left
        self._left[author_id] = (left - memories if fits else left, now)
        if len(self._left) > _MAX_AUTHORS:
            self._left.popitem(last=False)
        if not fits:
            raise Exhausted(
                f"too many memories: a workspace may commit {self._per_minute} in a minute",
                reason="QUOTA_EXCEEDED",
                metadata={
                    "quota": "memories a minute",
                    "limit": str(self._per_minute),
                    "of": WORKSPACE,
                },
                retry_after=math.ceil((memories - left) * 60 / self._per_minute),
            )
