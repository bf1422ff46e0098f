"""Keys with values: a workspace's notes to itself, with versions, and lifetimes if it wants."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Pool, database_errors
from molecule_grpc.kernel.errors import Aborted, Invalid, NotFound
from molecule_grpc.kernel.ids import identifier
from molecule_grpc.kernel.page import MAX_PAGE_BYTES, Page, page_of
from molecule_grpc.kernel.page_tokens import PageTokens
from molecule_grpc.kernel.payer import WORKSPACE
from molecule_grpc.kernel.text import clean
from molecule_grpc.memory.redaction import redact, redact_json_in_slices
from molecule_grpc.memory.store import key_values as store
from molecule_grpc.memory.store.key_values import ValueRow
from molecule_grpc.quotas import Quota

MAX_KEYS = 1_000
MAX_VALUE_BYTES = 256 * 1024
_LISTING = "memory values"
_KEYS = Quota("keys", WORKSPACE, MAX_KEYS)


class Written(NamedTuple):
    """A key as it was written, and its version now."""

    key: str
    version: int


class KeyValues:
    """The keys of workspaces. Writers lock a workspace's keys: versions compared stay current."""

    def __init__(self, pool: Pool, page_tokens: PageTokens) -> None:
        self._pool = pool
        self._page_tokens = page_tokens

    async def set(
        self,
        workspace_id: UUID,
        key: str,
        value: str,
        *,
        ttl_seconds: int | None = None,
        if_version: int | None = None,
    ) -> Written:
        """Write a key; without `if_version` the last write wins.

        Args:
            value: JSON text; secrets in it are replaced.
            ttl_seconds: after so long the key is absent; None for ever, whatever it was before.
            if_version: the version that the key must have; 0 if it must be absent.

        Raises:
            Invalid: the value exceeds 256 KiB, or the key holds a secret.
            Aborted: VERSION_MISMATCH.
            NotFound: WORKSPACE_NOT_FOUND.
            Exhausted: QUOTA_EXCEEDED: the workspace has 1,000 keys.
        """
        key, value = _key(key), await _value(value)
        with database_errors():
            async with self._pool.acquire() as conn, conn.transaction():
                if not await store.lock(conn, workspace_id):
                    raise NotFound("workspace not found", reason="WORKSPACE_NOT_FOUND")
                found = await store.state(conn, workspace_id, key)
                if if_version is not None and if_version != (found.version or 0):
                    raise _mismatch(if_version, found.version)
                if found.version is None and found.keys >= MAX_KEYS:
                    raise _KEYS.refusal(workspace_id)
                version = await store.put(conn, workspace_id, key, value, ttl_seconds)
                if version is None:
                    raise Invalid("value is too large as it is stored", field="value")
        return Written(key, version)

    async def delete(self, workspace_id: UUID, key: str, *, if_version: int | None = None) -> None:
        """Delete a key; what is absent stays so.

        Raises:
            Aborted: VERSION_MISMATCH.
        """
        key = clean(key)
        with database_errors():
            async with self._pool.acquire() as conn, conn.transaction():
                await store.lock(conn, workspace_id)
                found = await store.state(conn, workspace_id, key)
                if if_version is not None and if_version != found.version:
                    raise _mismatch(if_version, found.version)
                if found.version is not None:
                    await store.put(conn, workspace_id, key, None, None)

    async def get(self, workspace_id: UUID, key: str) -> ValueRow:
        """One key. Raises `NotFound` KEY_NOT_FOUND, also when it has expired."""
        with database_errors():
            row = await store.get(self._pool, workspace_id, clean(key))
        if row is None:
            raise NotFound("key not found", reason="KEY_NOT_FOUND")
        return row

    async def list_page(
        self, workspace_id: UUID, *, limit: int, page_token: str = ""
    ) -> Page[ValueRow]:
        """Live keys in the order of their code points, in a page of about 3 MiB.

        Args:
            limit: most keys of the page, up to 1000; 0 for 1000.
            page_token: from the page before; empty for the first page.

        Raises:
            Invalid: the page token is not one of ours.
        """
        parts = self._page_tokens.read(_LISTING, page_token, str)
        after = None if parts is None else str(parts[0])
        most = min(limit or MAX_KEYS, MAX_KEYS)
        with database_errors():
            rows = await store.list_rows(
                self._pool, workspace_id, after=after, limit=most + 1, max_bytes=MAX_PAGE_BYTES
            )
        return page_of(rows, limit=most, size=_size)

    def token_after(self, row: ValueRow) -> str:
        """The token of the page that begins behind a key."""
        return self._page_tokens.make(_LISTING, row.key)


def _key(text: str) -> str:
    """A key as it is stored, which the path of a request can name.

    Raises:
        Invalid: it holds a control character or a secret, or is `.` or `..`.
    """
    key = identifier(text, "key")
    if redact(key)[1]:
        raise Invalid("key holds a secret", field="key")
    return key


async def _value(text: str) -> str:
    """A value as it is stored: without secrets."""
    if len(text.encode()) > MAX_VALUE_BYTES:
        raise Invalid(f"value must be at most {MAX_VALUE_BYTES} bytes of JSON", field="value")
    return (await redact_json_in_slices(text))[0]


def _mismatch(expected: int, current: int | None) -> Aborted:
    what = "the key does not exist" if current is None else f"the key has version {current}"
    if expected == 0:
        what = "the key exists"
    versions = {"expected_version": expected, "current_version": current}
    return Aborted(
        f"if_match_version mismatch: {what}",
        reason="VERSION_MISMATCH",
        metadata={
            "expected_version": str(expected),
            "current_version": "null" if current is None else str(current),
        },
        body=versions,
    )


def _size(row: ValueRow) -> int:
    return len(row.value.encode()) + len(row.key.encode()) + 64
