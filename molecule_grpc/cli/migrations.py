"""`migrate`: the schema of the database, without a server."""

from __future__ import annotations

import asyncio

from molecule_grpc.db.embedded.server import EmbeddedPostgres
from molecule_grpc.db.migrate import migrate
from molecule_grpc.db.roles import RoleError, grant
from molecule_grpc.resources import migrations_dir
from molecule_grpc.server.process.logs import configure
from molecule_grpc.settings.settings import Settings


def apply_migrations(
    settings: Settings, to: int | None, server_role: str | None = None
) -> list[str]:
    """Bring the schema to a version (None: the newest); one line for each migration applied.

    Args:
        server_role: a role of an own Postgres, to which the server's rights are granted.

    Raises:
        RoleError: the role owns the schema, or there is nothing to grant.
    """
    configure(settings.process.log_level)
    if own := settings.process.database_url:
        done = asyncio.run(migrate(own, migrations_dir(), to=to))
        if server_role is not None:
            asyncio.run(grant(own, server_role))
        return done
    if server_role is not None:
        raise RoleError("the embedded Postgres has roles of its own: set DATABASE_URL")
    with EmbeddedPostgres(settings.process.data_dir) as server:
        return asyncio.run(migrate(server.dsn, migrations_dir(), to=to))
