"""The use cases of secrets: the nearest value wins; names are listed, values read all together."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Final, NamedTuple
from uuid import UUID

import structlog

from molecule_grpc.db.pool import Connection, Pool, database_errors
from molecule_grpc.kernel.errors import Conflict, Invalid, NotFound
from molecule_grpc.kernel.payer import ORGANIZATION, WORKSPACE
from molecule_grpc.quotas import Quota
from molecule_grpc.secrets.changes import Changes
from molecule_grpc.secrets.owner import INSTALLATION, Owner, Scope
from molecule_grpc.secrets.sealing import Sealer, Unreadable
from molecule_grpc.secrets.store import rows
from molecule_grpc.secrets.store.rows import SealedRow, SecretRow

log = structlog.get_logger(__name__)

MAX_VALUE_BYTES: Final = 64 * 1024
MAX_SECRETS: Final = 200
_KEY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_BATCH: Final = 200
# Of each owner. A process can be started with 2 MB of environment on Linux, and a workspace
# inherits from two owners beside itself.
_COUNT: Final = Quota("secrets", WORKSPACE, MAX_SECRETS)
_BYTES: Final = Quota("bytes of secrets", WORKSPACE, 256 * 1024)


class Resealed(NamedTuple):
    """What a change of the encryption key did.

    Args:
        unreadable: secrets that no known key opens; they are as they were.
    """

    resealed: int
    unreadable: int


class Secrets:
    """Secrets of workspaces, organisations and the installation.

    Args:
        sealer: None where no encryption key is set: nothing is stored or read then.
        changes: told of each change, in its transaction.
    """

    def __init__(self, pool: Pool, sealer: Sealer | None, changes: Changes) -> None:
        self._pool = pool
        self._sealer = sealer
        self._changes = changes

    async def set(self, owner: Owner, key: str, value: str) -> None:
        """Set a secret; the last write wins. With another value agents are started again.

        Raises:
            Invalid: the name is none of an environment variable, or the value is too large.
            NotFound: WORKSPACE_NOT_FOUND or ORGANIZATION_NOT_FOUND.
            Exhausted: QUOTA_EXCEEDED: the owner has 200 secrets, or 256 KiB of them.
            Conflict: SECRETS_KEY_MISSING.
        """
        check(key, value)
        with database_errors():
            async with self._pool.acquire() as conn, conn.transaction():
                owner = await _found(conn, owner)
                await rows.lock(conn, owner)
                before = await rows.own(conn, owner, key)
                await self.set_all(conn, owner, {key: value})
                if before is None or self._open(before) != value:
                    await self._changes.note(conn, owner, key)
        self._changes.announce(owner)

    async def set_all(self, conn: Connection, owner: Owner, values: Mapping[str, str]) -> None:
        """Set checked secrets of an owner in the caller's transaction.

        Raises:
            Exhausted, Conflict: as `set`.
        """
        sealer = self._require_sealer()
        await rows.lock(conn, owner)
        sealed = {key: sealer.seal(value, owner.id, key) for key, value in values.items()}
        sizes = await rows.sizes(conn, owner) | {key: len(one.data) for key, one in sealed.items()}
        of = ORGANIZATION if owner.workspace_id is None else WORKSPACE
        for quota, used in ((_COUNT, len(sizes)), (_BYTES, sum(sizes.values()))):
            if used > quota.bound:
                raise dataclasses.replace(quota, of=of).refusal(owner.id)
        for key, one in sealed.items():
            await rows.put(conn, owner, key, one)

    async def of_new_workspace(
        self,
        conn: Connection,
        organization_id: UUID,
        workspace_id: UUID,
        values: Mapping[str, str],
    ) -> None:
        """Set the secrets that a workspace is created with, in the transaction that creates it.

        Raises:
            Invalid, Exhausted, Conflict: as `set`; field `secrets`.
        """
        for key, value in values.items():
            check(key, value, "secrets")
        await self.set_all(conn, Owner(organization_id, workspace_id), values)

    async def delete(self, owner: Owner, key: str) -> None:
        """Delete an owner's secret. Running agents that have the secret are restarted.

        Raises:
            NotFound: SECRET_NOT_FOUND: also where the secret is inherited.
        """
        with database_errors():
            async with self._pool.acquire() as conn, conn.transaction():
                if not await rows.delete(conn, owner, key):
                    raise NotFound("secret not found", reason="SECRET_NOT_FOUND")
                await self._changes.note(conn, owner, key)
        self._changes.announce(owner)

    async def nearest(self, workspace_id: UUID, key: str) -> tuple[str, Scope] | None:
        """A secret's value in a workspace's start, and the owner's scope; None for an unset secret.

        Raises:
            Conflict: SECRETS_KEY_MISSING or SECRET_UNREADABLE.
        """
        with database_errors():
            found = await rows.nearest(self._pool, workspace_id, key)
        if found is None:
            return None
        sealed, scope = found
        value = self._open(sealed)
        if value is None:
            raise _unreadable([key])
        return value, scope

    async def names(self, workspace_id: UUID) -> list[str]:
        """The names of what a workspace is started with."""
        return [row.key for row in await self.list_effective(workspace_id)]

    async def list_effective(self, workspace_id: UUID) -> list[SecretRow]:
        """What a workspace is started with, by name, without values."""
        with database_errors():
            return await rows.of_workspace(self._pool, workspace_id)

    async def list_own(self, owner: Owner) -> list[SecretRow]:
        """An owner's own secrets, by name, without values."""
        with database_errors():
            return await rows.of_owner(self._pool, owner)

    async def shared_names(self, organization_id: UUID) -> frozenset[str]:
        """Names of the secrets that all workspaces of an organisation inherit."""
        own = await self.list_own(Owner(organization_id))
        return frozenset(row.key for row in (*own, *await self.list_own(INSTALLATION)))

    async def values(self, workspace_id: UUID) -> dict[str, str]:
        """What a workspace is started with. All or nothing.

        Raises:
            Conflict: SECRETS_KEY_MISSING, or SECRET_UNREADABLE: names what no known key opens.
        """
        with database_errors():
            found = await rows.sealed_of_workspace(self._pool, workspace_id)
        if not found:
            return {}
        opened = {row.key: self._open(row) for row in found}
        failed = sorted(key for key, value in opened.items() if value is None)
        if failed:
            raise _unreadable(failed)
        return {key: value for key, value in opened.items() if value is not None}

    async def reseal(self) -> Resealed:
        """Seal everything with the current key, in batches. Repeating it is harmless.

        Raises:
            Conflict: SECRETS_KEY_MISSING.
        """
        sealer = self._require_sealer()
        resealed = unreadable = 0
        place = (UUID(int=0), "")
        while True:
            with database_errors():
                async with self._pool.acquire() as conn, conn.transaction():
                    found = await rows.sealed_otherwise(conn, sealer.key_id, place, _BATCH)
                    texts = [(row, self._open(row)) for row in found]
                    await rows.reseal(
                        conn,
                        [
                            row._replace(sealed=sealer.seal(text, row.owner_id, row.key))
                            for row, text in texts
                            if text is not None
                        ],
                    )
            resealed += sum(text is not None for _, text in texts)
            unreadable += sum(text is None for _, text in texts)
            if len(found) < _BATCH:
                return Resealed(resealed, unreadable)
            place = (found[-1].owner_id, found[-1].key)

    def _open(self, row: SealedRow) -> str | None:
        try:
            return self._require_sealer().open(row.sealed, row.owner_id, row.key)
        except Unreadable:
            log.warning("a secret cannot be decrypted", owner=str(row.owner_id), key=row.key)
            return None

    def _require_sealer(self) -> Sealer:
        if self._sealer is None:
            raise Conflict(
                "this installation has no key for secrets: set SECRETS_ENCRYPTION_KEY, "
                "the same on every machine",
                reason="SECRETS_KEY_MISSING",
            )
        return self._sealer


def _unreadable(failed: list[str]) -> Conflict:
    return Conflict(
        "some secrets cannot be decrypted: the encryption key that sealed them is missing",
        reason="SECRET_UNREADABLE",
        metadata={"failed_keys": ",".join(failed)[:1024]},
        body={"failed_keys": failed},
    )


def organization_missing() -> NotFound:
    """What is told of an organisation that there is not, or not for this caller."""
    return NotFound("organization not found", reason="ORGANIZATION_NOT_FOUND")


async def _found(conn: Connection, owner: Owner) -> Owner:
    """The owner, with a workspace's organisation, held against its removal."""
    if owner.workspace_id is not None:
        organization_id = await rows.live_organization(conn, owner.workspace_id)
        if organization_id is None:
            raise NotFound("workspace not found", reason="WORKSPACE_NOT_FOUND")
        return Owner(organization_id, owner.workspace_id)
    if owner.organization_id is not None and not await rows.is_organization(
        conn, owner.organization_id
    ):
        raise organization_missing()
    return owner


def check(key: str, value: str, field: str = "") -> None:
    """Refuse what cannot be an environment variable of an agent.

    Args:
        field: of the request, where the key is no field of its own.

    Raises:
        Invalid: names the field.
    """
    if not _KEY.fullmatch(key):
        raise Invalid(
            "key must be the name of an environment variable: letters, digits and _, "
            "no digit first, at most 128 characters",
            field=field or "key",
        )
    if not value or "\0" in value or len(value.encode()) > MAX_VALUE_BYTES:
        raise Invalid(
            f"value must have 1 to {MAX_VALUE_BYTES} bytes, none of them NUL",
            field=field or "value",
        )
