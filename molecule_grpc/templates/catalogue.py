"""The templates on this server's disks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import structlog

from molecule_grpc.kernel.errors import MoleculeError, NotFound
from molecule_grpc.templates import generating
from molecule_grpc.templates.generating import CONFIG
from molecule_grpc.templates.parsing import organizations
from molecule_grpc.templates.parsing.organizations import ORG_FILES
from molecule_grpc.templates.reading.directories import child, read_directory
from molecule_grpc.templates.reading.files import Collected, Files
from molecule_grpc.templates.start_files import MAX_BYTES, MAX_FILES, plain_path
from molecule_grpc.templates.values import OrgTemplate

log = structlog.get_logger(__name__)

T = TypeVar("T")

MAX_LISTED: Final = 200


class Listed(NamedTuple):
    """A template of an organisation with the name of its directory."""

    directory: str
    template: OrgTemplate


class WorkspaceTemplate(NamedTuple):
    """A template of a workspace.

    Args:
        config: what its `config.yaml` says.
    """

    directory: str
    config: Mapping[str, Any]


class Catalogue:
    """Reads templates; whatever reads a disk runs in a thread.

    Args:
        organizations, workspaces, plugins: directories with a directory for each of them.
        variables: what `${NAME}` means in templates.
    """

    def __init__(
        self, organizations: Path, workspaces: Path, plugins: Path, variables: Mapping[str, str]
    ) -> None:
        self._organizations = organizations
        self._workspaces = workspaces
        self._plugins = plugins
        self.variables = variables
        # A listing reads up to 200 templates of 16 MiB, one after the other: one listing at a time.
        self._listing = asyncio.Lock()

    async def org_templates(self) -> list[Listed]:
        """The templates of organisations, by name of their directory."""
        async with self._listing:
            return await asyncio.to_thread(_listed, self._organizations, self._org_template)

    async def workspace_templates(self) -> list[WorkspaceTemplate]:
        """The templates of workspaces, by name of their directory."""
        async with self._listing:
            return await asyncio.to_thread(_listed, self._workspaces, self._workspace_template)

    async def org_files(self, name: str) -> Files:
        """The files of a template of an organisation.

        Raises:
            Invalid: the name leads elsewhere.
            NotFound: TEMPLATE_NOT_FOUND.
            TemplateInvalid: it cannot be read.
        """

        def read() -> Files:
            return read_directory(child(self._organizations, name, "dir"))

        return await asyncio.to_thread(read)

    async def workspace_files(self, name: str) -> Files | None:
        """The files of a workspace's template; None for an unknown name.

        Raises:
            TemplateInvalid: it cannot be read.
        """
        return await asyncio.to_thread(_files_of, self._workspaces, name)

    async def plugin_files(self, name: str) -> Files | None:
        """The files of a plugin; None for an unknown name.

        Raises:
            TemplateInvalid: it cannot be read.
        """
        return await asyncio.to_thread(_files_of, self._plugins, name)

    def _org_template(self, directory: Path) -> Listed | None:
        if not any((directory / name).is_file() for name in ORG_FILES):
            return None
        files = read_directory(directory)
        template = organizations.of_files(files, self.variables, directory.name)
        return Listed(directory.name, template)

    def _workspace_template(self, directory: Path) -> WorkspaceTemplate | None:
        config = directory / CONFIG
        if config.is_symlink() or not config.is_file():
            return None
        collected = Collected()
        with config.open("rb") as file:
            collected.add(CONFIG, file.read(collected.room + 1))
        return WorkspaceTemplate(directory.name, generating.read_config(collected.files))


def _listed(root: Path, read: Callable[[Path], T | None]) -> list[T]:
    if not root.is_dir():
        return []
    found: list[T] = []
    for directory in sorted(root.iterdir()):
        if len(found) == MAX_LISTED:
            log.warning("templates are not listed", directory=str(root), most=MAX_LISTED)
            break
        if not directory.is_dir() or directory.name.startswith("."):
            continue
        try:
            each = read(directory)
        except (MoleculeError, OSError) as error:
            log.warning("a template is broken", directory=str(directory), error=str(error))
            continue
        if each is not None:
            found.append(each)
    return found


def _files_of(root: Path, name: str) -> Files | None:
    if not plain_path(name):
        return None
    try:
        return read_directory(child(root, name, "template"), Collected(MAX_FILES, MAX_BYTES))
    except NotFound:
        return None
