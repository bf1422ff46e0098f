"""What every command is given: the platform's URL, the token, and the output."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, ParamSpec
from uuid import UUID

import typer

from molecule_grpc.cli.output import Output
from molecule_grpc.client.agent import Agent
from molecule_grpc.client.connection import ClientCertificate
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
class TlsOptions:
    """Files of the global options for `https://`. Read when a connection is made, not before."""

    ca_file: Path | None = None
    client_cert_file: Path | None = None
    client_key_file: Path | None = None

    def root_certificates(self) -> bytes | None:
        """The authority that signed the platform's certificate; None for the system's.

        Raises:
            UsageError: the file cannot be read.
        """
        return None if self.ca_file is None else _read("--ca-file", self.ca_file)

    def client_certificate(self) -> ClientCertificate | None:
        """What is shown to a platform that asks for a certificate; None for nothing.

        Raises:
            UsageError: a file cannot be read, or only one of both is given.
        """
        if self.client_cert_file is None and self.client_key_file is None:
            return None
        if self.client_cert_file is None or self.client_key_file is None:
            raise UsageError("--client-cert-file and --client-key-file need one another")
        return ClientCertificate(
            _read("--client-cert-file", self.client_cert_file),
            _read("--client-key-file", self.client_key_file),
        )


@dataclass(frozen=True, slots=True)
class Cli:
    """The global options, resolved."""

    url: str
    token: str
    output: Output
    tls: TlsOptions = TlsOptions()

    @classmethod
    def of(cls, context: typer.Context) -> Cli:
        """The options that the root command resolved."""
        found = context.find_object(cls)
        assert found is not None
        return found

    def platform(self) -> Platform:
        """A connection with the token in force.

        Raises:
            UsageError: the URL is not one of a platform, or a file of TLS cannot be read.
        """
        try:
            return Platform(
                self.url,
                self.token,
                timeout=_TIMEOUT,
                root_certificates=self.tls.root_certificates(),
                client_certificate=self.tls.client_certificate(),
            )
        except ValueError as error:
            raise UsageError(str(error)) from error

    @contextlib.asynccontextmanager
    async def acting(self, workspace: str) -> AsyncIterator[Agent]:
        """An open connection that acts for the workspace with this id or name.

        Raises:
            UsageError: as for `agent` and `find_workspace`.
        """
        try:
            workspace_id = str(UUID(workspace))
        except ValueError:
            async with self.platform() as platform:
                workspace_id = await find_workspace(platform, workspace)
        async with self.agent(workspace_id) as agent:
            yield agent

    def agent(self, workspace_id: str) -> Agent:
        """A connection that acts for a workspace.

        Raises:
            UsageError: the URL is not one of a platform, or a file of TLS cannot be read.
        """
        try:
            return Agent(
                self.url,
                workspace_id,
                self.token,
                timeout=_TIMEOUT,
                root_certificates=self.tls.root_certificates(),
                client_certificate=self.tls.client_certificate(),
            )
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


def text_or_stdin(given: str) -> str:
    """The text of an argument; standard input for `-`."""
    return sys.stdin.read() if given == "-" else given


def time_of(text: str) -> datetime:
    """The time of an option. Raises UsageError for anything but RFC 3339 with an offset."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is no RFC 3339 time") from None
    if moment.tzinfo is None:
        raise UsageError(f"{text!r} has no offset from UTC")
    return moment


def read_token(data_dir: Path) -> str:
    """The operator's token that `up` wrote into the data directory; empty without the file."""
    try:
        return (data_dir / TOKEN_FILE).read_text().strip()
    except OSError:
        return ""


def _read(option: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{option} {path} cannot be read: {error.strerror}") from error
