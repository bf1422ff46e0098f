"""What a workspace that was made by a call alone is first started with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from molecule_grpc.db.pool import Connection
from molecule_grpc.kernel.errors import Invalid
from molecule_grpc.templates.catalogue import Catalogue
from molecule_grpc.templates.generating import DEFAULT_RUNTIME, Configured, Wanted, configured
from molecule_grpc.templates.start_files import StartFiles, plain_path

_OF_RUNTIME: Final = "-default"


@dataclass(frozen=True, slots=True)
class Configuration:
    """The files of a new workspace, with the runtime and model that the files name.

    Args:
        runtime: never empty.
        model: empty where neither the call nor a template names one.
    """

    runtime: str
    model: str
    _configured: Configured
    _files: StartFiles

    async def store(self, conn: Connection, organization_id: UUID, workspace_id: UUID) -> None:
        """Keep the files, in the transaction that creates the workspace.

        Raises:
            Invalid: there are too many files, or they are too large.
            Exhausted: QUOTA_EXCEEDED.
        """
        await self._files.put(conn, organization_id, workspace_id, self._configured.files)


class Configurer:
    """Configures new workspaces: by their template, their runtime's, or minimally.

    Args:
        default_tier: of workspaces for which nobody names one.
    """

    def __init__(self, catalogue: Catalogue, files: StartFiles, default_tier: int) -> None:
        self._catalogue = catalogue
        self._files = files
        self._default_tier = default_tier

    async def configure(
        self, *, name: str, role: str, tier: int, runtime: str, model: str, template: str
    ) -> Configuration:
        """The configuration of a workspace; empty texts and 0 leave the choice to the template.

        Raises:
            Invalid: the template's name leads elsewhere; TEMPLATE_INVALID.
        """
        if template and not plain_path(template):
            raise Invalid("template must be the name of a template", field="template")
        names = filter(None, (template, f"{runtime or DEFAULT_RUNTIME}{_OF_RUNTIME}"))
        layers = []
        for each in names:
            found = await self._catalogue.workspace_files(each)
            if found is not None:
                layers.append(found)
                break
        wanted = Wanted(
            name=name,
            role=role,
            tier=tier or self._default_tier,
            runtime=runtime,
            model=model,
        )
        made = configured(wanted, layers, {})
        return Configuration(made.runtime, made.model, made, self._files)
