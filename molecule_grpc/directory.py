"""Workspaces as other slices and the faces see them: values, and who may talk to whom."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol, TypeAlias
from uuid import UUID

from molecule_grpc.host_list import ALL_HOSTS, HostList

# Of calls of the operator that name no organisation; migration 1 makes it.
DEFAULT_ORGANIZATION = UUID("00000000-0000-7000-8000-000000000001")


@dataclass(frozen=True, slots=True)
class WorkspaceInfo:
    """A workspace as it is now.

    Args:
        delivery_mode: `push` or `poll`, as it is in force.
        engine_url: whether `url` is what the engine that runs the agent says, and may therefore lie
            on this machine: nobody else can have written it.
        idle_timeout: seconds of silence after which its agent is given up; None for the default.
    """

    id: UUID
    organization_id: UUID
    name: str
    role: str
    status: str
    url: str
    delivery_mode: str
    runtime: str
    idle_timeout: float | None = None
    engine_url: bool = False


class Directory(Protocol):
    """Who is there, and who may talk to whom. Reads the rows at every call.

    Every method raises `Unavailable` when the database does not answer.
    """

    async def lookup(self, workspace_id: UUID) -> WorkspaceInfo | None:
        """A workspace that is not removed; None when there is none."""
        ...

    async def require_reachable(self, source: UUID, target: UUID) -> WorkspaceInfo:
        """The target, if the source may message it.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND: either is unknown or removed, or the target is of
                another organisation.
            Denied: NOT_RELATED.
        """
        ...


# Called with a workspace and the tokens, read and written, that an answer of its agent tells of.
OnTokens: TypeAlias = Callable[[UUID, int, int], None]


def no_tokens(_: UUID, __: int, ___: int) -> None:
    """For whoever does not count tokens."""


# Of a row of workspaces: the engine says where its agent is called, whatever the agent says.
URL_BY_ENGINE: Final = "backend IN ('docker', 'kubernetes')"
# Statuses of a workspace that a message wakes.
ASLEEP: Final = frozenset({"hibernating", "hibernated"})


class Managed(NamedTuple):
    """A workspace, as far as starting and stopping its workload needs.

    Args:
        runtime: `external` where the agent runs outside of the platform.
        backend: where its workload runs; empty while nothing was started.
        resource_id: what that backend calls the workload.
        active_tasks: as its agent reported them.
    """

    id: UUID
    organization_id: UUID
    name: str
    runtime: str
    status: str
    backend: str
    resource_id: str
    active_tasks: int

    @property
    def external(self) -> bool:
        """Whether nothing of it can be started or stopped here."""
        return self.runtime == "external"


class Containers(Protocol):
    """The runner of agents' workloads, as the sending of messages asks for it."""

    async def is_dead(self, workspace_id: UUID) -> bool:
        """Whether the agent's workload definitely does not run; False in doubt.

        A dead one is marked offline and restarted.
        """
        ...

    async def wake(self, workspace_id: UUID) -> None:
        """Begin to start a hibernated workload, durably. More calls change nothing.

        Nothing where an ancestor is paused, or nothing can be started. Never raises for the
        workload's sake: a failed start is the workspace's `failed`.
        """
        ...


class NoContainers:
    """For whoever starts no agents."""

    async def is_dead(self, workspace_id: UUID) -> bool:  # noqa: ARG002
        """Nothing is known of a workload."""
        return False

    async def wake(self, workspace_id: UUID) -> None:
        """There is nothing to start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedNode:
    """A workspace as a template describes it.

    Args:
        parent_id: None for a root.
        name, role: on one line, with characters that the API refuses.
        tier: 0 for the installation's default.
        template: the name of the template.
        workspace_access: `none`, `read_only` or `read_write`: how `workspace_dir` is mounted.
        place: where on the canvas.
        egress: the hosts that the agent may reach.
        secrets: variables that the agent is started with.
    """

    organization_id: UUID
    parent_id: UUID | None
    name: str
    template: str
    role: str = ""
    tier: int = 0
    runtime: str = ""
    model: str = ""
    external: bool = False
    url: str = ""
    workspace_dir: str = ""
    workspace_access: str = "none"
    max_concurrent_tasks: int = 0
    place: tuple[float, float] | None = None
    egress: HostList = ALL_HOSTS
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


class Imported(NamedTuple):
    """The workspace of a node of a template.

    Args:
        created: by this call. Otherwise it was there, and nothing of it was changed.
        reason: why a new one failed at once; empty where it did not.
    """

    id: UUID
    status: str
    created: bool = False
    reason: str = ""


class TemplateSchedule(NamedTuple):
    """A schedule as a template names it. Nothing of it is checked yet.

    Args:
        cron: minute, hour, day of the month, month and day of the week.
        timezone: name of the tz database; empty for UTC.
    """

    name: str
    cron: str
    timezone: str
    prompt: str
    enabled: bool = True


class InitialMemory(NamedTuple):
    """A memory that a new workspace starts with. Not redacted yet.

    Args:
        scope: LOCAL, TEAM or GLOBAL; empty for LOCAL.
    """

    content: str
    scope: str


class Peer(NamedTuple):
    """A neighbour, as a workspace may see it.

    Args:
        agent_card: JSON text; None when the agent announced none.
    """

    id: UUID
    name: str
    role: str
    tier: int
    status: str
    url: str
    parent_id: UUID | None
    active_tasks: int
    agent_card: str | None


class Heartbeat(NamedTuple):
    """One heartbeat. None means that nothing was reported. Texts hold no NUL.

    All but the last field are the columns of one statement, in its order.

    Args:
        error_rate: share of failed work since the last heartbeat, 0 to 1.
        monthly_spend: US cents.
        wedged: the agent's engine hangs although its heartbeats flow.
        well: the engine is well.
        self_managed: the runtime judges its own health.
        idle_timeout_seconds: silence after which a call to the agent is given up; 0 for the
            platform's default.
        active_delegations: ids of delegations that the agent says it works on.
    """

    workspace_id: UUID
    error_rate: float | None = None
    sample_error: str | None = None
    active_tasks: int | None = None
    uptime_seconds: int | None = None
    current_task: str | None = None
    monthly_spend: int | None = None
    wedged: bool = False
    well: bool = True
    self_managed: bool = False
    idle_timeout_seconds: int | None = None
    active_delegations: tuple[str, ...] = ()


class HeartbeatResult(NamedTuple):
    """What a heartbeat did.

    Args:
        before: the status that the heartbeat found.
        after: the status that it left.
        tasks_changed: whether the agent's task or number of tasks is another one now.
        inbound_secret: what the platform presents when it calls the agent.
    """

    id: UUID
    before: str
    after: str
    tasks_changed: bool
    inbound_secret: str
