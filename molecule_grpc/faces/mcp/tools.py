"""What a tool is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from molecule_grpc.faces.mcp.arguments import Arguments
from molecule_grpc.server.call import Call


@dataclass(frozen=True, slots=True)
class Caller:
    """The workspace on whose behalf a tool runs, and the call that carries the message."""

    workspace_id: UUID
    call: Call


class Plain(str):
    """A result that is text as it stands, and no JSON."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool.

    Args:
        reads: the tool changes nothing.
        stores: the tool stores what it was told, so that a nearly full disk refuses it.
        run: takes checked arguments; returns a value that JSON can express, or `Plain` text.
    """

    name: str
    description: str
    arguments: type[Arguments]
    run: Callable[[Any, Caller], Awaitable[object]]
    reads: bool = False
    stores: bool = False
