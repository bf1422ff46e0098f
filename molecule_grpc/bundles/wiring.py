"""Opens the slice for one worker."""

from __future__ import annotations

from molecule_grpc.bundles.exporting import Export
from molecule_grpc.bundles.importing import Import
from molecule_grpc.bundles.ports import LiveFiles, Secrets, StartFiles, Workspaces
from molecule_grpc.bundles.service import BundlesService, handlers
from molecule_grpc.core import Core, Slice


def open_bundles(
    core: Core, workspaces: Workspaces, files: StartFiles, live: LiveFiles, secrets: Secrets
) -> Slice:
    """The slice.

    Args:
        files: what agents find below /configs when they are first started.
        live: what lies there now.
        secrets: what agents are started with, and no bundle may hold.
    """
    exports = Export(core.pool, live, files, secrets)
    return Slice(handlers=[handlers(BundlesService(exports, Import(workspaces, files)))])
