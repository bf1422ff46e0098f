"""Opens the slice for one worker: backends, runner, passes, handlers."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final, NamedTuple
from uuid import uuid4

from molecule_grpc.backends.asking import Asking
from molecule_grpc.backends.contract.names import BackendName
from molecule_grpc.backends.dispatch import Dispatch
from molecule_grpc.backends.egress_wiring import open_egress
from molecule_grpc.backends.engines import configured, dispatch_over, docker_tasks, images_of
from molecule_grpc.backends.images.pins import Pins
from molecule_grpc.backends.operations.endings import Endings, OnEnded
from molecule_grpc.backends.operations.execution import Execution, Prepare
from molecule_grpc.backends.operations.history import History
from molecule_grpc.backends.operations.rules import State
from molecule_grpc.backends.operations.runner import OPERATIONS, Runner
from molecule_grpc.backends.operations.store import history, runs
from molecule_grpc.backends.operations.values import Ending, Operation
from molecule_grpc.backends.output.keeping import KeptOutput
from molecule_grpc.backends.ports import Secrets, StartFiles, Workspaces
from molecule_grpc.backends.provisioning.bootstrap import Bootstraps, Delivered
from molecule_grpc.backends.provisioning.requests import Requests
from molecule_grpc.backends.provisioning.service import BootstrapService
from molecule_grpc.backends.provisioning.service import handlers as bootstrap_handlers
from molecule_grpc.backends.reconcile.passes import Reconcile
from molecule_grpc.backends.restart_limits import RestartLimits
from molecule_grpc.backends.service import OperationsService, handlers
from molecule_grpc.core import Core, Slice
from molecule_grpc.db.installation import installation_id, proxy_key
from molecule_grpc.db.pool import Connection
from molecule_grpc.db.sweep import SWEEP_TIMEOUT_SECONDS, in_batches
from molecule_grpc.events.store import CHANNEL_ALL
from molecule_grpc.server.tasks import BackgroundTask
from molecule_grpc.settings.settings import Settings

_MEASURE_SECONDS: Final = 5.0
_LEFTOVER_SECONDS: Final = 15.0
_NETWORKS_SECONDS: Final = 15.0
_RETENTION_SECONDS: Final = 600.0
_RETENTION_BATCH: Final = 1000
# Ended operations that one workspace keeps.
_MOST_KEPT: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendsSlice:
    """What the worker and other slices need of this one.

    Args:
        slice: handlers, tasks and the loop that runs operations.
        dispatch: asks and changes what runs.
        on_ended: subscribes to the ends of operations, in their transactions.
        announce: wakes the runners after a commit that has asked for operations.
        pins: of the images that workspaces are started from.
    """

    slice: Slice
    dispatch: Dispatch
    on_ended: Callable[[OnEnded], None]
    announce: Callable[[], None]
    pins: Pins


@contextlib.asynccontextmanager
async def open_backends(
    core: Core, workspaces: Workspaces, secrets: Secrets, files: StartFiles
) -> AsyncIterator[BackendsSlice]:
    """The slice, while inside.

    Args:
        secrets: variables that workspaces are started with.
        files: what agents find below /configs.
    """
    async with contextlib.AsyncExitStack() as stack:
        installation = await installation_id(core.pool)
        key = await proxy_key(core.pool)
        egress = open_egress(core, key)
        backends = configured(core.settings, installation)
        for each in backends:
            stack.push_async_callback(each.close)
        dispatch = dispatch_over(core.settings, backends)
        announce = functools.partial(core.wakeups.announce, [OPERATIONS, CHANNEL_ALL])
        asking = Asking(dispatch, announce)
        workspaces.starts_by(asking)
        workspaces.on_remove(asking.remove)
        workspaces.on_removed(lambda _: announce())
        pins = Pins(core.pool, images_of(backends), ignored=core.settings.docker.local_images)
        starts = _starts(core, dispatch, workspaces, secrets, files, pins, key)
        endings, runner = _runner(core, dispatch, workspaces, starts.prepare, announce)
        endings.on_ended(starts.on_ended)
        limits = restart_limits(core.settings)
        reconcile = Reconcile(core.pool, dispatch, workspaces.moves, limits, announce)
        yield BackendsSlice(
            slice=Slice(
                handlers=[
                    handlers(OperationsService(History(core.pool, core.page_tokens))),
                    bootstrap_handlers(BootstrapService(starts.bootstraps)),
                    *egress.handlers,
                ],
                tasks=[*_tasks(core, reconcile), *docker_tasks(backends), *egress.tasks],
                loops={"operations": runner.run, **egress.loops},
            ),
            dispatch=dispatch,
            on_ended=endings.on_ended,
            announce=announce,
            pins=pins,
        )


def restart_limits(settings: Settings) -> RestartLimits:
    """How often a workspace is started again by the platform itself."""
    given = settings.workspace
    return RestartLimits(deaths=given.death_limit, backoff=given.restart_backoff)


class _Starts(NamedTuple):
    """How a workload is given its variables and files.

    Args:
        bootstraps: for those that fetch them with a token.
        on_ended: remembers, with the end of an operation, what a backend was handed.
    """

    prepare: Prepare
    bootstraps: Bootstraps
    on_ended: OnEnded


def _starts(
    core: Core,
    dispatch: Dispatch,
    workspaces: Workspaces,
    secrets: Secrets,
    files: StartFiles,
    pins: Pins,
    key: bytes,
) -> _Starts:
    requests = Requests(
        core.pool,
        core.settings.edge.external_platform_url,
        secrets.values,
        lambda workspace_id: files.of_start(workspace_id, dispatch.kept_by),
        pins.of_workspace,
        key,
    )
    note = functools.partial(_note_delivery, files, dispatch)
    bootstraps = Bootstraps(core.pool, requests.prepare, workspaces.provision_seconds, note)
    if dispatch.starts_on is BackendName.EC2:
        return _Starts(bootstraps.prepare, bootstraps, _nothing)
    return _Starts(requests.prepare, bootstraps, functools.partial(_on_started, note))


def _runner(
    core: Core,
    dispatch: Dispatch,
    workspaces: Workspaces,
    prepare: Prepare,
    announce: Callable[[], None],
) -> tuple[Endings, Runner]:
    pool, settings = core.pool, core.settings
    # A restarted worker has another name, and takes its predecessor's operations over.
    owner = str(uuid4())

    async def choose(operation: Operation, backend: str, *, left: bool) -> bool:
        return await runs.choose(pool, owner, operation, backend, left=left)

    endings = Endings(pool, owner, workspaces.moves, announce)
    execution = Execution(
        dispatch,
        prepare,
        choose,
        functools.partial(runs.leave, pool),
        KeptOutput(pool, dispatch).keep,
        first_pause=settings.backends.retry_pause,
    )
    runner = Runner(pool, core.wakeups, dispatch, execution, endings, settings.backends, owner)
    return endings, runner


async def _note_delivery(
    files: StartFiles, dispatch: Dispatch, conn: Connection, operation: Operation
) -> None:
    """Remember that a volume has the files of its workspace now."""
    if dispatch.kept_by:
        await files.delivered(conn, operation.workspace_id, dispatch.kept_by, operation.started_at)


async def _on_started(
    note: Delivered, conn: Connection, operation: Operation, ending: Ending
) -> None:
    """A backend that was handed the files has them when the start succeeds."""
    if operation.kind.starts and ending.state is State.SUCCEEDED:
        await note(conn, operation)


async def _nothing(conn: Connection, operation: Operation, ending: Ending) -> None:
    """A start by token notes the delivery when the machine fetches the files, not at its end."""


def _tasks(core: Core, reconcile: Reconcile) -> list[BackgroundTask]:
    settings = core.settings.backends

    async def prune() -> None:
        await in_batches(
            "operations",
            lambda batch: history.drop_old(core.pool, settings.retention_days, batch),
            batch=_RETENTION_BATCH,
        )
        await in_batches(
            "operations of one workspace",
            lambda batch: history.drop_many(core.pool, _MOST_KEPT, batch),
            batch=_RETENTION_BATCH,
        )

    return [
        BackgroundTask("backend-reconcile", settings.reconcile_interval, reconcile.compare),
        BackgroundTask("backend-leftovers", _LEFTOVER_SECONDS, reconcile.remove_leftovers),
        BackgroundTask("provision-times", _MEASURE_SECONDS, reconcile.measure),
        BackgroundTask(
            "operation-retention", _RETENTION_SECONDS, prune, timeout=SWEEP_TIMEOUT_SECONDS
        ),
    ]
