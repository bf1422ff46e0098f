"""Importing a template: its source, its required variables, and its workspaces' outcomes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias
from uuid import UUID

from molecule_grpc.auth.principal import Principal
from molecule_grpc.kernel.errors import Conflict, Invalid
from molecule_grpc.templates.catalogue import Catalogue
from molecule_grpc.templates.node_workspaces import Importer, NodeWorkspaces
from molecule_grpc.templates.parsing import organizations, rules
from molecule_grpc.templates.ports import Secrets
from molecule_grpc.templates.preparing import Preparing
from molecule_grpc.templates.reading.archives import read_archive
from molecule_grpc.templates.reading.files import without_top
from molecule_grpc.templates.results import ImportResult
from molecule_grpc.templates.values import OrgTemplate, Requirement
from molecule_grpc.templates.walking import Walk

# The organisation that a caller imports into: as it asks, else its own. Raises `NotFound`.
Home: TypeAlias = Callable[[Principal, UUID | None], Awaitable[UUID]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a template comes from: exactly one of the three.

    Args:
        directory: name of a template on this server.
        archive: bytes of a tar or a zip.
        inline: the content of an `org.yaml`.
    """

    directory: str = ""
    archive: bytes = b""
    inline: Mapping[str, Any] | None = None


class OrgImport:
    """Imports templates.

    Args:
        home: finds the organisation that a caller imports into.
        workspaces: finds and creates the workspaces of nodes.
        default_tier: of workspaces for which nobody names one.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        home: Home,
        secrets: Secrets,
        workspaces: NodeWorkspaces,
        default_tier: int,
    ) -> None:
        self._catalogue = catalogue
        self._home = home
        self._secrets = secrets
        self._workspaces = workspaces
        self._default_tier = default_tier
        # Reading a template takes up to 16 MiB and seconds of a thread: one after the other.
        self._reading = asyncio.Lock()

    async def run(
        self,
        principal: Principal,
        source: Source,
        *,
        organization_id: UUID | None,
        force: bool,
        dry_run: bool,
    ) -> ImportResult:
        """Import a template, or say what an import would do.

        Args:
            organization_id: None for the caller's own, or the default one.
            force: whether variables that have no value may be missing.

        Raises:
            Invalid: no template, or several; TEMPLATE_INVALID.
            NotFound: TEMPLATE_NOT_FOUND, ORGANIZATION_NOT_FOUND.
            Conflict: ENV_MISSING.
            Unavailable: the database does not answer. What was created stays, and is found again.
        """
        home = await self._home(principal, organization_id)
        template = await self._read(source)
        missing = await self._missing(home, template)
        if missing and not force and not dry_run:
            raise _env_missing(template, missing)
        walk = Walk(
            self._workspaces,
            Preparing(self._catalogue, self._default_tier),
            Importer(principal, home, template.name),
            dry_run=dry_run,
        )
        outcomes = await walk.run(template.roots)
        return ImportResult(
            name=template.name,
            organization_id=home,
            dry_run=dry_run,
            outcomes=tuple(outcomes),
            missing=missing,
        )

    async def _read(self, source: Source) -> OrgTemplate:
        given = [bool(source.directory), bool(source.archive), source.inline is not None]
        if sum(given) != 1:
            raise Invalid("give exactly one of dir, template and archive", field="dir")
        variables = self._catalogue.variables
        async with self._reading:
            if source.inline is not None:
                return await asyncio.to_thread(organizations.inline, source.inline, variables)
            if source.archive:
                unpacked = await asyncio.to_thread(read_archive, source.archive)
                files = without_top(unpacked, organizations.ORG_FILES)
            else:
                files = await self._catalogue.org_files(source.directory)
            return await asyncio.to_thread(
                organizations.of_files, files, variables, source.directory
            )

    async def _missing(
        self, organization_id: UUID, template: OrgTemplate
    ) -> tuple[Requirement, ...]:
        """What is required and neither inherited nor in a `.env` of whoever needs it."""
        shared = await self._secrets.shared_names(organization_id) | template.secrets
        own = {
            each
            for node in template.nodes
            for each in rules.missing(node.needs, shared | node.secrets.keys())
        }
        met = {each for node in template.nodes for each in node.needs} - own
        lacking = rules.missing(template.requirements.required, shared)
        return tuple(each for each in lacking if each not in met)


def as_json(requirement: Requirement) -> str | dict[str, list[str]]:
    """A requirement as clients read it."""
    names = list(requirement.names)
    return names[0] if len(names) == 1 else {"any_of": names}


def _env_missing(template: OrgTemplate, missing: tuple[Requirement, ...]) -> Conflict:
    lacking = [as_json(each) for each in missing]
    names = " ".join("|".join(each.names) for each in missing)
    return Conflict(
        f"required variables have no value: {names}",
        reason="ENV_MISSING",
        metadata={"missing_env": names[:1024]},
        body={
            "missing_env": lacking,
            "required_env": [as_json(each) for each in template.requirements.required],
            "template": template.name,
            "suggestion": "set them as secrets of the organisation, or import with force",
        },
    )
