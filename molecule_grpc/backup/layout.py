"""Names of what a backup consists of, beside its manifest."""

from __future__ import annotations

from typing import Final

DATABASE: Final = "database"
"""A dump in pg_dump's directory format."""
OBJECTS: Final = "objects"
"""Uploads from the object store, each under the id of its file. Absent without such uploads."""
ADMIN_TOKEN: Final = "admin_token"
"""The operator's token, as it stands in the data directory. Absent where ADMIN_TOKEN is set."""
