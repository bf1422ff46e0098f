"""Opens verbs, waking and the sweeps of workspaces for one worker."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Callable
from typing import Final, Protocol
from uuid import UUID

from molecule_grpc.backends.deaths import Deaths
from molecule_grpc.backends.lifecycle.context import RestartContext
from molecule_grpc.backends.lifecycle.endings import hibernated_after
from molecule_grpc.backends.lifecycle.ports import EnvironmentNames, LeaveMessage, VerbRows
from molecule_grpc.backends.lifecycle.service import LifecycleService, handlers
from molecule_grpc.backends.lifecycle.verbs import Verbs
from molecule_grpc.backends.lifecycle.waking import Waking
from molecule_grpc.backends.ports import DeathRows
from molecule_grpc.backends.renewal import Renewal
from molecule_grpc.backends.restart_limits import AUTO_RESTART
from molecule_grpc.backends.sweeps import health, hibernation, provisioning
from molecule_grpc.backends.sweeps.health import HealthSweep
from molecule_grpc.backends.sweeps.hibernation import HibernationSweep
from molecule_grpc.backends.sweeps.ports import LastMessages, SweepRows
from molecule_grpc.backends.sweeps.provisioning import ProvisionSweep
from molecule_grpc.backends.sweeps.restarts import RestartSweep
from molecule_grpc.backends.wiring import BackendsSlice, restart_limits
from molecule_grpc.core import Core, Slice
from molecule_grpc.directory import Containers
from molecule_grpc.server.task_set import TaskSet
from molecule_grpc.server.tasks import BackgroundTask

_STOP_SECONDS: Final = 2.0
_STUCK_SECONDS: Final = 60.0
# A sweep asks engines, which may take their time.
_SWEEP_TIMEOUT_SECONDS: Final = 300.0


class Rows(VerbRows, SweepRows, DeathRows, Protocol):
    """Workspaces as verbs and sweeps change them."""


class UsesContainers(Protocol):
    """Asks about workloads, once it knows whom."""

    def use(self, containers: Containers) -> None:
        """Ask these from now on."""
        ...


class Workspaces(Protocol):
    """What the slice of workspaces offers."""

    @property
    def verbs(self) -> Rows: ...
    @property
    def containers(self) -> UsesContainers: ...
    @property
    def on_registered(self) -> Callable[[Callable[[UUID], None]], None]: ...


class Messages(Protocol):
    """What the slice of messages offers."""

    @property
    def leave_message(self) -> LeaveMessage: ...
    @property
    def last_messages(self) -> LastMessages: ...


@contextlib.asynccontextmanager
async def open_lifecycle(
    core: Core,
    backends: BackendsSlice,
    workspaces: Workspaces,
    messages: Messages,
    names: EnvironmentNames,
    renews: Callable[[Renewal], None],
) -> AsyncIterator[Slice]:
    """The part of the slice that starts and stops workspaces, while inside.

    Args:
        names: which variables an agent is started with.
        renews: is told who restarts agents whose variables have changed.
    """
    rows, announce = workspaces.verbs, backends.announce
    can_start = backends.dispatch.can_start
    restart = RestartSweep(core.pool, rows, restart_limits(core.settings), announce)
    restart_task = BackgroundTask(
        AUTO_RESTART,
        core.settings.workspace.health_interval,
        restart.sweep if can_start else _nothing,
    )
    deaths = Deaths(core.pool, rows, backends.dispatch, restart_task.nudge)
    waking = Waking(core.pool, rows, deaths, can_start=can_start, announce=announce)
    workspaces.containers.use(waking)
    backends.on_ended(functools.partial(hibernated_after, rows))
    renews(Renewal(rows, announce, can_start=can_start))
    verbs = Verbs(core.pool, rows, core.wakeups, can_start=can_start, announce=announce)
    async with TaskSet(wait_limit=_STOP_SECONDS) as tasks:
        context = RestartContext(
            rows,
            messages.leave_message,
            names,
            functools.partial(tasks.spawn, name="restart-context"),
        )
        workspaces.on_registered(context.on_registered)
        yield Slice(
            handlers=[handlers(LifecycleService(verbs))],
            tasks=[restart_task, *_sweeps(core, backends, rows, deaths, messages)],
        )


def _sweeps(
    core: Core, backends: BackendsSlice, rows: Rows, deaths: Deaths, messages: Messages
) -> list[BackgroundTask]:
    settings, dispatch = core.settings.workspace, backends.dispatch
    looking = HealthSweep(core.pool, rows, dispatch, deaths, settings.health_interval)
    late = ProvisionSweep(core.pool, rows, dispatch, backends.announce)
    sleep = HibernationSweep(
        core.pool,
        rows,
        messages.last_messages,
        stuck_after=settings.hibernation_stuck_after,
        can_start=dispatch.can_start,
        announce=backends.announce,
    )
    return [
        BackgroundTask(
            health.NAME, settings.health_interval, looking.sweep, timeout=_SWEEP_TIMEOUT_SECONDS
        ),
        BackgroundTask(
            provisioning.NAME,
            settings.provision_timeout_interval,
            late.sweep,
            timeout=_SWEEP_TIMEOUT_SECONDS,
        ),
        BackgroundTask(hibernation.NAME, settings.hibernation_interval, sleep.sweep),
        BackgroundTask(
            "stuck-hibernating", min(_STUCK_SECONDS, settings.hibernation_stuck_after), sleep.restop
        ),
    ]


async def _nothing() -> None:
    """Nothing can be started here."""
