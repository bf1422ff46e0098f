"""Sealing texts with AES-256-GCM, and opening them again with any key that is known."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import Final, NamedTuple
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE_BYTES: Final = 12
_KEY_ID_BYTES: Final = 8


class Sealed(NamedTuple):
    """A text as it is stored.

    Args:
        data: nonce, ciphertext and tag.
        key_id: tells which key opens it, and nothing of the key.
    """

    data: bytes
    key_id: bytes


class Unreadable(Exception):
    """No known key opens it, or it was changed, or it belongs to another owner or name."""


class Sealer:
    """Seals with one key, and opens with this key and with previous keys.

    Args:
        key: 32 bytes.
        previous: keys of before, 32 bytes each.
    """

    def __init__(self, key: bytes, previous: Sequence[bytes] = ()) -> None:
        self.key_id = _key_id(key)
        self._ciphers = {_key_id(each): AESGCM(each) for each in (*previous, key)}

    def seal(self, text: str, owner_id: UUID, name: str) -> Sealed:
        """Seal a text for an owner and a name: in another row the sealed text cannot be opened."""
        nonce = os.urandom(_NONCE_BYTES)
        cipher = self._ciphers[self.key_id]
        data = cipher.encrypt(nonce, text.encode(), _bound_to(owner_id, name))
        return Sealed(nonce + data, self.key_id)

    def open(self, sealed: Sealed, owner_id: UUID, name: str) -> str:
        """The text again.

        Raises:
            Unreadable: see there.
        """
        cipher = self._ciphers.get(sealed.key_id)
        if cipher is None:
            raise Unreadable
        nonce, data = sealed.data[:_NONCE_BYTES], sealed.data[_NONCE_BYTES:]
        try:
            return cipher.decrypt(nonce, data, _bound_to(owner_id, name)).decode()
        except InvalidTag as error:
            raise Unreadable from error


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()[:_KEY_ID_BYTES]


def _bound_to(owner_id: UUID, name: str) -> bytes:
    return owner_id.bytes + name.encode()
