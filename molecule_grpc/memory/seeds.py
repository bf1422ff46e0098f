"""What a new workspace knows from the start, through the same commit as any other memory."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import structlog

from molecule_grpc.directory import InitialMemory
from molecule_grpc.kernel.errors import MoleculeError
from molecule_grpc.kernel.text import cut_bytes
from molecule_grpc.memory.drafting import MAX_CONTENT_BYTES
from molecule_grpc.memory.ports import Committing, Resolving
from molecule_grpc.memory.scoped import writable
from molecule_grpc.memory.values import Draft

_log = structlog.get_logger(__name__)


class Seeds:
    """Stores initial memories. One that cannot be stored hinders neither others nor the making."""

    def __init__(self, namespaces: Resolving, commits: Committing) -> None:
        self._namespaces = namespaces
        self._commits = commits

    async def store(self, workspace_id: UUID, memories: Sequence[InitialMemory]) -> int:
        """Store what there is; how many memories are stored. Raises nothing expected."""
        stored = 0
        for each in memories:
            if not each.content.strip():
                continue
            try:
                access = await self._namespaces.access(workspace_id)
                draft = Draft(
                    content=cut_bytes(each.content, MAX_CONTENT_BYTES),
                    namespace=writable(access, each.scope or "LOCAL"),
                )
                await self._commits.commit(workspace_id, draft, operator=True)
            except MoleculeError as error:
                _log.warning(
                    "initial memory not stored", workspace=str(workspace_id), reason=error.reason
                )
            else:
                stored += 1
        return stored
