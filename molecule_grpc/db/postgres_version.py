"""The oldest Postgres that this version works with: one number, asked at start and by doctor."""

from __future__ import annotations

from typing import Final

import asyncpg

MIN_POSTGRES: Final = 180000
"""In the form of `server_version_num`: the major version times 10,000, plus the minor one."""

MIN_POSTGRES_MAJOR: Final = MIN_POSTGRES // 10_000


class UnsupportedPostgresError(Exception):
    """The server is older than `MIN_POSTGRES`."""


def is_supported(version_num: int) -> bool:
    """Whether a server of this `server_version_num` will do."""
    return version_num >= MIN_POSTGRES


def version_num(version: asyncpg.types.ServerVersion) -> int:
    """What the server told the driver at connect, as one number: 180004 for 18.4."""
    # The driver reads 18.4 as 18.0.4: since 10, versions of Postgres have two parts.
    return version.major * 10_000 + version.micro


def require_supported_postgres(version: asyncpg.types.ServerVersion) -> None:
    """Refuse a server that is too old, before anything is written to it.

    Raises:
        UnsupportedPostgresError: it is; the message names its version and the one that is needed.
    """
    if not is_supported(version_num(version)):
        raise UnsupportedPostgresError(
            f"Postgres {version.major}.{version.micro} is too old: "
            f"version {MIN_POSTGRES_MAJOR} or newer is needed"
        )
