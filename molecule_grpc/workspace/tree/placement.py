"""Where in an organisation's tree a workspace may hang, decided under the tree's lock."""

from __future__ import annotations

from uuid import UUID

from molecule_grpc.db import tree_lock
from molecule_grpc.db.pool import Connection
from molecule_grpc.directory import DEFAULT_ORGANIZATION
from molecule_grpc.kernel.errors import Conflict, Invalid, NotFound
from molecule_grpc.workspace import rules
from molecule_grpc.workspace.refusals import missing
from molecule_grpc.workspace.store import workspaces
from molecule_grpc.workspace.store.rows import Held, WorkspaceDraft
from molecule_grpc.workspace.tree import store as tree


def home(wanted: UUID | None, own: UUID | None) -> UUID:
    """The organisation that a new workspace belongs to.

    Args:
        wanted: the one that the caller asks for; None for its own, or the default one.
        own: the only organisation that the caller may see; None for the operator.

    Raises:
        NotFound: ORGANIZATION_NOT_FOUND.
    """
    organization_id = wanted or own
    if own is not None and organization_id != own:
        raise no_organization()
    return organization_id or DEFAULT_ORGANIZATION


async def require_room(conn: Connection, draft: WorkspaceDraft) -> None:
    """Raise unless the draft's organisation exists and its parent can have one more child.

    Raises:
        NotFound: ORGANIZATION_NOT_FOUND.
        Invalid, Conflict: as `require_fit`.
    """
    if not await workspaces.organization_exists(conn, draft.organization_id):
        raise no_organization()
    if draft.parent_id is not None:
        await tree_lock.lock(conn, draft.organization_id, shared=True)
        await require_fit(conn, draft.organization_id, draft.id, draft.parent_id)


async def require_fit(
    conn: Connection, organization_id: UUID, workspace_id: UUID, parent_id: UUID
) -> None:
    """Raise unless a workspace, with all below it, may hang below this parent.

    The caller holds the tree's lock.

    Raises:
        Invalid: PARENT_INVALID.
        Conflict: TREE_TOO_DEEP.
    """
    branch = await tree.branch(conn, organization_id, parent_id)
    if not branch:
        raise _no_parent("parent_id names no workspace of this organization")
    if workspace_id in branch:
        raise _no_parent("a workspace cannot move below itself")
    if len(branch) + await tree.height(conn, workspace_id) > rules.MAX_DEPTH:
        raise Conflict(
            f"the tree would be deeper than {rules.MAX_DEPTH} levels",
            reason="TREE_TOO_DEEP",
            metadata={"max": str(rules.MAX_DEPTH)},
        )


async def hold(conn: Connection, workspace_id: UUID, within: UUID | None, *, moving: bool) -> Held:
    """Lock a live workspace until the transaction ends.

    Args:
        within: the only organisation that the workspace may be of; None for any.
        moving: its parent may change: lock the tree of its organisation first.

    Raises:
        NotFound: WORKSPACE_NOT_FOUND.
    """
    if moving:
        organization_id = await workspaces.organization_of(conn, workspace_id)
        if organization_id is not None:
            await tree_lock.lock(conn, organization_id, shared=False)
    row = await workspaces.lock_live(conn, workspace_id, within)
    if row is None:
        raise missing()
    return row


def _no_parent(message: str) -> Invalid:
    return Invalid(message, field="parent_id", reason="PARENT_INVALID")


def no_organization() -> NotFound:
    """No organisation of this id is visible to the caller, whatever the cause."""
    return NotFound("organization not found", reason="ORGANIZATION_NOT_FOUND")
