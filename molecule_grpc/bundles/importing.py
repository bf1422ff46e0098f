"""Import: a bundle becomes a workspace and everything below it."""

from __future__ import annotations

from typing import Final
from uuid import UUID

import structlog

from molecule_grpc.auth.principal import Principal
from molecule_grpc.bundles import layout, rules
from molecule_grpc.bundles.ports import StartFiles, Workspaces
from molecule_grpc.bundles.store import tree
from molecule_grpc.bundles.values import Bundle, Outcome
from molecule_grpc.db.pool import Connection
from molecule_grpc.directory import ImportedNode
from molecule_grpc.kernel.errors import AlreadyExists, MoleculeError

log = structlog.get_logger(__name__)

_EXTERNAL: Final = "external"
_FAILED: Final = "failed"
_NO_PARENT: Final = "the workspace above was not created"


class Import:
    """Makes workspaces of bundles."""

    def __init__(self, workspaces: Workspaces, files: StartFiles) -> None:
        self._workspaces = workspaces
        self._files = files

    async def import_(
        self, principal: Principal, bundle: Bundle, organization_id: UUID | None
    ) -> Outcome:
        """Add the workspaces of a bundle, each in a transaction of its own.

        What is wrong with the bundle is found before the first of them. Later failures concern a
        workspace with what stands below it, and are told with it; the others go on.

        Args:
            organization_id: None for the caller's own, or the default one.

        Raises:
            Invalid: the bundle breaks a rule.
            NotFound: ORGANIZATION_NOT_FOUND.
            AlreadyExists: WORKSPACE_NAME_TAKEN: of its root, so that a repeat adds nothing.
            Exhausted: QUOTA_EXCEEDED: also the root is one too many.
        """
        home = await self._workspaces.home(principal, organization_id)
        bundle = rules.checked(bundle)
        root = await self._create(principal, home, None, bundle)
        return await self._with_below(principal, home, bundle, root)

    async def _with_below(
        self, principal: Principal, home: UUID, bundle: Bundle, made: Outcome
    ) -> Outcome:
        below = []
        for each in bundle.below:
            if made.workspace_id is None:
                below.append(_not_made(each, _NO_PARENT))
                continue
            try:
                child = await self._create(principal, home, made.workspace_id, each)
            except MoleculeError as error:
                below.append(_not_made(each, error.message))
            else:
                below.append(await self._with_below(principal, home, each, child))
        return Outcome(
            workspace_id=made.workspace_id,
            name=made.name,
            status=made.status,
            error=made.error,
            below=tuple(below),
        )

    async def _create(
        self, principal: Principal, home: UUID, parent_id: UUID | None, bundle: Bundle
    ) -> Outcome:
        """One workspace, without those below it."""
        runtime = rules.runtime_of(bundle)

        async def also(conn: Connection, organization_id: UUID, workspace_id: UUID) -> None:
            await tree.note_origin(conn, workspace_id, bundle.id, bundle.card)
            await self._files.put(conn, organization_id, workspace_id, layout.to_files(bundle))

        node = ImportedNode(
            organization_id=home,
            parent_id=parent_id,
            name=bundle.name,
            role=bundle.description,
            tier=bundle.tier,
            runtime=runtime,
            external=runtime == _EXTERNAL,
            model=bundle.model,
            template="",
        )
        made = await self._workspaces.find_or_create(principal, node, also)
        if not made.created:
            raise AlreadyExists(
                "another workspace of the same parent has this name",
                reason="WORKSPACE_NAME_TAKEN",
                metadata={"name": bundle.name},
            )
        return Outcome(
            workspace_id=made.id, name=bundle.name, status=made.status, error=made.reason
        )


def _not_made(bundle: Bundle, error: str) -> Outcome:
    return Outcome(
        workspace_id=None,
        name=bundle.name,
        status=_FAILED,
        error=error,
        below=tuple(_not_made(each, _NO_PARENT) for each in bundle.below),
    )
