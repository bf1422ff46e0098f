"""What other slices do when something happens to workspaces: they subscribe while wired."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, TypeAlias
from uuid import UUID

from molecule_grpc.db.pool import Connection
from molecule_grpc.directory import Heartbeat, HeartbeatResult, InitialMemory
from molecule_grpc.quotas import QuotaUse

OnHeartbeats: TypeAlias = Callable[[Sequence[tuple[Heartbeat, HeartbeatResult]]], None]
OnActiveDelegations: TypeAlias = Callable[[UUID, list[str]], Awaitable[None]]
OnRegistered: TypeAlias = Callable[[UUID], None]
# Stores what a workspace shall know from the start; how much of it is stored.
OnCreated: TypeAlias = Callable[[UUID, Sequence[InitialMemory]], Awaitable[int]]
InTransaction: TypeAlias = Callable[[Connection, list[UUID]], Awaitable[None]]
# Keeps a workspace's secrets. Takes organisation, workspace, values by name. Raises `Invalid`.
StoresSecrets: TypeAlias = Callable[[Connection, UUID, UUID, Mapping[str, str]], Awaitable[None]]
OnRemoved: TypeAlias = Callable[[Sequence[UUID]], None]
# What an organisation, and a workspace of it, uses of quotas that another slice keeps.
OnUses: TypeAlias = Callable[[UUID, UUID | None], Awaitable[list[QuotaUse]]]


class Configuration(Protocol):
    """What a new workspace is first started with."""

    @property
    def runtime(self) -> str: ...
    @property
    def model(self) -> str: ...
    async def store(self, conn: Connection, organization_id: UUID, workspace_id: UUID) -> None:
        """Keep its files, in the transaction that creates the workspace."""
        ...


class Configurer(Protocol):
    """Configures new workspaces that are not external."""

    async def configure(
        self, *, name: str, role: str, tier: int, runtime: str, model: str, template: str
    ) -> Configuration:
        """The configuration of a workspace. Raises `Invalid`."""
        ...


class Starter(Protocol):
    """Starts new workspaces that are not external."""

    @property
    def can_start(self) -> bool:
        """Whether there is a backend for them."""
        ...

    async def start(self, conn: Connection, workspace_id: UUID, organization_id: UUID) -> None:
        """Ask for the start of a workspace, in the transaction that creates it."""
        ...

    def announce(self) -> None:
        """Begin: the transaction is committed."""
        ...


class Subscriptions:
    """Subscribers are called in the order in which they came."""

    def __init__(self) -> None:
        self._starter: Starter | None = None
        self._stores_secrets: StoresSecrets | None = None
        self.configurer: Configurer | None = None
        self._on_heartbeats: list[OnHeartbeats] = []
        self._on_active_delegations: list[OnActiveDelegations] = []
        self._on_registered: list[OnRegistered] = []
        self._on_created: list[OnCreated] = []
        self._on_remove: list[InTransaction] = []
        self._on_purge: list[InTransaction] = []
        self._on_removed: list[OnRemoved] = []
        self._on_uses: list[OnUses] = []

    def stores_secrets_by(self, keeper: StoresSecrets) -> None:
        """Name whoever keeps the secrets of new workspaces."""
        self._stores_secrets = keeper

    async def store_secrets(
        self,
        conn: Connection,
        organization_id: UUID,
        workspace_id: UUID,
        secrets: Mapping[str, str],
    ) -> None:
        """Keep the secrets of a new workspace, in the transaction that creates it."""
        if secrets and self._stores_secrets is not None:
            await self._stores_secrets(conn, organization_id, workspace_id, secrets)

    def configures_by(self, configurer: Configurer) -> None:
        """Name whoever configures new workspaces."""
        self.configurer = configurer

    def starts_by(self, starter: Starter) -> None:
        """Name whoever starts new workspaces. Without one they fail for want of a backend."""
        self._starter = starter

    def on_heartbeats(self, subscriber: OnHeartbeats) -> None:
        """Call after the commit of heartbeats, before their senders are answered. Must be quick."""
        self._on_heartbeats.append(subscriber)

    def on_active_delegations(self, subscriber: OnActiveDelegations) -> None:
        """Call when an agent names the delegations it works on; its heartbeat's answer waits."""
        self._on_active_delegations.append(subscriber)

    def on_registered(self, subscriber: OnRegistered) -> None:
        """Call after the commit of a registration. Must be quick."""
        self._on_registered.append(subscriber)

    def on_created(self, subscriber: OnCreated) -> None:
        """Call after the commit of a new workspace that shall know something from the start."""
        self._on_created.append(subscriber)

    def on_remove(self, subscriber: InTransaction) -> None:
        """Call in the transaction that removes workspaces. An error undoes the removal."""
        self._on_remove.append(subscriber)

    def on_purge(self, subscriber: InTransaction) -> None:
        """Call in the transaction that deletes removed workspaces, before it deletes them."""
        self._on_purge.append(subscriber)

    def on_removed(self, subscriber: OnRemoved) -> None:
        """Call after the commit of a removal. Must be quick."""
        self._on_removed.append(subscriber)

    def on_uses(self, subscriber: OnUses) -> None:
        """Call when somebody asks how much of its quotas an organisation uses."""
        self._on_uses.append(subscriber)

    @property
    def starter(self) -> Starter | None:
        """Whoever starts new workspaces; None where there is no backend."""
        starter = self._starter
        return starter if starter is not None and starter.can_start else None

    def heartbeats_applied(self, done: Sequence[tuple[Heartbeat, HeartbeatResult]]) -> None:
        """Tell of committed heartbeats."""
        for subscriber in self._on_heartbeats:
            subscriber(done)

    async def delegations_active(self, workspace_id: UUID, delegation_ids: list[str]) -> None:
        """Tell of the delegations that an agent works on."""
        for subscriber in self._on_active_delegations:
            await subscriber(workspace_id, delegation_ids)

    def registered(self, workspace_id: UUID) -> None:
        """Tell of a committed registration."""
        for subscriber in self._on_registered:
            subscriber(workspace_id)

    async def created(self, workspace_id: UUID, memories: Sequence[InitialMemory]) -> int:
        """Tell of a new workspace; how many memories are stored."""
        stored = 0
        for subscriber in self._on_created if memories else ():
            stored += await subscriber(workspace_id, memories)
        return stored

    async def removing(self, conn: Connection, workspace_ids: list[UUID]) -> None:
        """Tell of a removal under way."""
        for subscriber in self._on_remove:
            await subscriber(conn, workspace_ids)

    async def purging(self, conn: Connection, workspace_ids: list[UUID]) -> None:
        """Tell of a purge under way."""
        for subscriber in self._on_purge:
            await subscriber(conn, workspace_ids)

    def removed(self, workspace_ids: Sequence[UUID]) -> None:
        """Tell of a committed removal."""
        for subscriber in self._on_removed:
            subscriber(workspace_ids)

    async def uses(self, organization_id: UUID, workspace_id: UUID | None) -> list[QuotaUse]:
        """What an organisation, and a workspace of it, uses of the quotas of other slices."""
        found: list[QuotaUse] = []
        for subscriber in self._on_uses:
            found += await subscriber(organization_id, workspace_id)
        return found
