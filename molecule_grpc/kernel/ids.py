"""Ids that the server makes: time-ordered UUIDs, so that new rows land next to each other."""

from __future__ import annotations

import re
from functools import lru_cache
from uuid import UUID

from uuid_utils.compat import uuid7

from molecule_grpc.kernel.errors import Invalid

_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def new_id() -> UUID:
    """A UUIDv7 of now."""
    return uuid7()


def parse_id(text: str, field: str) -> UUID:
    """A UUID from its text.

    Raises:
        Invalid: it is not one; names `field`.
    """
    try:
        if len(text) <= _MAX_ID_CHARS:
            return _uuid(text)
    except ValueError:
        pass
    raise Invalid(f"{field} must be a valid UUID", field=field)


def as_id(text: object) -> UUID | None:
    """A UUID from its text; None where the text is none."""
    try:
        return parse_id(text, "") if isinstance(text, str) else None
    except Invalid:
        return None


def is_identifier(text: str) -> bool:
    """Whether a client's own id is acceptable."""
    return not _UNFIT.search(text) and text not in (".", "..")


def identifier(text: str, field: str) -> str:
    """A client's own id as sent, never cleaned, cut or replaced.

    Raises:
        Invalid: it holds a control character or a lone surrogate, or is `.` or `..`; names `field`.
    """
    if not is_identifier(text):
        raise Invalid(
            f"{field} must hold no control characters, and be neither . nor ..", field=field
        )
    return text


# Of "urn:uuid:" and a UUID. Python takes any number of dashes, and the cache would keep the text.
_MAX_ID_CHARS = 45
# The same workspaces call again and again, and a call may name one in several places.
_uuid = lru_cache(maxsize=10_000)(UUID)
