"""What every backend can be asked, the values that travel, and how a backend refuses or fails.

A backend runs workloads of workspaces: an agent's process with its disk, on an engine. Every call
takes a deadline in seconds, may be cancelled, and may be made twice: the second call finds what the
first one did. A backend that cannot do something raises `Refused`, and never does nothing instead.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple, Protocol, TypeAlias
from uuid import UUID


class BackendName(enum.StrEnum):
    """As stored in rows, in the order in which a start looks for a configured one."""

    CONTROL_PLANE = "control-plane"
    EC2 = "ec2"
    KUBERNETES = "kubernetes"
    DOCKER = "docker"
    NONE = "none"


class Capability(enum.StrEnum):
    """What some backends can do and others cannot. Start, stop and status are everybody's."""

    FILES = "files"
    LOGS = "logs"
    EXEC = "exec"
    STATS = "stats"
    CONSOLE = "console"
    VOLUMES = "volumes"
    LIST = "list"
    EGRESS = "egress"


class FailureReason(enum.StrEnum):
    """Why a backend failed. Stable names: stored with operations, and labels of metrics."""

    UNREACHABLE = "unreachable"  # The engine does not answer.
    TIMEOUT = "timeout"
    ENGINE = "engine"  # The engine answers with an error of its own.
    IMAGE_MISSING = "image_missing"
    IMAGE_REFUSED = "image_refused"
    EXITED = "exited"  # The agent's process ended.
    OUT_OF_MEMORY = "out_of_memory"
    NO_SPACE = "no_space"
    PORT_TAKEN = "port_taken"
    QUOTA = "quota"
    CAPACITY = "capacity"
    THROTTLED = "throttled"
    FORBIDDEN = "forbidden"  # The engine refuses the platform's credentials.
    CONFIGURATION = "configuration"  # What was asked for can never start.
    EGRESS_UNENFORCED = "egress_unenforced"
    NOT_CONFIGURED = "not_configured"  # The row's backend is none that this installation opens.
    NO_BACKEND = "no_backend"


class BackendFailure(Exception):
    """The engine did not do what it was asked.

    Args:
        public: a sentence for people, without internals of the engine or the network.
        detail: for the log.
        retryable: whether the same call may succeed soon.
        undone: whether it is certain that the engine did nothing, so that a start may be repeated.
        output: the last that the agent printed, where its end is the failure.
        missing: variables that the agent needs and that are not set.
    """

    def __init__(
        self,
        reason: FailureReason,
        public: str,
        *,
        detail: str = "",
        retryable: bool = False,
        undone: bool = False,
        output: str = "",
        missing: tuple[str, ...] = (),
    ) -> None:
        super().__init__(f"{reason}: {public}" + (f" ({detail})" if detail else ""))
        self.reason = reason
        self.public = public
        self.detail = detail
        self.retryable = retryable
        self.undone = undone
        self.output = output
        self.missing = missing


class Refused(Exception):
    """A backend that never does this, whatever the state: UNIMPLEMENTED, HTTP 501."""

    def __init__(self, backend: BackendName, what: str) -> None:
        super().__init__(f"the backend {backend} does not offer {what}")
        self.backend = backend
        self.what = what


class WorkloadMissing(Exception):
    """Nothing of the workspace is there to be read, written or entered."""


class FileMissing(Exception):
    """There is no such file."""


class OutsideRoot(Exception):
    """A link leads out of the top directory of a path, such as `/workspace`."""


class DirectoryThere(Exception):
    """A directory lies where a file is to be written."""


class TooManyFiles(Exception):
    """More lies below a directory than was asked for at most."""


class RootReadOnly(Exception):
    """The path lies outside of the volumes of a workload whose root may not be written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One workload on its engine.

    Args:
        resource_id: the engine's id of it; empty where only the workspace is known, and then the
            backend looks for what bears the workspace's id.
        operation_id: act only on what that operation made; None for whatever is there.
    """

    workspace_id: UUID
    resource_id: str = ""
    operation_id: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a workload may use. 0 for the tier's default.

    Args:
        cpus: in shares of 1024, which is one processor.
    """

    memory_mb: int = 0
    cpu_shares: int = 0
    pids: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRequest:
    """A workload to start. Everything a backend needs; a backend reads no row.

    Args:
        operation_id: borne by all that is created. A second start with the same id finds the first.
        name: of the workspace, for people.
        tier: size and isolation class, 1 to 4.
        image: reference; empty for the backend's default.
        image_digest: that the default is pinned to, with its `sha256:`; empty for whatever its name
            means. Of no effect on an image that is named.
        env: variables of the process, secrets among them where they travel so. Never logged.
        secret_files: by name, files below /run/secrets.
        config_files: by path below /configs; written over what is there.
        workspace_dir: directory of the host to mount at /workspace; empty for a volume of its own.
        workspace_access: `none`, `read_only` or `read_write`: how `workspace_dir` is mounted.
        egress: None for open; else the hosts, `host`, `host:port` or `*.host`, and no others.
        proxy_password: by which the proxy knows the workspace; empty where `egress` is open.
        oci_runtime: for engines that know several; empty for the engine's default.
        reset_session: forget the agent's sessions first; nothing where each start is a new machine.
        platform_url: where the agent finds the platform; empty for the backend's own knowledge.
        bootstrap_token: what the workload exchanges with the platform, once and within
            `bootstrap_seconds`, for its variables and files; those are empty then. Empty where the
            backend hands them over itself.
    """

    operation_id: UUID
    workspace_id: UUID
    organization_id: UUID
    name: str
    runtime: str
    tier: int
    image: str = ""
    image_digest: str = ""
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    secret_files: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    config_files: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    workspace_dir: str = ""
    workspace_access: str = "none"
    egress: tuple[str, ...] | None = None
    proxy_password: str = field(default="", repr=False)
    oci_runtime: str = ""
    limits: Limits = Limits()
    reset_session: bool = False
    platform_url: str = ""
    bootstrap_token: str = field(default="", repr=False)
    bootstrap_seconds: int = 0

    @property
    def resource(self) -> Resource:
        """Whatever this start has made, before the engine has told its id."""
        return Resource(workspace_id=self.workspace_id, operation_id=self.operation_id)


class Started(NamedTuple):
    """A workload that runs.

    Args:
        url: where the platform calls the agent; empty where the agent itself must say.
        image_digest: of the image that runs; empty where the engine does not tell.
    """

    resource_id: str
    url: str = ""
    image_digest: str = ""


@dataclass(frozen=True, slots=True)
class Running:
    """The workload runs. `operation_id` and `resource_id` are of the one that was found."""

    resource_id: str
    operation_id: UUID | None = None
    url: str = ""
    image_digest: str = ""


@dataclass(frozen=True, slots=True)
class Stopped:
    """The workload is there and has ended.

    Args:
        exit_code: None where the engine does not tell.
        signal: that ended the process; None for none.
    """

    resource_id: str
    operation_id: UUID | None = None
    exit_code: int | None = None
    oom_killed: bool = False
    signal: int | None = None


@dataclass(frozen=True, slots=True)
class Absent:
    """Nothing of the workspace is there."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """The engine did not say. Whoever reads this changes nothing. `detail` is for the log."""

    detail: str


Status: TypeAlias = Running | Stopped | Absent | Unknown


class Owned(NamedTuple):
    """Something on the engine that bears this installation's id.

    Args:
        organization_id, operation_id: None where what was found does not say.
        running: False for what has ended, and for volumes without a workload.
        url: where the platform calls the agent now; empty where the engine's list does not tell.
    """

    workspace_id: UUID
    resource_id: str
    organization_id: UUID | None
    operation_id: UUID | None
    running: bool
    created_at: datetime
    url: str = ""


class LogChunk(NamedTuple):
    """Bytes that the agent printed; `offset` is the position behind them.

    Positions grow, and say nothing else: an engine that throws old lines away cannot count bytes.
    """

    offset: int
    data: bytes


class FileEntry(NamedTuple):
    """A file or a directory. `path` is relative to the directory that was listed."""

    path: str
    size: int
    directory: bool
    modified_at: datetime | None


class Usage(NamedTuple):
    """What a workload uses now. `cpu` counts processors: 1.5 is one and a half."""

    cpu: float
    memory_bytes: int
    memory_limit_bytes: int
    pids: int


class TerminalSize(NamedTuple):
    """In characters."""

    columns: int
    rows: int


class ExecOutput(NamedTuple):
    """What a command printed. With a terminal all of it is standard output."""

    data: bytes
    error: bool = False


class ExecSession(Protocol):
    """A command that runs beside the agent. Closing it ends the command."""

    def output(self) -> AsyncIterator[ExecOutput]:
        """What the command prints, until it ends."""
        ...

    async def write(self, data: bytes) -> None:
        """Bytes for the command's standard input."""
        ...

    async def close_input(self) -> None:
        """The command reads the end of its input."""
        ...

    async def resize(self, size: TerminalSize) -> None:
        """The terminal has another size now."""
        ...

    async def signal(self, name: str) -> None:
        """Send a signal, by its name without SIG. Raises `Refused` where the engine cannot."""
        ...

    async def exit_code(self) -> int:
        """Wait for the command's end."""
        ...

    async def close(self) -> None:
        """End the command if it still runs, and free what it holds."""
        ...


# Seconds of each kind of call, where its caller has no other wish.
START_SECONDS: Final = 180.0
STOP_SECONDS: Final = 30.0
STATUS_SECONDS: Final = 10.0
LIST_SECONDS: Final = 30.0
LOG_SECONDS: Final = 10.0


class Backend(Protocol):
    """An engine that runs workloads.

    Raises, in every method: `BackendFailure`; `Refused` for what `capabilities` lacks. A call that
    exceeds its deadline raises `BackendFailure` with the reason `timeout`, and leaves nothing
    waiting. Only what bears this installation's id is ever touched.
    """

    @property
    def name(self) -> BackendName: ...

    @property
    def capabilities(self) -> frozenset[Capability]: ...

    async def start(self, request: StartRequest, *, deadline: float) -> Started:
        """Start a workload, under a name derived from the workspace's full id.

        An older workload of the workspace is replaced, its volumes stay. Cancelled or failed, the
        call may leave something behind: the caller stops `request.resource`.
        """
        ...

    async def stop(self, resource: Resource, *, deadline: float) -> None:
        """End a workload and remove it, but for its volumes. Nothing there is a success."""
        ...

    async def status(self, resource: Resource, *, deadline: float) -> Status:
        """What has become of a workload. Never raises for an engine that does not answer."""
        ...

    async def remove_volumes(self, workspace_id: UUID, *, deadline: float) -> None:
        """Delete what the workspace kept. Nothing there, or no volumes at all, is a success."""
        ...

    async def list_owned(self, *, deadline: float) -> list[Owned]:
        """Everything that bears this installation's id, running or not."""
        ...

    def logs(
        self,
        resource: Resource,
        *,
        since: int = 0,
        follow: bool = False,
        tail: int = 0,
        deadline: float = LOG_SECONDS,
    ) -> AsyncIterator[LogChunk]:
        """What the agent printed, also after its end. A line without its end is a part of a line.

        The first chunk may have no data: it says that the engine has answered.

        Args:
            since: the offset of a chunk: only what follows that chunk.
            follow: go on until the workload ends or the reader closes.
            tail: only so many last lines; 0 for all that is kept.
            deadline: bounds each wait for the engine, but not for what a follower waits for.

        Raises:
            WorkloadMissing: there is none.
        """
        ...

    async def exec(
        self,
        resource: Resource,
        argv: list[str],
        *,
        terminal: TerminalSize | None = None,
        deadline: float,
    ) -> ExecSession:
        """Run a command beside the agent; `deadline` bounds its beginning only.

        Raises:
            WorkloadMissing: nothing runs.
        """
        ...

    # Paths of files are absolute. A link may lead anywhere below the path's top directory, such as
    # `/workspace`, and nowhere else: every method raises `OutsideRoot` for a link that does.

    def read_file(self, resource: Resource, path: str, *, deadline: float) -> AsyncIterator[bytes]:
        """A file's bytes. Raises `FileMissing` or `WorkloadMissing` before the first of them.

        Args:
            deadline: bounds each wait for the engine, whatever the reader does in between.
        """
        ...

    async def write_file(
        self,
        resource: Resource,
        path: str,
        content: AsyncIterator[bytes],
        size: int,
        *,
        deadline: float,
    ) -> None:
        """Replace a file at once, with the directories above it; `size` bytes will come.

        Raises:
            WorkloadMissing: nothing is there to write to.
            RootReadOnly: the path lies outside of the volumes.
            DirectoryThere: the path is a directory's.
        """
        ...

    async def list_files(
        self, resource: Resource, path: str, *, limit: int, depth: int = 5, deadline: float
    ) -> list[FileEntry]:
        """What lies below a directory, in any order, down to `depth` levels.

        Raises:
            FileMissing: there is no such directory.
            TooManyFiles: there are more than `limit`.
            WorkloadMissing: nothing is there to be listed.
        """
        ...

    async def delete_file(self, resource: Resource, path: str, *, deadline: float) -> None:
        """Delete a file or a link.

        Raises:
            FileMissing: there is none.
            RootReadOnly: the path lies outside of the volumes.
            WorkloadMissing: nothing is there.
        """
        ...

    async def stats(self, resource: Resource, *, deadline: float) -> Usage:
        """What a workload uses now. Raises `WorkloadMissing`."""
        ...

    async def console(self, resource: Resource, *, deadline: float) -> str:
        """What the machine under the workload printed."""
        ...

    async def close(self) -> None:
        """Close connections. Workloads go on."""
        ...
