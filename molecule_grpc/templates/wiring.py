"""Opens the slice for one worker."""

from __future__ import annotations

from molecule_grpc.core import Core, Slice
from molecule_grpc.templates.catalogue import Catalogue
from molecule_grpc.templates.configuring import Configurer
from molecule_grpc.templates.importing import OrgImport
from molecule_grpc.templates.node_workspaces import NodeWorkspaces
from molecule_grpc.templates.ports import PutSchedules, Secrets, WorkspaceSlice
from molecule_grpc.templates.service import TemplatesService, handlers
from molecule_grpc.templates.start_files import StartFiles


def make_start_files(core: Core) -> StartFiles:
    """What workspaces are first started with; backends need it before the rest of the slice."""
    return StartFiles(core.pool, core.quotas.start_file_bytes)


def open_templates(
    core: Core,
    workspaces: WorkspaceSlice,
    secrets: Secrets,
    files: StartFiles,
    put_schedules: PutSchedules,
) -> Slice:
    """The slice."""
    catalogue = _catalogue(core)
    default_tier = core.settings.deployment.default_tier
    workspaces.configures_by(Configurer(catalogue, files, default_tier))
    org_import = OrgImport(
        catalogue,
        workspaces.imports.home,
        secrets,
        NodeWorkspaces(core.pool, workspaces.imports, files, put_schedules),
        default_tier,
    )
    return Slice(handlers=[handlers(TemplatesService(catalogue, org_import))])


def _catalogue(core: Core) -> Catalogue:
    settings, data = core.settings.templates, core.settings.process.data_dir
    variables = {"WORKSPACE_DIR": settings.workspace_dir} if settings.workspace_dir else {}
    return Catalogue(
        organizations=settings.organizations or data / "org-templates",
        workspaces=settings.workspaces or data / "templates",
        plugins=settings.plugins or data / "plugins",
        variables=variables,
    )
