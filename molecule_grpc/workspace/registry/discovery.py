"""Agents find one another."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from molecule_grpc.auth.principal import Principal, Role
from molecule_grpc.directory import Directory, WorkspaceInfo
from molecule_grpc.egress import Egress
from molecule_grpc.kernel.errors import Invalid, Unauthenticated, Unavailable
from molecule_grpc.workspace import rules
from molecule_grpc.workspace.refusals import missing


class Found(NamedTuple):
    """A workspace that can be sent something now.

    Args:
        url: where its agent listens; empty when messages go through the platform.
    """

    info: WorkspaceInfo
    url: str


class Discovery:
    """Tells related workspaces where the others listen.

    Args:
        egress: checks the URLs of agents.
    """

    def __init__(self, directory: Directory, egress: Egress) -> None:
        self._directory = directory
        self._egress = egress

    async def discover(
        self, principal: Principal, target_id: UUID, on_behalf_of: UUID | None
    ) -> Found:
        """Where a related workspace listens.

        Args:
            on_behalf_of: the workspace that asks; None for the principal's own.

        Raises:
            Invalid: nobody is named, and the principal is no workspace.
            Unauthenticated: a workspace asks for another one.
            NotFound: WORKSPACE_NOT_FOUND.
            Denied: NOT_RELATED.
            Unavailable: PEER_UNAVAILABLE: it cannot be sent anything now.
        """
        caller_id = on_behalf_of or principal.workspace_id
        if caller_id is None:
            raise Invalid("X-Workspace-ID header is required", field="caller_id")
        await self._require_own(principal, caller_id)
        target = await self._directory.require_reachable(caller_id, target_id)
        return Found(target, await self._listening_at(target))

    async def _require_own(self, principal: Principal, caller_id: UUID) -> None:
        """Raise unless the principal may speak for this workspace."""
        if principal.role is Role.WORKSPACE and principal.workspace_id != caller_id:
            raise Unauthenticated("invalid workspace auth token")
        if principal.role is Role.ORGANIZATION:
            caller = await self._directory.lookup(caller_id)
            if caller is None or caller.organization_id != principal.organization_id:
                raise missing()

    async def _listening_at(self, target: WorkspaceInfo) -> str:
        """The URL to call; empty when messages go through the platform.

        Raises:
            Unavailable: PEER_UNAVAILABLE.
        """
        if not rules.reachable(target.status, target.delivery_mode, target.url):
            raise _peer_unavailable(target, f"workspace is {target.status}")
        if target.delivery_mode == rules.POLL or target.engine_url:
            return ""
        try:
            await self._egress.check(target.url, localhost_by_name=True)
        except Invalid as error:
            raise _peer_unavailable(target, "workspace url failed its safety check") from error
        return target.url


def _peer_unavailable(target: WorkspaceInfo, message: str) -> Unavailable:
    return Unavailable(
        message,
        reason="PEER_UNAVAILABLE",
        metadata={"status": target.status},
        body={"status": target.status},
    )
