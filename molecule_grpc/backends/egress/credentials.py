"""How a workspace proves to the proxy which workspace is calling.

The user name is the workspace's id. The password belongs to one start: a second try of the start
has the same one, since the container of the first may run, and the next start has another.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import NamedTuple
from uuid import UUID

_SCHEME = "basic"


class Shown(NamedTuple):
    """User name and password of a request."""

    workspace_id: UUID
    password: str


def password_of(key: bytes, operation_id: UUID) -> str:
    """The password of a start, 64 hexadecimal digits."""
    return hmac.new(key, operation_id.bytes, hashlib.sha256).hexdigest()


def is_password(key: bytes, operation_id: UUID, shown: str) -> bool:
    """Whether a password is the one of a start. Takes the same time for any wrong one."""
    return hmac.compare_digest(password_of(key, operation_id).encode(), shown.encode())


def read_authorization(header: str) -> Shown | None:
    """Name and password of a header Proxy-Authorization; None if it holds none."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != _SCHEME:
        return None
    try:
        name, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        return Shown(UUID(name), password) if colon else None
    except (binascii.Error, ValueError):
        return None
