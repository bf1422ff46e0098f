"""The SQL of what belongs to the whole installation: its key and its generation."""

from __future__ import annotations

import hashlib
from uuid import UUID

from molecule_grpc.db.pool import Pool


async def page_token_key(pool: Pool) -> bytes:
    """The key of 32 bytes that signs page tokens, the same for every worker."""
    key: bytes = await pool.fetchval(
        "SELECT key FROM installation_keys WHERE purpose = 'page_tokens'"
    )
    return key


async def proxy_key(pool: Pool) -> bytes:
    """The key of 32 bytes from which the passwords of workspaces for the proxy are made."""
    return hashlib.sha256(b"proxy" + await page_token_key(pool)).digest()


async def generation(pool: Pool) -> str:
    """Twelve hex digits that every restore from a backup changes; empty before the first one."""
    found: str | None = await pool.fetchval(
        "SELECT left(encode(key, 'hex'), 12) FROM installation_keys WHERE purpose = 'generation'"
    )
    return found or ""


async def installation_id(pool: Pool) -> UUID:
    """The id of this installation, which outlives backups: of the same database, always the same.

    Whatever is made outside of the database bears the id, so that nothing else is ever touched.
    """
    digest = hashlib.sha256(b"installation" + await page_token_key(pool)).digest()
    return UUID(bytes=digest[:16])
