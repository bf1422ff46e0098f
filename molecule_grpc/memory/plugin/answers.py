"""Answers of a plugin: their bodies, and what they refuse."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

import aiohttp

from molecule_grpc.memory.contract.errors import ErrorCode, StoreError, code_of

MOST_BODY_BYTES: Final = 8 * 1024 * 1024
_SHOWN_BYTES: Final = 256


async def body_of(response: aiohttp.ClientResponse) -> bytes:
    """The body of an answer. Raises `StoreError` for one that is larger than 8 MiB."""
    pieces, size = [], 0
    async for piece in response.content.iter_any():
        size += len(piece)
        if size > MOST_BODY_BYTES:
            raise StoreError(
                ErrorCode.INTERNAL,
                f"the plugin's answer is larger than {MOST_BODY_BYTES} bytes",
                status=502,
            )
        pieces.append(piece)
    return b"".join(pieces)


def refused(status: int, text: bytes) -> StoreError:
    """The error of a failed answer: from its envelope, or else from status and text."""
    try:
        envelope: object = json.loads(text)
    except (ValueError, RecursionError):
        envelope = None
    if isinstance(envelope, Mapping) and isinstance(envelope.get("code"), str):
        try:
            code = ErrorCode(envelope["code"])
        except ValueError:
            code = code_of(status)
        return StoreError(code, str(envelope.get("message") or f"status {status}"), status)
    shown = text[:_SHOWN_BYTES].decode(errors="replace").strip()
    return StoreError(
        code_of(status), f"status {status}: {shown}" if shown else f"status {status}", status
    )
