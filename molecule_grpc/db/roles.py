"""Roles in the database: the server, the owner of the schema, the owner of the audit log.

The server's role reads and writes rows. It owns no table, adds entries to the audit log, and may
not change them. Whoever applies migrations owns the schema.
"""

from __future__ import annotations

from typing import NamedTuple

import asyncpg

from molecule_grpc.db.pool import connect

# Roles of the embedded Postgres. Its superuser applies migrations, and makes and restores backups.
OWNER_ROLE = "molecule"
SERVER_ROLE = "molecule_server"
# Owns the audit log; nobody logs in as this role.
_AUDIT_ROLE = "molecule_audit"

_LOCK = 0x6D6F6C72  # one granting process at a time
_DROP_OLD = "drop_audit_entries(integer, integer)"
_ENABLE_VECTORS = "memory_enable_vectors(text, integer)"

# Roles are shared by all databases of a Postgres server, so the role may exist already.
_CREATE = """
    DO $$ BEGIN
        CREATE ROLE {role} {login};
    EXCEPTION WHEN duplicate_object THEN NULL;
    END $$
"""

# All tables, at each start: migrations add some.
_GRANT = f"""
    GRANT USAGE ON SCHEMA {{schema}} TO {{role}};
    GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {{schema}} TO {{role}};
    GRANT USAGE ON ALL SEQUENCES IN SCHEMA {{schema}} TO {{role}};
    REVOKE INSERT, UPDATE, DELETE ON schema_migrations FROM {{role}};
    REVOKE UPDATE, DELETE ON audit_log FROM {{role}};
    REVOKE ALL ON FUNCTION {_DROP_OLD} FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION {_DROP_OLD} TO {{role}};
    GRANT EXECUTE ON FUNCTION {_ENABLE_VECTORS} TO {{role}}
"""

_OWN_AUDIT_LOG = f"""
    ALTER TABLE audit_log OWNER TO {_AUDIT_ROLE};
    ALTER FUNCTION {_DROP_OLD} OWNER TO {_AUDIT_ROLE};
    GRANT USAGE ON SCHEMA {{schema}} TO {_AUDIT_ROLE}
"""


class RoleError(Exception):
    """A role cannot be the server's."""


class AuditRights(NamedTuple):
    """Who owns the audit log, and whether the current role could change what stands there."""

    owner: str
    role: str
    changes: bool


async def audit_rights(connection: asyncpg.Connection[asyncpg.Record]) -> AuditRights | None:
    """The current role's rights to the audit log; None in a database without one."""
    row = await connection.fetchrow(
        """
        SELECT c.relowner::regrole::text, current_user::text,
               has_table_privilege(c.oid, 'UPDATE, DELETE, TRUNCATE, TRIGGER')
                   OR pg_has_role(c.relowner, 'MEMBER')
        FROM pg_class c WHERE c.oid = to_regclass('audit_log')
        """
    )
    return None if row is None else AuditRights(*row)


async def grant_embedded(dsn: str) -> None:
    """Make the roles of the embedded Postgres, and grant them what they need. Idempotent.

    Args:
        dsn: as the superuser, of a database with the newest schema.
    """
    connection = await connect(dsn, application_name="molecule-grpc-roles")
    try:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
            await connection.execute(_CREATE.format(role=SERVER_ROLE, login="LOGIN"))
            await connection.execute(_CREATE.format(role=_AUDIT_ROLE, login="NOLOGIN"))
            await _grant(connection, SERVER_ROLE, _OWN_AUDIT_LOG)
    finally:
        await connection.close()


async def grant(dsn: str, role: str) -> None:
    """Let a role that exists serve from the schema of the current one. Idempotent.

    Raises:
        RoleError: the role can become the schema's owner, so that grants would bind nobody.
        asyncpg.UndefinedObjectError: there is no such role.
    """
    connection = await connect(dsn, application_name="molecule-grpc-roles")
    try:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
            if await connection.fetchval("SELECT pg_has_role($1, current_user, 'MEMBER')", role):
                raise RoleError(f"{role} owns the schema or may: let the server have another role")
            await _grant(connection, role)
    finally:
        await connection.close()


async def _grant(connection: asyncpg.Connection[asyncpg.Record], role: str, more: str = "") -> None:
    schema = await connection.fetchval("SELECT quote_ident(current_schema())")
    quoted = await connection.fetchval("SELECT quote_ident($1)", role)
    for statements in filter(None, (_GRANT, more)):
        await connection.execute(statements.format(schema=schema, role=quoted))
