"""Where templates lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from molecule_grpc.settings.values import OPTIONAL_PATH, TEXT, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateSettings:
    """Directories with templates. The same must lie on every machine that runs workers.

    Args:
        organizations: holds a directory for each template of an organisation, with an `org.yaml`;
            the default is `org-templates` in the data directory.
        workspaces: holds a directory for each template of a workspace, with a `config.yaml`; the
            default is `templates` in the data directory.
        plugins: holds a directory for each plugin; the default is `plugins` in the data directory.
        workspace_dir: what `${WORKSPACE_DIR}` means in a template that does not say it itself.
    """

    organizations: Path | None = setting("MOLECULE_ORG_TEMPLATES_DIR", OPTIONAL_PATH, None)
    workspaces: Path | None = setting("CONFIGS_DIR", OPTIONAL_PATH, None)
    plugins: Path | None = setting("MOLECULE_PLUGINS_DIR", OPTIONAL_PATH, None)
    workspace_dir: str = setting("WORKSPACE_DIR", TEXT, "")
