"""Workloads as values: the request of a start, and statuses that engines report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, TypeAlias
from uuid import UUID


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
