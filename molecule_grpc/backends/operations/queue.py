"""Asking for operations: in the transaction of the change that wants them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.backends.operations.rules import Kind, Merge, Options, merge
from molecule_grpc.backends.operations.store import queue as store
from molecule_grpc.db.pool import Connection
from molecule_grpc.kernel.ids import new_id


class Wanted(NamedTuple):
    """An operation that somebody wants.

    Args:
        source: who asks: `create`, `delete`, `restart`, `pause`, `wake`, `reconcile`, and so on.
        delay: seconds that the operation waits at least.
    """

    workspace_id: UUID
    organization_id: UUID
    kind: Kind
    source: str
    options: Options = Options()
    delay: float = 0.0


class Asked(NamedTuple):
    """What was asked for is in this operation, which may be an older one that waits.

    Args:
        kind: of the operation, after merging.
    """

    workspace_id: UUID
    operation_id: UUID
    kind: Kind


async def enqueue(conn: Connection, wanted: Sequence[Wanted]) -> list[Asked]:
    """Store operations, merged with pending ones: at most 1 is pending for each workspace.

    A stop or a removal also asks a running start to end. Call in the transaction of the status
    move: the rows of the workspaces are locked until that ends, also those that are locked already.
    A worker begins after the commit, as soon as `Operations.announce` is called or a second later.

    Raises:
        ValueError: a workspace is named twice.
    """
    if len({each.workspace_id for each in wanted}) != len(wanted):
        raise ValueError("one operation for each workspace")
    waiting = {each.workspace_id: each for each in await store.hold_pending(conn, _ids(wanted))}
    asked = []
    replaced, changed, new = [], [], []
    for each in wanted:
        held = waiting.get(each.workspace_id)
        outcome = Merge(each.kind, replaced=True) if held is None else merge(held.kind, each.kind)
        if held is not None and not outcome.replaced:
            options = held.options.merged(each.options)
            changed.append(store.Change(held.id, outcome.kind, options, each.delay))
            asked.append(Asked(each.workspace_id, held.id, outcome.kind))
            continue
        if held is not None:
            replaced.append(held.id)
        row = store.New(
            new_id(),
            each.workspace_id,
            each.organization_id,
            outcome.kind,
            each.source,
            each.options,
            each.delay,
        )
        new.append(row)
        asked.append(Asked(each.workspace_id, row.id, outcome.kind))
    await store.replace(conn, replaced)
    await store.change(conn, changed)
    await store.insert(conn, new)
    await store.request_cancel(conn, [each.workspace_id for each in asked if not each.kind.starts])
    return asked


def _ids(wanted: Sequence[Wanted]) -> list[UUID]:
    return [each.workspace_id for each in wanted]
