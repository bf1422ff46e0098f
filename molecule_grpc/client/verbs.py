"""Starting and stopping workspaces."""

from __future__ import annotations

from typing import Any

from moleculeai.workspace.v1 import workspace_service_pb2 as pb

from molecule_grpc.client.connected import Connected


class Verbs(Connected):
    """The part of `Platform` that starts and stops workspaces."""

    async def restart_workspace(
        self, workspace_id: str, **options: Any
    ) -> pb.RestartWorkspaceResponse:
        """Stop a workspace's workload and start it again, from any status.

        Returns when the request is stored; the workspace is online when its agent has registered.

        Args:
            workspace_id: UUID of the workspace.
            **options: of RestartWorkspaceRequest, such as `reset` or `template`.

        Raises:
            Aborted: WORKSPACE_PAUSED: an ancestor is paused.
            FailedPrecondition: RUNTIME_EXTERNAL.
            Unavailable: NO_BACKEND.
        """
        request = pb.RestartWorkspaceRequest(workspace_id=workspace_id, **options)
        return await self.connection.call(
            self.connection.workspaces.RestartWorkspace, request, retry=True
        )

    async def pause_workspace(self, workspace_id: str) -> pb.PauseWorkspaceResponse:
        """Suspend a workspace with everything below it.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND: unknown, or paused already.
        """
        return await self.connection.call(
            self.connection.workspaces.PauseWorkspace,
            pb.PauseWorkspaceRequest(workspace_id=workspace_id),
            retry=False,
        )

    async def resume_workspace(self, workspace_id: str) -> pb.ResumeWorkspaceResponse:
        """End the pause of a workspace and of everything paused below it.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND: unknown, or not paused.
            Aborted: WORKSPACE_PAUSED: an ancestor is paused, too.
            Unavailable: NO_BACKEND.
        """
        return await self.connection.call(
            self.connection.workspaces.ResumeWorkspace,
            pb.ResumeWorkspaceRequest(workspace_id=workspace_id),
            retry=False,
        )

    async def hibernate_workspace(
        self, workspace_id: str, *, force: bool = False
    ) -> pb.HibernateWorkspaceResponse:
        """Stop a workspace until there is something for it to do. Waits up to 5 s for the stop.

        Args:
            force: also when the agent has tasks.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND: unknown, or neither online nor degraded.
            Aborted: TASKS_RUNNING.
            FailedPrecondition: RUNTIME_EXTERNAL.
            Unavailable: NO_BACKEND.
        """
        return await self.connection.call(
            self.connection.workspaces.HibernateWorkspace,
            pb.HibernateWorkspaceRequest(workspace_id=workspace_id, force=force),
            retry=False,
        )

    async def wake_workspace(self, workspace_id: str) -> pb.WakeWorkspaceResponse:
        """Start a hibernated workspace, as a message for it would.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND: unknown, or not hibernated.
            Aborted: WORKSPACE_PAUSED: an ancestor is paused.
            FailedPrecondition: RUNTIME_EXTERNAL.
            Unavailable: NO_BACKEND.
        """
        return await self.connection.call(
            self.connection.workspaces.WakeWorkspace,
            pb.WakeWorkspaceRequest(workspace_id=workspace_id),
            retry=False,
        )
