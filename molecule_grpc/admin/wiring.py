"""Opens the slice for one worker."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from molecule_grpc.admin.memory_ports import MemoryExports, MemoryImports, MemoryRights
from molecule_grpc.admin.memory_service import MemoryAdministration
from molecule_grpc.admin.operations import Operations
from molecule_grpc.admin.organizations import Organizations
from molecule_grpc.admin.ports import (
    DeadLetters,
    DropStale,
    Healthy,
    LedgerViews,
    Retries,
    TaskStates,
)
from molecule_grpc.admin.server_state import ServerState
from molecule_grpc.admin.service import AdminService, handlers
from molecule_grpc.core import Core, Slice


@contextlib.asynccontextmanager
async def open_admin(
    core: Core,
    *,
    ledger: LedgerViews,
    retries: Retries,
    dead_letters: DeadLetters,
    drop_stale: DropStale,
    healthy: Healthy,
    tasks: TaskStates,
    memory_rights: MemoryRights,
    memory_exports: MemoryExports,
    memory_imports: MemoryImports,
) -> AsyncIterator[Slice]:
    """The slice, while inside.

    Args:
        ledger: delegations across workspaces.
        retries: hands failed delegations over again.
        dead_letters: items that were set aside, to be looked at, sent again or dropped.
        drop_stale: lets go of messages that wait for agents.
        healthy: whether the database answers.
        tasks: the background tasks of this worker, asked for with each call.
        memory_rights: grants, namespaces and quarantine of memories.
        memory_exports: memories on their way out.
        memory_imports: memories on their way in.
    """
    service = AdminService(
        ServerState(healthy, tasks),
        Organizations(
            core.pool,
            core.page_tokens,
            core.quotas,
            test_tokens=core.settings.auth.test_tokens,
        ),
        Operations(core.pool, core.page_tokens, ledger, dead_letters, drop_stale),
        ledger,
        retries,
        dead_letters,
        MemoryAdministration(
            memory_rights, memory_exports, memory_imports, core.page_tokens, core.guards
        ),
    )
    yield Slice(handlers=[handlers(service)])
