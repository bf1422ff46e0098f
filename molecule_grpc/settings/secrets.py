"""Keys that seal the secrets of agents."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Final

from molecule_grpc.settings.values import Kind, setting

KEY_BYTES: Final = 32
_ALLOWED: Final = "32 bytes, as base64 (`openssl rand -base64 32`) or as 32 ASCII characters"


def _key(text: str) -> bytes:
    text = text.strip()
    if len(text) == KEY_BYTES and text.isascii():
        return text.encode()
    try:
        key = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError from error
    if len(key) != KEY_BYTES:
        raise ValueError
    return key


def _optional_key(text: str) -> bytes | None:
    return _key(text)


def _keys(text: str) -> tuple[bytes, ...]:
    return tuple(_key(each) for each in text.split(","))


_KEY: Final[Kind[bytes | None]] = Kind(_optional_key, _ALLOWED)
_KEYS: Final[Kind[tuple[bytes, ...]]] = Kind(_keys, f"keys of {_ALLOWED}, with commas between")


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretsSettings:
    """Keys of AES-256-GCM. Every worker of an installation needs the same ones.

    Args:
        key: seals and opens; None for the one in the data directory of an embedded database, which
            the first start makes.
        previous_keys: open what was sealed before the key changed, until `molecule-grpc secrets
            reencrypt` has sealed everything with the new one.
    """

    key: bytes | None = setting("SECRETS_ENCRYPTION_KEY", _KEY, None, secret=True)
    previous_keys: tuple[bytes, ...] = setting("SECRETS_PREVIOUS_KEYS", _KEYS, (), secret=True)
