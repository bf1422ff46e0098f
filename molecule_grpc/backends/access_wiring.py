"""Opens files, logs, terminals and measurements of workloads for one worker."""

from __future__ import annotations

from typing import Protocol

from molecule_grpc.backends.access.copies import ConfigCopies
from molecule_grpc.backends.access.files import WorkspaceFiles
from molecule_grpc.backends.access.log_stream import LogStreams
from molecule_grpc.backends.access.ports import AccessRows
from molecule_grpc.backends.access.service import AccessService, handlers
from molecule_grpc.backends.access.targets import Targets
from molecule_grpc.backends.access.terminals import Terminals
from molecule_grpc.backends.access.usage import Measurements
from molecule_grpc.backends.output.keeping import KeptOutput
from molecule_grpc.backends.wiring import BackendsSlice
from molecule_grpc.core import Core, Slice


class Workspaces(Protocol):
    """What the slice of workspaces offers."""

    @property
    def verbs(self) -> AccessRows: ...


def config_copies(core: Core, backends: BackendsSlice, workspaces: Workspaces) -> ConfigCopies:
    """What reads the files below /configs of workspaces."""
    return ConfigCopies(Targets(workspaces.verbs, backends.dispatch), core.budgets.access)


def open_access(core: Core, backends: BackendsSlice, workspaces: Workspaces) -> Slice:
    """The part of the slice that looks into workloads."""
    targets = Targets(workspaces.verbs, backends.dispatch)
    budget = core.budgets.access
    files = WorkspaceFiles(targets, core.page_tokens, budget, core.budgets.uploads)
    service = AccessService(
        files,
        LogStreams(targets, KeptOutput(core.pool, backends.dispatch).of, budget),
        Terminals(targets, workspaces.verbs, budget),
        Measurements(targets, workspaces.verbs, core.page_tokens, budget),
        core.guards,
    )
    return Slice(handlers=[handlers(service)])
