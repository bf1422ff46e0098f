"""Remembers for seconds who holds a token, by the token's digest."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import NamedTuple

from molecule_grpc.auth.principal import Principal

_CACHE_SIZE = 50_000


class Began(NamedTuple):
    """When a lookup began: at a moment of `time.monotonic()`, after so many revocations."""

    at: float
    revocations: int


class TokenCache:
    """Answers of the database about tokens, each with the moment until which it holds."""

    def __init__(self) -> None:
        self._revocations = 0
        self._answers: OrderedDict[bytes, tuple[float, Principal | None]] = OrderedDict()

    def fresh(self, token_digest: bytes) -> Principal | None:
        """The holder of a token; None for an unknown token, and when nothing fresh is known."""
        answer = self._answers.get(token_digest)
        return answer[1] if answer is not None and answer[0] > time.monotonic() else None

    def knows(self, token_digest: bytes) -> bool:
        """Whether `last` is fresh."""
        answer = self._answers.get(token_digest)
        return answer is not None and answer[0] > time.monotonic()

    def last(self, token_digest: bytes) -> Principal | None:
        """The holder when the token was last looked up, however long ago."""
        answer = self._answers.get(token_digest)
        return None if answer is None else answer[1]

    def was_good(self, token_digest: bytes) -> bool:
        """Whether the token was good when it was last looked up."""
        holder = self.last(token_digest)
        return holder is not None and not holder.ended

    def now(self) -> Began:
        """A lookup begins."""
        return Began(time.monotonic(), self._revocations)

    def remember(
        self, token_digest: bytes, holder: Principal | None, seconds: float, began: Began
    ) -> None:
        """Keep an answer for so many seconds after its lookup began.

        A lookup that began before a revocation may have read the token as live, and no second
        notification would correct the cache: the answer is not kept then.
        """
        if began.revocations != self._revocations:
            return
        self._answers[token_digest] = (began.at + seconds, holder)
        self._answers.move_to_end(token_digest)
        if len(self._answers) > _CACHE_SIZE:
            self._answers.popitem(last=False)

    def forget(self, token_digest: bytes) -> None:
        """A token was revoked."""
        self._revocations += 1
        self._answers.pop(token_digest, None)

    def forget_all(self) -> None:
        """Revocations may have been missed."""
        self._revocations += 1
        self._answers.clear()
