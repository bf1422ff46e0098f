"""A walk over the workspaces of a template, each behind its parent."""

from __future__ import annotations

import dataclasses

import structlog

from molecule_grpc.directory import Imported
from molecule_grpc.kernel.errors import MoleculeError, Unavailable
from molecule_grpc.templates.fingerprints import changes, fingerprints
from molecule_grpc.templates.node_workspaces import Importer, NodeWorkspaces
from molecule_grpc.templates.preparing import Prepared, Preparing
from molecule_grpc.templates.results import Action, Outcome
from molecule_grpc.templates.values import Node, Skipped

log = structlog.get_logger(__name__)

_ORPHAN = "the workspace above was not created"
_FOREIGN = "the workspace was not made from a template"


class Walk:
    """One import.

    Args:
        preparing: works out what each workspace is created with.
        dry_run: whether nothing is changed.
    """

    def __init__(
        self,
        workspaces: NodeWorkspaces,
        preparing: Preparing,
        importer: Importer,
        *,
        dry_run: bool,
    ) -> None:
        self._workspaces = workspaces
        self._preparing = preparing
        self._importer = importer
        self._dry_run = dry_run

    async def run(self, roots: tuple[Node, ...]) -> list[Outcome]:
        """Create the workspaces. A failed workspace fails its descendants, and no others.

        Raises:
            Unavailable: the database does not answer. What was created stays.
        """
        outcomes: dict[tuple[str, ...], Outcome] = {}
        waiting = list(reversed(roots))
        while waiting:
            node = waiting.pop()
            outcomes[node.path] = await self._one(node, outcomes.get(node.path[:-1]))
            waiting.extend(reversed(node.children))
        return list(outcomes.values())

    async def _one(self, node: Node, above: Outcome | None) -> Outcome:
        """Create or find a node's workspace below its parent's, which may be new or older."""
        prepared = await self._preparing.prepare(node)
        outcome = Outcome(
            path=node.path,
            tier=node.tier,
            action=Action.FAIL,
            parent_id=None if above is None else above.id,
            notes=prepared.notes,
            schedules=len(node.schedules),
            schedules_skipped=node.schedules_skipped,
            channels_skipped=node.channels_skipped,
        )
        if above is not None and above.action is Action.FAIL:
            return dataclasses.replace(outcome, error=_ORPHAN)
        if above is None or above.id is not None:
            found = await self._workspaces.find(self._importer, outcome.parent_id, node)
            if found is not None:
                return await self._present(prepared, outcome, found)
        if prepared.fault:
            return dataclasses.replace(outcome, error=prepared.fault)
        if self._dry_run:
            return dataclasses.replace(outcome, action=Action.CREATE)
        return await self._create(prepared, outcome)

    async def _create(self, prepared: Prepared, outcome: Outcome) -> Outcome:
        try:
            made, skipped = await self._workspaces.create(
                self._importer, outcome.parent_id, prepared
            )
        except Unavailable:
            raise
        except MoleculeError as error:
            log.info("a workspace of a template was refused", reason=error.reason)
            return dataclasses.replace(outcome, error=error.message)
        if not made.created:
            return await self._present(prepared, outcome, made)
        await self._workspaces.remember(made.id, prepared.node.memories)
        return dataclasses.replace(
            _with_schedules(outcome, skipped),
            action=Action.CREATE,
            id=made.id,
            status=made.status,
            error=made.reason,
        )

    async def _present(self, prepared: Prepared, outcome: Outcome, found: Imported) -> Outcome:
        """A workspace that was there: what the template says of it, and says differently by now."""
        known = await self._workspaces.known(found.id)
        skipped: list[Skipped] = []
        if not self._dry_run:
            skipped = await self._workspaces.refresh(found.id, prepared.node)
            await self._workspaces.remember(found.id, () if known is None else known.memories)
        now = fingerprints(prepared.node, prepared.configured)
        changed = () if known is None else changes(known.parts, now)
        return dataclasses.replace(
            _with_schedules(outcome, skipped),
            action=Action.DIFFER if changed else Action.SKIP,
            id=found.id,
            status=found.status,
            changed=changed,
            notes=outcome.notes if known is not None else (*outcome.notes, _FOREIGN),
        )


def _with_schedules(outcome: Outcome, skipped: list[Skipped]) -> Outcome:
    return dataclasses.replace(
        outcome,
        schedules=outcome.schedules - len(skipped),
        schedules_skipped=(*outcome.schedules_skipped, *skipped),
    )
