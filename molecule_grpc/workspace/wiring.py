"""The slice put together from the core. It is opened before every other slice."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from uuid import UUID

from molecule_grpc.auth.retention import prune_revoked
from molecule_grpc.core import Core, Slice
from molecule_grpc.db.pool import Connection
from molecule_grpc.db.sweep import SWEEP_TIMEOUT_SECONDS
from molecule_grpc.directory import Heartbeat, HeartbeatResult, Peer
from molecule_grpc.events.store import CHANNEL_ALL
from molecule_grpc.server.tasks import BackgroundTask
from molecule_grpc.settings.workspace import WorkspaceSettings
from molecule_grpc.workspace.containers import LateContainers
from molecule_grpc.workspace.creating import Creation
from molecule_grpc.workspace.imports import Imports
from molecule_grpc.workspace.lifecycle import Lifecycle
from molecule_grpc.workspace.quota_report import QuotaReports
from molecule_grpc.workspace.registry.discovery import Discovery
from molecule_grpc.workspace.registry.heartbeat_events import PUBLISH_SECONDS, HeartbeatEvents
from molecule_grpc.workspace.registry.heartbeats import Heartbeats
from molecule_grpc.workspace.registry.liveness import sweep_liveness
from molecule_grpc.workspace.registry.registration import Registration
from molecule_grpc.workspace.removing import Collapse
from molecule_grpc.workspace.service import WorkspaceService, handlers
from molecule_grpc.workspace.status_moves import StatusMoves
from molecule_grpc.workspace.store import supervised
from molecule_grpc.workspace.store.supervised import ProvisionTimeouts
from molecule_grpc.workspace.subscriptions import (
    Configurer,
    InTransaction,
    OnActiveDelegations,
    OnCreated,
    OnHeartbeats,
    OnRegistered,
    OnRemoved,
    OnUses,
    Starter,
    StoresSecrets,
    Subscriptions,
)
from molecule_grpc.workspace.tokens import Tokens
from molecule_grpc.workspace.tree.directory import Directory
from molecule_grpc.workspace.tree.pairs import Pairs
from molecule_grpc.workspace.verbs import WorkspaceVerbs
from molecule_grpc.workspace.viewport import Viewports

# Its images install what the agent works with when they start.
_HERMES_TIMEOUT_SECONDS = 1800


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceSlice:
    """What the worker and the other slices need of this one.

    Args:
        slice: handlers and background tasks.
        service: the face, for streams that carry the heartbeats of its contract.
        directory: who is there, and who may talk to whom.
        imports: finds and adds the workspaces of templates.
        heartbeat: applies a heartbeat, its sender authorised before; raises `NotFound`.
        touch_present: counts workspaces as alive whose agents hold a stream open. One call at a
            time.
        peers: the first so many siblings, children and parent whose name or role contains a text,
            without their cards; raises `NotFound`.
        tasks_changed: shows the readers of the feed that these workspaces do something else now.
        moves: of statuses, for backends and those who use them.
        provision_seconds: how long a workspace may take until it registers; 0 for one that was
            removed.
        starts_by: names whoever starts new workspaces.
        verbs: moves of workspaces whose workloads are started and stopped.
        containers: what runs workloads, for senders of messages; bound late, by `use`.
        stores_secrets_by: names whoever keeps the secrets of new workspaces.
        configures_by: names whoever configures new workspaces.
        on_heartbeats, on_registered, on_active_delegations, on_created, on_remove, on_purge,
            on_removed, on_uses: subscribe; see `Subscriptions`.
    """

    slice: Slice
    service: WorkspaceService
    directory: Directory
    imports: Imports
    heartbeat: Callable[[Heartbeat], Awaitable[HeartbeatResult]]
    touch_present: Callable[[list[UUID]], Awaitable[None]]
    peers: Callable[[UUID, str, int], Awaitable[list[Peer]]]
    tasks_changed: Callable[[Iterable[UUID]], None]
    moves: StatusMoves
    provision_seconds: Callable[[Connection, UUID], Awaitable[int]]
    starts_by: Callable[[Starter], None]
    verbs: WorkspaceVerbs
    containers: LateContainers
    stores_secrets_by: Callable[[StoresSecrets], None]
    configures_by: Callable[[Configurer], None]
    on_heartbeats: Callable[[OnHeartbeats], None]
    on_registered: Callable[[OnRegistered], None]
    on_active_delegations: Callable[[OnActiveDelegations], None]
    on_created: Callable[[OnCreated], None]
    on_remove: Callable[[InTransaction], None]
    on_purge: Callable[[InTransaction], None]
    on_removed: Callable[[OnRemoved], None]
    on_uses: Callable[[OnUses], None]


@contextlib.asynccontextmanager
async def open_workspace(core: Core) -> AsyncIterator[WorkspaceSlice]:
    """The slice, until the block ends: then accepted heartbeats are written first."""
    tell_readers = functools.partial(core.wakeups.announce, [CHANNEL_ALL])
    subscriptions = Subscriptions()
    pairs = Pairs(core.dsn)
    directory = Directory(core.pool, core.page_tokens, pairs)
    creation = Creation(
        core.pool,
        subscriptions,
        egress=core.egress,
        default_tier=core.settings.deployment.default_tier,
        quota=core.quotas.workspaces,
        tell_readers=tell_readers,
    )
    heartbeat_events = HeartbeatEvents(core.pool, core.readers, tell_readers)
    subscriptions.on_heartbeats(heartbeat_events.on_heartbeats)
    async with (
        pairs,
        Heartbeats(
            core.dsn,
            subscriptions,
            linger=core.settings.process.group_commit_linger_ms / 1000,
            tell_readers=tell_readers,
        ) as heartbeats,
    ):
        service = _service(core, directory, creation, heartbeats, subscriptions, tell_readers)
        yield WorkspaceSlice(
            slice=Slice(
                handlers=[handlers(service)],
                tasks=_tasks(core, heartbeat_events, tell_readers),
            ),
            service=service,
            directory=directory,
            imports=Imports(core.pool, creation, subscriptions),
            heartbeat=heartbeats.beat,
            touch_present=heartbeats.touch_present,
            peers=directory.first_peers,
            tasks_changed=heartbeat_events.tasks_changed,
            moves=StatusMoves(),
            provision_seconds=functools.partial(
                _provision_seconds, _timeouts(core.settings.workspace)
            ),
            starts_by=subscriptions.starts_by,
            verbs=WorkspaceVerbs(core.pool, _timeouts(core.settings.workspace), tell_readers),
            containers=LateContainers(),
            stores_secrets_by=subscriptions.stores_secrets_by,
            configures_by=subscriptions.configures_by,
            on_heartbeats=subscriptions.on_heartbeats,
            on_registered=subscriptions.on_registered,
            on_active_delegations=subscriptions.on_active_delegations,
            on_created=subscriptions.on_created,
            on_remove=subscriptions.on_remove,
            on_purge=subscriptions.on_purge,
            on_removed=subscriptions.on_removed,
            on_uses=subscriptions.on_uses,
        )


async def _provision_seconds(
    timeouts: ProvisionTimeouts, conn: Connection, workspace_id: UUID
) -> int:
    return await supervised.provision_seconds(conn, timeouts, workspace_id)


def _timeouts(settings: WorkspaceSettings) -> ProvisionTimeouts:
    return ProvisionTimeouts(
        everybody=settings.provision_timeout,
        default=settings.provision_timeout_default,
        hermes=max(settings.provision_timeout_default, _HERMES_TIMEOUT_SECONDS),
    )


def _service(
    core: Core,
    directory: Directory,
    creation: Creation,
    heartbeats: Heartbeats,
    subscriptions: Subscriptions,
    tell_readers: Callable[[], None],
) -> WorkspaceService:
    settings, pool = core.settings, core.pool
    return WorkspaceService(
        edge=settings.edge,
        directory=directory,
        creation=creation,
        lifecycle=Lifecycle(
            pool,
            directory,
            subscriptions,
            core.page_tokens,
            public_view=settings.auth.public_workspace_view,
            tell_readers=tell_readers,
        ),
        collapse=Collapse(pool, subscriptions, tell_readers),
        registration=Registration(
            pool,
            egress=core.egress,
            default_tier=settings.deployment.default_tier,
            open_to_strangers=settings.auth.open_registration,
            quota=core.quotas.workspaces,
            subscriptions=subscriptions,
            tell_readers=tell_readers,
        ),
        discovery=Discovery(directory, core.egress),
        heartbeats=heartbeats,
        quotas=QuotaReports(pool, core.quotas, core.budgets, subscriptions),
        viewports=Viewports(pool),
        tokens=Tokens(
            pool, directory, core.page_tokens, core.quotas.workspace_tokens, tell_readers
        ),
    )


def _tasks(
    core: Core, heartbeat_events: HeartbeatEvents, tell_readers: Callable[[], None]
) -> list[BackgroundTask]:
    async def sweep() -> None:
        await sweep_liveness(core.pool, core.settings.workspace, tell_readers)

    async def prune_tokens() -> None:
        await prune_revoked(core.pool, days=core.settings.retention.revoked_tokens)

    return [
        BackgroundTask(
            "token-retention",
            core.settings.retention.sweep,
            prune_tokens,
            timeout=SWEEP_TIMEOUT_SECONDS,
        ),
        BackgroundTask("liveness-sweep", core.settings.workspace.liveness_interval, sweep),
        BackgroundTask("heartbeat-events", PUBLISH_SECONDS, heartbeat_events.publish),
    ]
