"""What names and ids are called in a plugin, which knows nothing of organisations.

Two organisations may have a namespace `custom:shared`, and a client may choose any id. So custom
namespaces carry their organisation's id, and ids are enciphered with a key of the installation and
the organisation: nobody can name, guess or meet what is another organisation's. The installation's
first organisation keeps its ids as they are.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final
from uuid import UUID

from molecule_grpc.directory import DEFAULT_ORGANIZATION
from molecule_grpc.kernel.errors import Invalid
from molecule_grpc.memory.opaque_ids import OpaqueId, memory_id

_CUSTOM: Final = "custom:"
_MOST_CHARS: Final = 256
_ROUNDS: Final = 4
_HALF: Final = 64
_LOW: Final = (1 << _HALF) - 1


class WireNames:
    """Names and ids of one organisation.

    Args:
        key: of the installation.
    """

    def __init__(self, key: bytes, organization_id: UUID) -> None:
        self._key = hashlib.sha256(b"memory ids" + key + organization_id.bytes).digest()
        self._organization_id = organization_id

    def namespace(self, name: str) -> str:
        """The name of a namespace in the plugin.

        Raises:
            Invalid: it would be longer than 256 characters.
        """
        if not name.startswith(_CUSTOM):
            return name
        wire = f"{_CUSTOM}{self._organization_id.hex}.{name.removeprefix(_CUSTOM)}"
        if len(wire) > _MOST_CHARS:
            raise Invalid("the name of this namespace is too long", field="namespace")
        return wire

    def id(self, known: UUID) -> str:
        """The id of a memory in the plugin."""
        if isinstance(known, OpaqueId):
            return known.text
        if self._organization_id == DEFAULT_ORGANIZATION:
            return str(known)
        left, right = known.int >> _HALF, known.int & _LOW
        for number in range(_ROUNDS):
            left, right = right, left ^ self._mixed(number, right)
        return str(UUID(int=left << _HALF | right))

    def known(self, wire: str) -> UUID:
        """The id of a memory from its id in the plugin.

        Raises:
            Invalid: it cannot be an id.
        """
        found = memory_id(wire)
        if isinstance(found, OpaqueId) or self._organization_id == DEFAULT_ORGANIZATION:
            return found
        left, right = found.int >> _HALF, found.int & _LOW
        for number in reversed(range(_ROUNDS)):
            left, right = right ^ self._mixed(number, left), left
        return UUID(int=left << _HALF | right)

    def _mixed(self, number: int, half: int) -> int:
        """A number of 64 bits that only who has the key can tell."""
        text = bytes([number]) + half.to_bytes(8, "big")
        return int.from_bytes(hmac.digest(self._key, text, "sha256")[:8], "big")
