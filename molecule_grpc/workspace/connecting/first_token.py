"""The token that an external workspace is born with."""

from __future__ import annotations

from uuid import UUID

import structlog

from molecule_grpc.auth import store as tokens
from molecule_grpc.db.pool import Connection, Fault, fault

log = structlog.get_logger(__name__)


async def first_token(conn: Connection, workspace_id: UUID) -> str:
    """Mint it, within the caller's transaction. Empty where the statement failed.

    The workspace is of use without a token: `rotate` gives it one.

    Raises:
        Exception: the database is away, or the transaction lost a race.
    """
    try:
        async with conn.transaction():
            _, secret = await tokens.mint_workspace_token(conn, workspace_id)
    except Exception as error:
        if fault(error) is not Fault.STATEMENT:
            raise
        log.exception(
            "a workspace was created without a token",
            workspace_id=str(workspace_id),
            hint=f"POST /workspaces/{workspace_id}/external/rotate",
        )
        return ""
    return secret.text
