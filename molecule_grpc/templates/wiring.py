"""Opens the slice for one worker."""

from __future__ import annotations

from molecule_grpc.core import Core
from molecule_grpc.templates.start_files import StartFiles


def make_start_files(core: Core) -> StartFiles:
    """What workspaces are first started with; backends need it before the rest of the slice."""
    return StartFiles(core.pool, core.quotas.start_file_bytes)
