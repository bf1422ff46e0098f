"""What an agent finds below /configs when its workspace is first started.

Files are stored with the workspace, and written to its volume by the first start that succeeds.
From then on the volume is the agent's own: a restart overwrites nothing. Where a backend keeps no
volumes, and where the workspace is started on another backend than before, all are written anew.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Final
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool, database_errors
from molecule_grpc.kernel.errors import Invalid
from molecule_grpc.quotas import Quota, QuotaUse
from molecule_grpc.templates.store import files as store

MAX_FILES: Final = 500
MAX_BYTES: Final = 2 * 1024 * 1024
MAX_PATH_BYTES: Final = 512
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\\]")


class StartFiles:
    """Files below /configs that workspaces are first started with.

    Args:
        quota: of their bytes in an organisation.
    """

    def __init__(self, pool: Pool, quota: Quota) -> None:
        self._pool = pool
        self._quota = quota

    async def put(
        self,
        conn: Connection,
        organization_id: UUID,
        workspace_id: UUID,
        files: Mapping[str, bytes],
    ) -> None:
        """Keep files by path below /configs, in the place of all that were kept before.

        Call in the transaction that creates or changes the workspace; the next start delivers them.

        Raises:
            Invalid: `check` refuses the files.
            Exhausted: QUOTA_EXCEEDED: the organisation keeps as many bytes as it may.
        """
        check(files)
        used = await store.bytes_of_organization(conn, organization_id, workspace_id)
        if self._quota.exceeded(used, sum(map(len, files.values()))):
            raise self._quota.refusal(organization_id)
        await store.replace(conn, organization_id, workspace_id, files)

    async def uses(self, organization_id: UUID, _: UUID | None) -> list[QuotaUse]:
        """How much of the quota an organisation uses."""
        with database_errors():
            used = await store.bytes_of_organization(self._pool, organization_id)
        return [QuotaUse(self._quota, used)]

    async def of_start(self, workspace_id: UUID, kept_by: str) -> Mapping[str, bytes]:
        """What a start must write.

        Args:
            kept_by: the backend of the start, if its volumes outlive a stop; else empty.
        """
        with database_errors():
            return await store.of_start(self._pool, workspace_id, kept_by)

    async def delivered(
        self, conn: Connection, workspace_id: UUID, backend: str, read_after: datetime
    ) -> None:
        """A start that read the files after that time has succeeded on a backend."""
        await store.note_delivery(conn, workspace_id, backend, read_after)

    async def forget(self, conn: Connection, workspace_ids: list[UUID]) -> None:
        """Delete the files of workspaces that are removed."""
        await store.forget(conn, workspace_ids)


def check(files: Mapping[str, bytes]) -> None:
    """Refuse what cannot be written below /configs.

    Raises:
        Invalid: more than 500 files or 2 MiB, or a path that is not plain and relative.
    """
    if len(files) > MAX_FILES:
        raise Invalid(f"a workspace can be started with {MAX_FILES} files at most", field="files")
    if sum(map(len, files.values())) > MAX_BYTES:
        raise Invalid(f"the files of a workspace can have {MAX_BYTES} bytes at most", field="files")
    for path in files:
        if not plain_path(path):
            raise Invalid("a path must be relative, without . and ..", field="files")


def plain_path(path: str) -> bool:
    """Whether a path is relative, names a file, and stays below where it begins."""
    return (
        len(path.encode()) <= MAX_PATH_BYTES
        and not _CONTROL.search(path)
        and all(part not in ("", ".", "..") for part in path.split("/"))
    )
