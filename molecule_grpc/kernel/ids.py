"""Ids that the server makes: time-ordered UUIDs, so that new rows land next to each other."""

from __future__ import annotations

from functools import lru_cache
from uuid import UUID

from uuid_utils.compat import uuid7

from molecule_grpc.kernel.errors import Invalid


def new_id() -> UUID:
    """A UUIDv7 of now."""
    return uuid7()


def parse_id(text: str, field: str) -> UUID:
    """A UUID from its text.

    Raises:
        Invalid: it is not one; names `field`.
    """
    try:
        return _uuid(text)
    except ValueError:
        raise Invalid(f"{field} must be a valid UUID", field=field) from None


# The same workspaces call again and again, and a call may name one in several places.
_uuid = lru_cache(maxsize=10_000)(UUID)
