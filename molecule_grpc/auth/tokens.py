"""Bearer tokens: 32 random bytes as base64url. Only their SHA-256 is stored."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Self

PREFIX_LENGTH = 8
# Ours have 43 characters; operators choose ADMIN_TOKEN themselves. Longer ones are never hashed.
MAX_TOKEN_CHARS = 512


@dataclass(frozen=True, slots=True)
class Secret:
    """A fresh token. `text` is shown once and stored nowhere."""

    text: str
    digest: bytes
    prefix: str


class TokenTerms(NamedTuple):
    """What a new token may do, and until when.

    Args:
        read_only: whether it may only call RPCs that change nothing.
        expires_at: None for a token that does not expire.
    """

    read_only: bool = False
    expires_at: datetime | None = None

    @classmethod
    def of(cls, *, read_only: bool, ttl_seconds: int, minted_by: datetime | None) -> Self:
        """The terms that were asked for.

        Args:
            ttl_seconds: seconds from now; 0 for never.
            minted_by: when the token expires that mints this one, which expires no later.
        """
        ends = [] if minted_by is None else [minted_by]
        if ttl_seconds:
            ends.append(datetime.now(UTC) + timedelta(seconds=ttl_seconds))
        return cls(read_only, min(ends, default=None))


FULL_TERMS = TokenTerms()


def mint() -> Secret:
    """A new token of 43 characters."""
    text = secrets.token_urlsafe(32)
    return Secret(text, digest(text), text[:PREFIX_LENGTH])


def digest(text: str) -> bytes:
    """The SHA-256 of a token: the only part of a token that is stored."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()
