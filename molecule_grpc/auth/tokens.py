"""Bearer tokens: 32 random bytes as base64url. Only their SHA-256 is stored."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass

PREFIX_LENGTH = 8
# Ours have 43 characters; operators choose ADMIN_TOKEN themselves. Longer ones are never hashed.
MAX_TOKEN_CHARS = 512


@dataclass(frozen=True, slots=True)
class Secret:
    """A fresh token. `text` is shown once and stored nowhere."""

    text: str
    digest: bytes
    prefix: str


def mint() -> Secret:
    """A new token of 43 characters."""
    text = secrets.token_urlsafe(32)
    return Secret(text, digest(text), text[:PREFIX_LENGTH])


def digest(text: str) -> bytes:
    """The SHA-256 of a token: the only part of a token that is stored."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()
