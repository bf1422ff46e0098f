"""The worker's application: the core, the slices in their order, and what they bring."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from molecule_grpc.admin.wiring import open_admin
from molecule_grpc.approvals.wiring import open_approvals
from molecule_grpc.backends.access_wiring import config_copies, open_access
from molecule_grpc.backends.images_wiring import open_images
from molecule_grpc.backends.lifecycle_wiring import open_lifecycle
from molecule_grpc.backends.wiring import open_backends
from molecule_grpc.bundles.wiring import open_bundles
from molecule_grpc.configuration.usage import TokenCounts
from molecule_grpc.configuration.wiring import make_token_counts, open_configuration
from molecule_grpc.core import Core, Slice, open_core, running
from molecule_grpc.db.health import DatabaseHealth
from molecule_grpc.db.installation import generation
from molecule_grpc.delegation.record.notices import record_acts
from molecule_grpc.delegation.wiring import DelegationSlice, open_delegation
from molecule_grpc.events.wiring import Events, make_events
from molecule_grpc.faces.mcp.wiring import make_mcp
from molecule_grpc.faces.port import platform_of
from molecule_grpc.memory.wiring import MemorySlice, open_memory
from molecule_grpc.schedules.wiring import SchedulesSlice, open_schedules
from molecule_grpc.secrets.wiring import SecretsSlice, open_secrets
from molecule_grpc.server.methods import Method, bind, request_types
from molecule_grpc.server.metrics import PUBLISH_SECONDS, CallMetrics
from molecule_grpc.server.pipeline import Pipeline
from molecule_grpc.server.process.garbage_collection import garbage_collection_tasks
from molecule_grpc.server.streams import OpenStreams
from molecule_grpc.server.tasks import BackgroundTask
from molecule_grpc.server.unread import Unread
from molecule_grpc.server.validation import Validator
from molecule_grpc.settings.settings import Settings
from molecule_grpc.templates.wiring import make_start_files, open_templates
from molecule_grpc.upload.wiring import open_upload
from molecule_grpc.workspace.wiring import WorkspaceSlice, open_workspace


@dataclass(frozen=True, slots=True)
class App:
    """The methods for a host to serve, and the background tasks of the worker.

    Args:
        streams: everything that lasts; the host drains it before it stops.
        unread: what clients of streams have not taken.
        delegation: for tests and benchmarks that write below the RPCs.
    """

    database: DatabaseHealth
    methods: list[Method]
    pipeline: Pipeline
    tasks: list[BackgroundTask]
    streams: OpenStreams
    unread: Unread
    delegation: DelegationSlice

    async def healthy(self) -> bool:
        """Whether the database answers."""
        return await self.database.answers()


@contextlib.asynccontextmanager
async def application(settings: Settings, dsn: str, worker: str) -> AsyncIterator[App]:
    """The application, running until the block ends; then flushed and closed.

    Args:
        worker: names this process among all that share the database.
    """
    async with contextlib.AsyncExitStack() as stack:
        core, base = await stack.enter_async_context(open_core(settings, dsn, worker))
        agents = await _open_agents(stack, core)
        workloads = await _open_workloads(stack, core, agents)
        events = await _events(core)
        tasks: dict[str, BackgroundTask] = {}
        slices = [
            base,
            Slice(tasks=garbage_collection_tasks()),
            Slice(tasks=events.tasks, loops=events.loops),
            *agents.slices,
            *workloads,
            _served(core, agents, events),
            await _open_admin(stack, core, agents, tasks),
        ]
        methods = bind(pair for each in slices for pair in each.handlers)
        metrics = CallMetrics(method.path for method in methods)
        stack.push_async_callback(metrics.publish)
        slices.append(Slice(tasks=[BackgroundTask("metrics", PUBLISH_SECONDS, metrics.publish)]))
        tasks |= {task.name: task for each in slices for task in each.tasks}
        for task in tasks.values():
            task.explained = core.database.explains
        await stack.enter_async_context(running(slices))
        yield App(
            core.database,
            methods,
            _pipeline(core, methods, metrics),
            list(tasks.values()),
            core.streams,
            core.unread,
            agents.delegation,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Agents:
    """The slices that serve agents: started by the platform or external.

    Args:
        tokens: counts the tokens that answers of agents tell of.
        slices: in the order of their opening, but for what `_served` makes of `delegation`.
    """

    workspace: WorkspaceSlice
    delegation: DelegationSlice
    memory: MemorySlice
    secrets: SecretsSlice
    schedules: SchedulesSlice
    tokens: TokenCounts
    slices: list[Slice]


async def _open_agents(stack: contextlib.AsyncExitStack, core: Core) -> _Agents:
    workspace = await stack.enter_async_context(open_workspace(core))
    tokens = make_token_counts(core)
    delegation = await stack.enter_async_context(open_delegation(core, workspace, tokens.note))
    upload = await stack.enter_async_context(
        open_upload(core, delegation.announce_files, workspace)
    )
    memory = await stack.enter_async_context(open_memory(core, record_acts, workspace))
    secrets = open_secrets(core)
    workspace.stores_secrets_by(secrets.secrets.of_new_workspace)
    approvals = open_approvals(core, workspace, delegation.leave_message)
    schedules = open_schedules(core, workspace, delegation.ledger.fires)
    return _Agents(
        workspace=workspace,
        delegation=delegation,
        memory=memory,
        secrets=secrets,
        schedules=schedules,
        tokens=tokens,
        slices=[
            workspace.slice,
            upload,
            memory.slice,
            secrets.slice,
            approvals,
            schedules.slice,
        ],
    )


async def _open_workloads(
    stack: contextlib.AsyncExitStack, core: Core, agents: _Agents
) -> list[Slice]:
    """The slices that start agents, with their files, images, models and templates."""
    workspace, secrets = agents.workspace, agents.secrets.secrets
    files = make_start_files(core)
    workspace.on_remove(files.forget)
    workspace.on_uses(files.uses)
    backends = await stack.enter_async_context(open_backends(core, workspace, secrets, files))
    lifecycle = await stack.enter_async_context(
        open_lifecycle(
            core,
            backends,
            workspace,
            agents.delegation,
            names=secrets.names,
            renews=agents.secrets.restarts_by,
        )
    )
    configuration = await stack.enter_async_context(
        open_configuration(core, agents.secrets.models, agents.tokens)
    )
    copies = config_copies(core, backends, workspace)
    return [
        backends.slice,
        lifecycle,
        configuration.slice,
        open_access(core, backends, workspace),
        open_images(core, backends, workspace.verbs),
        open_bundles(core, workspace.imports, files, copies, secrets),
        open_templates(core, workspace, secrets, files, agents.schedules.put_of_template),
    ]


def _served(core: Core, agents: _Agents, events: Events) -> Slice:
    """DelegationService, which serves the feed of events and the MCP face besides."""
    workspace, delegation, memory = agents.workspace, agents.delegation, agents.memory
    mcp = make_mcp(core, platform_of(workspace, delegation, memory))
    return delegation.served(
        events.service, mcp, workspace.service.answer_heartbeat, memory.session
    )


async def _open_admin(
    stack: contextlib.AsyncExitStack,
    core: Core,
    agents: _Agents,
    tasks: Mapping[str, BackgroundTask],
) -> Slice:
    """AdminService. `tasks` has all tasks of the worker by the time a call asks for them."""
    delegation, memory = agents.delegation, agents.memory
    return await stack.enter_async_context(
        open_admin(
            core,
            ledger=delegation.ledger.views,
            retries=delegation.ledger.retries,
            dead_letters=delegation.dead_letters,
            drop_stale=delegation.outbound.queue_queries.drop_stale,
            healthy=core.database.answers,
            tasks=lambda: tasks,
            memory_rights=memory.rights,
            memory_exports=memory.exports,
            memory_imports=memory.imports,
        )
    )


async def _events(core: Core) -> Events:
    return make_events(
        core.pool,
        core.wakeups,
        core.authenticator,
        core.guards,
        core.readers,
        core.settings.retention,
        await generation(core.pool),
    )


def _pipeline(core: Core, methods: Sequence[Method], metrics: CallMetrics) -> Pipeline:
    return Pipeline(
        authenticator=core.authenticator,
        validator=Validator(request_types(methods)),
        metrics=metrics,
        audit=core.audit,
        disk=core.disk,
        processor=core.budgets.processor,
    )
