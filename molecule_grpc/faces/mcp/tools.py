"""What a tool is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from molecule_grpc.faces.mcp.arguments import Arguments
from molecule_grpc.server.call import Call


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf a tool runs."""

    workspace_id: str
    call: Call


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool.

    Args:
        reads: it changes nothing.
        run: takes checked arguments; returns what JSON can say.
    """

    name: str
    description: str
    arguments: type[Arguments]
    run: Callable[[Any, Caller], Awaitable[object]]
    reads: bool = False
