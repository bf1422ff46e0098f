"""The SQL of what belongs to the whole installation: its key and its generation."""

from __future__ import annotations

from molecule_grpc.db.pool import Pool


async def page_token_key(pool: Pool) -> bytes:
    """The key of 32 bytes that signs page tokens, the same for every worker."""
    key: bytes = await pool.fetchval(
        "SELECT key FROM installation_keys WHERE purpose = 'page_tokens'"
    )
    return key


async def generation(pool: Pool) -> str:
    """Twelve hex digits that every restore from a backup changes; empty before the first one."""
    found: str | None = await pool.fetchval(
        "SELECT left(encode(key, 'hex'), 12) FROM installation_keys WHERE purpose = 'generation'"
    )
    return found or ""
