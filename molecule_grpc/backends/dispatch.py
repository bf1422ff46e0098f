"""Which backend a call goes to: the only module that chooses, starts, stops and removes.

A start goes to the configured backend. Everything else goes where the row says that the workspace
runs, so that a changed configuration orphans nothing.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeVar
from uuid import UUID

import structlog

from molecule_grpc.backends.contract.backend import STATUS_SECONDS, Backend
from molecule_grpc.backends.contract.failures import BackendFailure, FailureReason, Refused
from molecule_grpc.backends.contract.names import BackendName, Capability
from molecule_grpc.backends.contract.workloads import (
    Absent,
    Resource,
    Running,
    Started,
    StartRequest,
    Status,
)

log = structlog.get_logger(__name__)

T = TypeVar("T")

_TRIES: Final = 3
# A backend keeps its deadline by itself; this long after it, the call is given up here.
_GRACE_SECONDS: Final = 2.0
# An engine in this machine that cannot stop a workload will not heal by being asked again.
_LOCAL: Final = frozenset({BackendName.DOCKER, BackendName.NONE})
_LEAK: Final = {BackendName.CONTROL_PLANE: "LEAK-SUSPECT cpProv.Stop"}


class Dispatch:
    """The opened backends.

    Args:
        starts_on: where workspaces are started; `none` where nothing is.
        opened: all that are opened, by any order.
        start_timeout, stop_timeout: seconds for a start with its repetitions, and for one try of a
            stop.
        first_pause: seconds before the second try of a stop or a start; then doubled.
    """

    def __init__(
        self,
        starts_on: BackendName,
        opened: Iterable[Backend],
        *,
        start_timeout: float,
        stop_timeout: float,
        first_pause: float,
    ) -> None:
        by_name = {each.name: each for each in opened}
        self._opened = {name: by_name[name] for name in BackendName if name in by_name}
        self.starts_on = starts_on
        self._start_timeout = start_timeout
        self._stop_timeout = stop_timeout
        self._first_pause = first_pause

    @property
    def can_start(self) -> bool:
        """Whether any backend starts workspaces here."""
        return self.starts_on is not BackendName.NONE

    @property
    def kept_by(self) -> str:
        """Where workspaces are started, if volumes outlive a stop there; else empty."""
        found = self._opened.get(self.starts_on)
        keeps = found is not None and Capability.VOLUMES in found.capabilities
        return self.starts_on if keeps else ""

    @property
    def opened(self) -> list[Backend]:
        """The backends that are open, in the order of `BackendName`."""
        return list(self._opened.values())

    def of(self, name: str) -> Backend:
        """The backend of a row. Raises `BackendFailure` where it is none that is open."""
        found = next((each for key, each in self._opened.items() if key == name), None)
        if found is None:
            raise BackendFailure(
                FailureReason.NOT_CONFIGURED,
                f"the workspace runs on the backend {name}, which is not configured here",
            )
        return found

    def reach(
        self, name: str, resource: Resource, capability: Capability
    ) -> tuple[Backend, Resource]:
        """Where files, logs and terminals of a workspace go: the backend of its row.

        Raises:
            BackendFailure: the backend is not open.
            Refused: the backend lacks this.
        """
        backend = self.of(name)
        if capability not in backend.capabilities:
            raise Refused(backend.name, capability)
        return backend, _widened(backend, resource)

    async def start(self, request: StartRequest) -> Started:
        """Start on the configured backend, again after a failure that may pass.

        A start is repeated only if the engine certainly did nothing, or says that nothing is there.

        Raises:
            BackendFailure: of the last try.
        """
        backend = self.of(self.starts_on)
        if request.egress is not None and Capability.EGRESS not in backend.capabilities:
            raise BackendFailure(
                FailureReason.EGRESS_UNENFORCED,
                f"the backend {backend.name} holds no workspace to a list of hosts",
                undone=True,
            )
        loop = asyncio.get_running_loop()
        end, pause = loop.time() + self._start_timeout, self._first_pause
        for tries_left in reversed(range(_TRIES)):
            left = end - loop.time()
            try:
                return await _within(left, functools.partial(backend.start, request, deadline=left))
            except BackendFailure as failed:
                if not failed.retryable or not tries_left or loop.time() + pause >= end:
                    raise
                if not failed.undone:
                    found = await self.status(backend.name, request.resource)
                    if isinstance(found, Running):
                        return Started(found.resource_id, found.url, found.image_digest)
                    if not isinstance(found, Absent):
                        raise
            await asyncio.sleep(pause)
            pause *= 2
        raise AssertionError("unreachable")

    async def stop(self, name: str, resource: Resource, *, exactly: bool = False) -> None:
        """Stop where the row says, once; nothing where it never ran. Never removes volumes.

        Args:
            exactly: only this resource. Otherwise whatever bears the workspace's id, where the
                engine can be asked for that.

        Raises:
            BackendFailure: it may run on.
        """
        if name:
            backend = self.of(name)
            sought = resource if exactly else _widened(backend, resource)
            await _within(
                self._stop_timeout, lambda: backend.stop(sought, deadline=self._stop_timeout)
            )

    async def stop_before_start(self, name: str, resource: Resource, source: str) -> bool:
        """The first half of a restart: whether the old workload is gone.

        A restart promises a workspace that runs, so failures that may pass are waited out, and the
        start follows in any case.
        """
        pause = self._first_pause
        tries = 1 if name in _LOCAL else _TRIES
        for tries_left in reversed(range(tries)):
            try:
                await self.stop(name, resource)
            except BackendFailure as failed:
                if not tries_left:
                    self._suspect_leak(name, resource, source, tries, failed)
                    return False
            else:
                return True
            await asyncio.sleep(pause)
            pause *= 2
        raise AssertionError("unreachable")

    def lists(self, name: str) -> bool:
        """Whether a backend can list its workloads, by which reconcile finds forgotten ones."""
        found = next((each for key, each in self._opened.items() if key == name), None)
        return found is not None and Capability.LIST in found.capabilities

    async def remove_volumes(self, name: str, workspace_id: UUID) -> None:
        """Delete what a workspace kept, where the row says. Raises `BackendFailure`."""
        if name:
            backend = self.of(name)
            await _within(
                self._stop_timeout,
                lambda: backend.remove_volumes(workspace_id, deadline=self._stop_timeout),
            )

    async def status(self, name: str, resource: Resource) -> Status:
        """What has become of a workload. Raises `BackendFailure` where the backend is not open."""
        if not name:
            return Absent()
        return await self.of(name).status(resource, deadline=STATUS_SECONDS)

    def _suspect_leak(
        self, name: str, resource: Resource, source: str, tries: int, failed: BackendFailure
    ) -> None:
        log.error(
            _LEAK.get(BackendName(name), f"LEAK-SUSPECT {name}.stop"),
            workspace_id=str(resource.workspace_id),
            resource_id=resource.resource_id,
            source=source,
            attempts=tries,
            last_err=str(failed),
        )


def _widened(backend: Backend, resource: Resource) -> Resource:
    """All resources of a workspace in the place of one; a resource named by its operation stays."""
    if resource.operation_id is None and Capability.LIST in backend.capabilities:
        return Resource(workspace_id=resource.workspace_id)
    return resource


async def _within(seconds: float, call: Callable[[], Awaitable[T]]) -> T:
    try:
        async with asyncio.timeout(seconds + _GRACE_SECONDS):
            return await call()
    except TimeoutError as error:
        raise BackendFailure(
            FailureReason.TIMEOUT, "the backend took too long", retryable=True
        ) from error
