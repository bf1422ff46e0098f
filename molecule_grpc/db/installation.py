"""The SQL of secrets that belong to the whole installation."""

from __future__ import annotations

from molecule_grpc.db.pool import Pool


async def page_token_key(pool: Pool) -> bytes:
    """The key of 32 bytes that signs page tokens, the same for every worker."""
    key: bytes = await pool.fetchval(
        "SELECT key FROM installation_keys WHERE purpose = 'page_tokens'"
    )
    return key
