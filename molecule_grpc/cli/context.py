"""What every command is given: the platform's URL, the token, and the output."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec
from uuid import UUID

import typer

from molecule_grpc.cli.output import Output
from molecule_grpc.client.agent import Agent
from molecule_grpc.client.platform import Platform

P = ParamSpec("P")

# Seconds for a call: longer than a worker's restart, and bearable for a person who waits.
_TIMEOUT = 5.0

TOKEN_FILE = "admin_token"


class UsageError(Exception):
    """The command line is wrong: exit code 2."""


class InstallationError(Exception):
    """The platform cannot run here with these settings: exit code 1."""


@dataclass(frozen=True, slots=True)
class Cli:
    """The global options, resolved."""

    url: str
    token: str
    output: Output

    @classmethod
    def of(cls, context: typer.Context) -> Cli:
        """The options that the root command resolved."""
        found = context.find_object(cls)
        assert found is not None
        return found

    def platform(self) -> Platform:
        """A connection with the token in force.

        Raises:
            UsageError: the URL is not one of a platform.
        """
        try:
            return Platform(self.url, self.token, timeout=_TIMEOUT)
        except ValueError as error:
            raise UsageError(str(error)) from error

    def agent(self, workspace_id: str) -> Agent:
        """A connection that acts for a workspace.

        Raises:
            UsageError: the URL is not one of a platform.
        """
        try:
            return Agent(self.url, workspace_id, self.token, timeout=_TIMEOUT)
        except ValueError as error:
            raise UsageError(str(error)) from error


def asynchronous(function: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """A coroutine function as the plain function that typer calls."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(function(*args, **kwargs))

    return run


async def find_workspace(platform: Platform, name: str) -> str:
    """The id of the workspace with this id or name.

    Raises:
        UsageError: no workspace has this name, or several have.
    """
    try:
        return str(UUID(name))
    except ValueError:
        found = [each.id async for each in platform.workspaces() if each.name == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"{len(found)} workspaces are named {name!r}: use the id")
    raise UsageError(f"no workspace is named {name!r}; `molecule-grpc workspace ls` lists them")


def read_token(data_dir: Path) -> str:
    """The operator's token that `up` wrote into the data directory; empty without the file."""
    try:
        return (data_dir / TOKEN_FILE).read_text().strip()
    except OSError:
        return ""
