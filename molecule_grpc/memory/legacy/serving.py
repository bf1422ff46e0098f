"""Whether clients that know scopes are served from the table of an old installation."""

from __future__ import annotations

import structlog

from molecule_grpc.db.pool import Pool
from molecule_grpc.memory.legacy.store import agent_memories as store
from molecule_grpc.settings.memory_plugin import MemoryPluginSettings

log = structlog.get_logger(__name__)


async def serves_legacy_table(pool: Pool, settings: MemoryPluginSettings) -> bool:
    """True with a table `agent_memories` in the database, unless MEMORY_V2_CUTOVER=true.

    Told once in the log: the other surfaces use namespaces meanwhile, so that agents of both kinds
    do not see one another's memories.
    """
    if settings.cut_over:
        return False
    found = (await store.tables(pool)).is_table
    if found:
        log.warning(
            "clients that know scopes use the table agent_memories until MEMORY_V2_CUTOVER=true;"
            " `molecule-grpc memory backfill` moves its rows"
        )
    return found
