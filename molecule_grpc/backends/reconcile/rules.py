"""What an engine's list means for the rows, and the rows for the list."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.backends.contract.workloads import Owned


class Expected(NamedTuple):
    """What a row says of a workspace.

    Args:
        removed: whether it is a tombstone.
        rests: whether nothing shall run: it is paused, hibernated or failed.
        busy: whether an operation waits or runs: whatever is found may be its doing.
    """

    organization_id: UUID
    backend: str
    resource_id: str
    removed: bool
    rests: bool
    busy: bool


class Orphan(NamedTuple):
    """Something that no row expects. With volumes where nothing of the workspace shall stay."""

    workspace_id: UUID
    organization_id: UUID
    resource_id: str
    with_volumes: bool


_NOBODY = UUID(int=0)


def orphans(backend: str, owned: Iterable[Owned], rows: Mapping[UUID, Expected]) -> list[Orphan]:
    """What is on the engine and shall not be.

    That belongs to no row, to a removed row or to an older operation; or runs although its
    workspace is paused, hibernated or failed.

    Args:
        rows: of the workspaces in the list, read after it; one that is missing has no row.
    """
    found = []
    for each in owned:
        row = rows.get(each.workspace_id)
        if row is not None and row.busy:
            continue
        gone = row is None or row.removed
        if row is None or gone or _is_unwanted(backend, each, row):
            organization_id = row.organization_id if row else each.organization_id or _NOBODY
            found.append(Orphan(each.workspace_id, organization_id, each.resource_id, gone))
    return found


def _is_unwanted(backend: str, each: Owned, row: Expected) -> bool:
    """Whether a workload of a live row is another than the row's, or runs where none shall.

    Volumes without a workload are a live row's own.
    """
    if not each.resource_id:
        return False
    older = (row.backend, row.resource_id) != (backend, each.resource_id)
    return older or (row.rests and each.running)


def absent(expected: Mapping[UUID, str], owned: Iterable[Owned]) -> list[UUID]:
    """The workspaces whose workload is not in the list, running or ended.

    Args:
        expected: by workspace, the id of its workload.
    """
    there = {(each.workspace_id, each.resource_id) for each in owned}
    return [
        workspace for workspace, resource in expected.items() if (workspace, resource) not in there
    ]
