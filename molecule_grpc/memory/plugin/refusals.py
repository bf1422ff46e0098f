"""What a caller is told when a plugin refuses or fails. The plugin's own words go to the log."""

from __future__ import annotations

import structlog

from molecule_grpc.kernel.errors import Invalid, MoleculeError, Unavailable, Unsupported
from molecule_grpc.memory.contract.errors import ErrorCode, StoreError
from molecule_grpc.memory.plugin.breaker import OPEN_SECONDS
from molecule_grpc.memory.plugin.client import CircuitOpen

log = structlog.get_logger(__name__)


def named(error: StoreError, doing: str) -> MoleculeError:
    """The error for a caller.

    Args:
        doing: `commit`, `search` or `forget`.
    """
    if isinstance(error, CircuitOpen):
        return Unavailable(
            f"plugin {doing}: circuit breaker open: the memory plugin (MEMORY_PLUGIN_URL) failed"
            f" three times in a row, and is asked again within {OPEN_SECONDS:.0f} s",
            reason="MEMORY_PLUGIN_UNAVAILABLE",
            retry_after=OPEN_SECONDS,
        )
    log.warning("the memory plugin did not do it", doing=doing, code=error.code, error=str(error))
    if error.counts:
        return Unavailable(
            f"plugin {doing}: the memory plugin (MEMORY_PLUGIN_URL) did not answer or failed, try"
            " again",
            reason="MEMORY_PLUGIN_UNAVAILABLE",
        )
    if error.code is ErrorCode.BAD_REQUEST:
        return Invalid(f"plugin {doing}: the memory plugin refused this request")
    return Unavailable(
        f"plugin {doing}: the memory plugin refused", reason="MEMORY_PLUGIN_UNAVAILABLE"
    )


def unsupported(what: str) -> Unsupported:
    """The plugin's contract has nothing for this."""
    return Unsupported(
        f"{what} is not possible here: memories are kept by a plugin (MEMORY_PLUGIN_URL)",
        reason="MEMORY_PLUGIN_UNSUPPORTED",
    )
