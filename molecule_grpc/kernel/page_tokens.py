"""Page tokens: where a list goes on, signed, so that only places we gave out are taken back."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from datetime import datetime
from uuid import UUID

from molecule_grpc.kernel.errors import Invalid

_SIGNATURE_BYTES = 16

Part = str | int | datetime | UUID
_READERS = {
    str: lambda part: part,
    int: lambda part: part,
    datetime: datetime.fromisoformat,
    UUID: UUID,
}


class PageTokens:
    """Makes and reads tokens.

    Args:
        key: the installation's secret, the same in every worker.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def make(self, listing: str, *parts: Part) -> str:
        """A token for the row with these sort keys.

        Args:
            listing: names the list; the token of one list is refused by any other.
        """
        spoken = [part if isinstance(part, str | int) else _text(part) for part in parts]
        # Not escaped to ASCII, so that a key of 256 bytes takes at most twice as many.
        data = json.dumps(spoken, separators=(",", ":"), ensure_ascii=False).encode()
        return base64.urlsafe_b64encode(self._signature(listing, data) + data).decode()

    def read(self, listing: str, token: str, *kinds: type[Part]) -> list[Part] | None:
        """The sort keys behind a token; None for an empty one, which means the first page.

        Raises:
            Invalid: it was not made by this installation for this list; names `page_token`.
        """
        if not token:
            return None
        try:
            raw = base64.urlsafe_b64decode(token.encode("ascii"))
        except (UnicodeEncodeError, binascii.Error):
            raise _not_ours() from None
        signature, data = raw[:_SIGNATURE_BYTES], raw[_SIGNATURE_BYTES:]
        if not hmac.compare_digest(signature, self._signature(listing, data)):
            raise _not_ours()
        return [_READERS[kind](part) for kind, part in zip(kinds, json.loads(data), strict=True)]

    def _signature(self, listing: str, data: bytes) -> bytes:
        signed = listing.encode() + b"\x00" + data
        return hmac.digest(self._key, signed, hashlib.sha256)[:_SIGNATURE_BYTES]


def _text(part: datetime | UUID) -> str:
    return part.isoformat() if isinstance(part, datetime) else str(part)


def _not_ours() -> Invalid:
    return Invalid("page_token is not one of ours", field="page_token")
