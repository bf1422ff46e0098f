"""Bearer tokens: 32 random bytes as base64url. Only their SHA-256 is stored."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Self

from molecule_grpc.kernel.errors import Unauthenticated

PREFIX_LENGTH = 8
# Ours have 43 characters; operators choose ADMIN_TOKEN themselves. Longer ones are never hashed.
MAX_TOKEN_CHARS = 512
# The longest token, "Bearer", and some blanks around both.
MAX_AUTHORIZATION_CHARS = MAX_TOKEN_CHARS + 64


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


def plain_digest(authorization: str) -> bytes | None:
    """The digest of the token in a header as clients write it; None for any other spelling."""
    if len(authorization) > MAX_TOKEN_CHARS or not authorization.startswith("Bearer "):
        return None
    return digest(authorization[7:])


def bearer_digest(authorization: str) -> bytes | None:
    """The digest of the token in a header; None when the token is longer than any that exists.

    Computed for every call, within 2 µs: a cache would hold the tokens themselves, and a stranger
    could fill it with headers of 60 KB.

    Raises:
        Unauthenticated: the header is malformed.
    """
    if len(authorization) > MAX_AUTHORIZATION_CHARS:
        return None
    scheme, _, text = authorization.partition(" ")
    text = text.strip()
    if scheme.lower() != "bearer" or not text:
        raise Unauthenticated("the authorization header must be: Bearer TOKEN")
    return digest(text) if len(text) <= MAX_TOKEN_CHARS else None
