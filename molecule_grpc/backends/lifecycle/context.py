"""What a restarted agent is told when it has registered."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from uuid import UUID

import structlog

from molecule_grpc.backends.lifecycle.ports import EnvironmentNames, LeaveMessage, VerbRows

log = structlog.get_logger(__name__)

# Runs something that nobody waits for.
Spawn = Callable[[Coroutine[None, None, None]], object]


class RestartContext:
    """Leaves a restarted agent a message with the time of the restart and its variables' names.

    Args:
        leave: puts a text into the agent's inbox or queue.
        names: variables that the agent is started with.
        spawn: runs what nobody waits for.
    """

    def __init__(
        self, rows: VerbRows, leave: LeaveMessage, names: EnvironmentNames, spawn: Spawn
    ) -> None:
        self._rows = rows
        self._leave = leave
        self._names = names
        self._spawn = spawn

    def on_registered(self, workspace_id: UUID) -> None:
        """An agent has registered."""
        self._spawn(self._tell(workspace_id))

    async def _tell(self, workspace_id: UUID) -> None:
        """Tell once. A failure loses the message: it is a courtesy."""
        try:
            context = await self._rows.take_context(workspace_id)
            if context is not None:
                names = await self._names(workspace_id)
                await self._leave(workspace_id, restart_text(json.loads(context), names))
        except Exception as error:  # noqa: BLE001  (the agent works without it)
            log.warning(
                "a restarted agent was not told so",
                workspace_id=str(workspace_id),
                error=type(error).__name__,
            )


def restart_text(context: dict[str, str], names: list[str]) -> str:
    """The message.

    Args:
        context: `restarted_at`, and `previous_session_end` unless there was none.
        names: of variables, never their values.
    """
    lines = [f"This workspace was restarted at {context['restarted_at']}."]
    if ended := context.get("previous_session_end"):
        lines.append(f"The previous session was last heard of at {ended}.")
    if names:
        lines.append(f"Environment variables: {', '.join(sorted(names))}.")
    return "\n".join(lines)
