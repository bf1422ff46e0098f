"""Generated from moleculeai/workspace/v1/workspace_service.proto by tools/protoc_gen_handlers.py: do not edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from google.api import httpbody_pb2
    from google.protobuf import struct_pb2
    from moleculeai.workspace.v1 import access_pb2
    from moleculeai.workspace.v1 import approval_pb2
    from moleculeai.workspace.v1 import bootstrap_pb2
    from moleculeai.workspace.v1 import bundle_pb2
    from moleculeai.workspace.v1 import configuration_pb2
    from moleculeai.workspace.v1 import egress_pb2
    from moleculeai.workspace.v1 import schedule_pb2
    from moleculeai.workspace.v1 import viewport_pb2
    from moleculeai.workspace.v1 import workspace_pb2
    from moleculeai.workspace.v1 import workspace_service_pb2

    from molecule_grpc.server.call import Call


class WorkspaceServiceHandlers(Protocol):
    """WorkspaceService manages the tree of workspaces, the registration and discovery of agents, and
    their tokens.
    """

    async def CreateWorkspace(
        self,
        request: workspace_service_pb2.CreateWorkspaceRequest,
        call: Call,
    ) -> workspace_service_pb2.CreateWorkspaceResponse:
        """CreateWorkspace adds a workspace to the caller's organisation.

        For an `external` workspace without a URL the response carries connection details and a new
        token. Fails with ALREADY_EXISTS / WORKSPACE_NAME_TAKEN if a live sibling has the name, so a
        retry never creates a second workspace. Fails with QUOTA_EXCEEDED if the organisation has as many
        live workspaces as it may; so does Register for an id that nobody has yet.
        """
        ...

    async def ListWorkspaces(
        self,
        request: workspace_service_pb2.ListWorkspacesRequest,
        call: Call,
    ) -> workspace_service_pb2.ListWorkspacesResponse:
        """ListWorkspaces lists the live workspaces of the caller's organisation, oldest first.
        The operator sees every organisation. If there are more, the response header
        `x-next-page-token` carries the token of the next page.
        """
        ...

    async def GetWorkspace(
        self,
        request: workspace_service_pb2.GetWorkspaceRequest,
        call: Call,
    ) -> workspace_pb2.Workspace:
        """GetWorkspace returns one workspace. A removed one fails with WORKSPACE_REMOVED (410)
        unless `include_removed` is set.
        """
        ...

    async def GetWorkspaceState(
        self,
        request: workspace_service_pb2.GetWorkspaceStateRequest,
        call: Call,
    ) -> workspace_service_pb2.GetWorkspaceStateResponse:
        """GetWorkspaceState tells an agent whether to continue or stop. Fails with NOT_FOUND and `deleted:
        true` for a missing or removed workspace: the agent must stop.
        """
        ...

    async def UpdateWorkspace(
        self,
        request: workspace_service_pb2.UpdateWorkspaceRequest,
        call: Call,
    ) -> workspace_service_pb2.UpdateWorkspaceResponse:
        """UpdateWorkspace changes the present fields, all or none. Repeating a call is harmless."""
        ...

    async def GetEgress(
        self,
        request: workspace_service_pb2.GetEgressRequest,
        call: Call,
    ) -> egress_pb2.Egress:
        """GetEgress tells which hosts a workspace may reach, and which it was refused lately. UpdateWorkspace
        changes the list.
        """
        ...

    async def DeleteWorkspace(
        self,
        request: workspace_service_pb2.DeleteWorkspaceRequest,
        call: Call,
    ) -> workspace_service_pb2.DeleteWorkspaceResponse:
        """DeleteWorkspace removes a workspace and all its descendants. With live children and without
        `confirm` nothing changes and the response says `confirmation_required` (409). Repeating a call
        is harmless. `purge` also deletes the rows; delegation history stays.
        """
        ...

    async def RestartWorkspace(
        self,
        request: workspace_service_pb2.RestartWorkspaceRequest,
        call: Call,
    ) -> workspace_service_pb2.RestartWorkspaceResponse:
        """RestartWorkspace stops a workspace's workload and starts it again, from any status. The response
        comes when the request is stored: the workspace is `provisioning` until its agent registers. Calls
        during a restart lead to one more, with what all of them ask for. Fails with WORKSPACE_PAUSED if
        an ancestor is paused, with RUNTIME_EXTERNAL for an external workspace, and with NO_BACKEND (503)
        if this server starts nothing.
        """
        ...

    async def PauseWorkspace(
        self,
        request: workspace_service_pb2.PauseWorkspaceRequest,
        call: Call,
    ) -> workspace_service_pb2.PauseWorkspaceResponse:
        """PauseWorkspace suspends a workspace and everything below it, and stops what runs of them. Nothing
        but ResumeWorkspace, RestartWorkspace or DeleteWorkspace ends a pause; messages wait. Fails with
        NOT_FOUND for a workspace that is paused already.
        """
        ...

    async def ResumeWorkspace(
        self,
        request: workspace_service_pb2.ResumeWorkspaceRequest,
        call: Call,
    ) -> workspace_service_pb2.ResumeWorkspaceResponse:
        """ResumeWorkspace ends the pause of a workspace and of everything paused below it, and starts them.
        External ones await their agents. Fails with NOT_FOUND for a workspace that is not paused, with
        WORKSPACE_PAUSED if an ancestor is paused, and with NO_BACKEND (503) if the workspace is not
        external and this server starts nothing.
        """
        ...

    async def HibernateWorkspace(
        self,
        request: workspace_service_pb2.HibernateWorkspaceRequest,
        call: Call,
    ) -> workspace_service_pb2.HibernateWorkspaceResponse:
        """HibernateWorkspace stops an online or degraded workspace until there is something for it to do:
        the next message wakes it. Waits up to 5 s for the stop; the status says how far it has come. Fails with
        NOT_FOUND for any other status, with TASKS_RUNNING (409) if the agent has tasks and `force` is
        not set, with RUNTIME_EXTERNAL, and with NO_BACKEND (503) if nothing could wake it.
        """
        ...

    async def WakeWorkspace(
        self,
        request: workspace_service_pb2.WakeWorkspaceRequest,
        call: Call,
    ) -> workspace_service_pb2.WakeWorkspaceResponse:
        """WakeWorkspace starts a hibernated workspace, as a message for it would. Fails with NOT_FOUND for
        any other status, with WORKSPACE_PAUSED if an ancestor is paused, with RUNTIME_EXTERNAL, and with
        NO_BACKEND (503).
        """
        ...

    async def CollapseWorkspace(
        self,
        request: workspace_service_pb2.CollapseWorkspaceRequest,
        call: Call,
    ) -> workspace_service_pb2.CollapseWorkspaceResponse:
        """CollapseWorkspace removes everything below a workspace, as DeleteWorkspace with `confirm` would.
        The workspace itself stays. Repeating a call removes nothing more. Hiding children on the canvas
        is `collapsed` of UpdateWorkspace.
        """
        ...

    async def Register(
        self,
        request: workspace_service_pb2.RegisterRequest,
        call: Call,
    ) -> workspace_service_pb2.RegisterResponse:
        """Register stores an agent's card, URL and delivery mode. Repeating a call updates all three and
        never rotates the token. Fails with WORKSPACE_REMOVED for a removed workspace.
        """
        ...

    async def Heartbeat(
        self,
        request: workspace_service_pb2.HeartbeatRequest,
        call: Call,
    ) -> workspace_service_pb2.HeartbeatResponse:
        """Heartbeat reports that a workspace's agent is alive and may change the workspace's status
        (docs/workspaces.md). Fails with NOT_FOUND for a missing or removed workspace: the agent must
        stop.
        """
        ...

    async def UpdateCard(
        self,
        request: workspace_service_pb2.UpdateCardRequest,
        call: Call,
    ) -> workspace_service_pb2.UpdateCardResponse:
        """UpdateCard replaces the agent's card."""
        ...

    async def Discover(
        self,
        request: workspace_service_pb2.DiscoverRequest,
        call: Call,
    ) -> workspace_service_pb2.DiscoverResponse:
        """Discover returns the URL of a related workspace. `caller_id` or the `X-Workspace-ID` header names
        the caller: required of REST calls, whatever their token. Fails with NOT_RELATED (403) for an unrelated workspace, and with PEER_UNAVAILABLE
        (503) for one not reachable at present.
        """
        ...

    async def ListPeers(
        self,
        request: workspace_service_pb2.ListPeersRequest,
        call: Call,
    ) -> workspace_service_pb2.ListPeersResponse:
        """ListPeers lists siblings, children and parent, by name. If there are more, the response header
        `x-next-page-token` carries the token of the next page.
        """
        ...

    async def CheckAccess(
        self,
        request: workspace_service_pb2.CheckAccessRequest,
        call: Call,
    ) -> workspace_service_pb2.CheckAccessResponse:
        """CheckAccess tells whether two workspaces may talk to each other. Symmetric; false for unknown ids
        and for workspaces outside the caller's organization.
        """
        ...

    async def ListTokens(
        self,
        request: workspace_service_pb2.ListTokensRequest,
        call: Call,
    ) -> workspace_service_pb2.ListTokensResponse:
        """ListTokens lists a workspace's live tokens, newest first, without their secrets. If there are
        more, the response header `x-next-page-token` carries the token of the next page.
        """
        ...

    async def CreateToken(
        self,
        request: workspace_service_pb2.CreateTokenRequest,
        call: Call,
    ) -> workspace_service_pb2.CreateTokenResponse:
        """CreateToken mints a token; only this response carries the secret. Fails with TOO_MANY_TOKENS if
        the workspace has as many live tokens as it may. A token minted with a token that expires expires
        no later.
        """
        ...

    async def RevokeToken(
        self,
        request: workspace_service_pb2.RevokeTokenRequest,
        call: Call,
    ) -> workspace_service_pb2.RevokeTokenResponse:
        """RevokeToken revokes a token at once, on every worker, and ends its streams within 5 s."""
        ...

    async def GetExternalConnection(
        self,
        request: workspace_service_pb2.GetExternalConnectionRequest,
        call: Call,
    ) -> workspace_service_pb2.GetExternalConnectionResponse:
        """GetExternalConnection returns the settings for connecting an external agent, without a token."""
        ...

    async def RotateExternalCredentials(
        self,
        request: workspace_service_pb2.RotateExternalCredentialsRequest,
        call: Call,
    ) -> workspace_service_pb2.RotateExternalCredentialsResponse:
        """RotateExternalCredentials revokes every token of an external workspace and mints one, in one
        transaction. Id, delegations and inbox stay.
        """
        ...

    async def ListOperations(
        self,
        request: workspace_service_pb2.ListOperationsRequest,
        call: Call,
    ) -> workspace_service_pb2.ListOperationsResponse:
        """ListOperations lists the starts and stops of a workspace, newest first: those that wait, the one that
        runs, and the last 1,000 that ended in the last 30 days (MOLECULE_OPERATION_RETENTION_DAYS). They stay
        readable for the operator when the workspace is purged. If there are more, the response header
        `x-next-page-token` carries the token of the next page.
        """
        ...

    async def ListWorkspaceFiles(
        self,
        request: workspace_service_pb2.ListWorkspaceFilesRequest,
        call: Call,
    ) -> workspace_service_pb2.ListWorkspaceFilesResponse:
        """ListWorkspaceFiles lists files and directories below a directory of a workspace that the platform
        runs, by path. A workspace that is stopped is listed from the volumes that it keeps. If there are
        more, the response header `x-next-page-token` carries the token of the next page.

        Fails with FILE_NOT_FOUND (404) for a directory that is not there, TOO_MANY_FILES (400) where more
        than 20,000 lie below it, and as ReadWorkspaceFile.
        """
        ...

    def ReadWorkspaceFile(
        self,
        request: workspace_service_pb2.ReadWorkspaceFileRequest,
        call: Call,
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        """ReadWorkspaceFile reads a file of a workspace that the platform runs, or that was stopped.

        Over REST the answer is `{"path","content","size"}` as JSON, for files of UTF-8 text up to 1 MiB,
        or with `raw=true` the bytes of the file. Over gRPC the messages are the bytes, of any size.
        Fails with FILE_NOT_FOUND (404), FILE_OUTSIDE_ROOT (400) where a link leads out of `root`,
        FILE_TOO_LARGE (413) and FILE_NOT_TEXT (400) for JSON, RUNTIME_EXTERNAL (400),
        WORKLOAD_MISSING (400) where nothing was started yet, BACKEND_LACKS (501) on a backend without
        files, and BACKEND_UNAVAILABLE (502) where the engine does not do what it was asked.
        """
        ...

    async def WriteWorkspaceFile(
        self,
        requests: AsyncIterator[workspace_service_pb2.WriteWorkspaceFileRequest],
        call: Call,
    ) -> workspace_service_pb2.WriteWorkspaceFileResponse:
        """WriteWorkspaceFile replaces a file of a workspace, at most 100 MiB, with the directories above it:
        whoever reads meanwhile sees the old bytes or the new ones. Nothing changes before the last byte
        has arrived. Repeating a call is harmless.

        A REST body of type application/json is `{"content": "…"}`, at most 4 MiB; of any other type, the
        bytes of the file. Over gRPC the messages are the bytes; the ids belong in the first one. Fails
        with ROOT_READ_ONLY (400) outside of the volumes of a workspace whose root may not be written,
        FILE_TOO_LARGE (413), UPLOAD_STALLED (408) after 60 s without a byte, and as ReadWorkspaceFile.
        """
        ...

    async def DeleteWorkspaceFile(
        self,
        request: workspace_service_pb2.DeleteWorkspaceFileRequest,
        call: Call,
    ) -> workspace_service_pb2.DeleteWorkspaceFileResponse:
        """DeleteWorkspaceFile deletes a file, or a link, of a workspace; never a directory. Fails with
        FILE_NOT_FOUND (404), also when repeated, ROOT_READ_ONLY (400), and as ReadWorkspaceFile.
        """
        ...

    def WatchWorkspaceLogs(
        self,
        request: workspace_service_pb2.WatchWorkspaceLogsRequest,
        call: Call,
    ) -> AsyncIterator[workspace_service_pb2.WatchWorkspaceLogsResponse]:
        """WatchWorkspaceLogs sends what the agent of a workspace has printed, also after its end, and with
        `follow` what it prints from then on. The last 256 KiB of earlier workloads come first. A stream ends
        with the workload. Its client is bounded: the
        server reads on only while the client does, and ends the stream with SLOW_CONSUMER after 60 s in
        which the client took nothing.

        Over REST each frame is a `data:` line of `text/event-stream`, or a line of JSON for a client that
        accepts `application/x-ndjson`. Fails with RUNTIME_EXTERNAL, WORKLOAD_MISSING (400), BACKEND_LACKS
        (501) and BACKEND_UNAVAILABLE (502).
        """
        ...

    def ExecWorkspace(
        self,
        requests: AsyncIterator[workspace_service_pb2.ExecWorkspaceRequest],
        call: Call,
    ) -> AsyncIterator[workspace_service_pb2.ExecWorkspaceResponse]:
        """ExecWorkspace runs a command beside the agent of a workspace, with or without a terminal. The first
        frame must be a Start; the server answers with Started, output, and Exited at the end.

        The command ends with the call: when the client leaves, its token is revoked, the server stops, or
        the stream is an hour old, the command gets SIGHUP, then SIGKILL. Each call is an entry of the audit
        log, written when the command begins. While a call is open the workspace is not idle. Fails with
        RUNTIME_EXTERNAL and WORKLOAD_MISSING (nothing runs), BACKEND_LACKS and BACKEND_UNAVAILABLE.
        """
        ...

    async def GetWorkspaceConsole(
        self,
        request: workspace_service_pb2.GetWorkspaceConsoleRequest,
        call: Call,
    ) -> workspace_service_pb2.GetWorkspaceConsoleResponse:
        """GetWorkspaceConsole returns what the machine under a workspace has printed, for administrators. Fails
        with BACKEND_LACKS (501) where the backend has no machines, RUNTIME_EXTERNAL, WORKLOAD_MISSING (400)
        and BACKEND_UNAVAILABLE (502).
        """
        ...

    async def GetWorkspaceStats(
        self,
        request: workspace_service_pb2.GetWorkspaceStatsRequest,
        call: Call,
    ) -> access_pb2.WorkspaceStats:
        """GetWorkspaceStats measures what the workload of a workspace uses now, which takes a second or two.
        Fails with RUNTIME_EXTERNAL and WORKLOAD_MISSING (nothing runs), BACKEND_LACKS (501) and
        BACKEND_UNAVAILABLE (502).
        """
        ...

    async def ListWorkspaceStats(
        self,
        request: workspace_service_pb2.ListWorkspaceStatsRequest,
        call: Call,
    ) -> workspace_service_pb2.ListWorkspaceStatsResponse:
        """ListWorkspaceStats measures the workloads of the caller's organisation that should run, in the order
        of their ids; of all organisations for the operator. What cannot be measured says why. If there are
        more, the response header `x-next-page-token` carries the token of the next page.
        """
        ...

    async def ExchangeBootstrapToken(
        self,
        request: bootstrap_pb2.ExchangeBootstrapTokenRequest,
        call: Call,
    ) -> bootstrap_pb2.ExchangeBootstrapTokenResponse:
        """ExchangeBootstrapToken returns what a workspace is started with, its secrets among it, to the machine
        that the platform has started for the workspace. The bootstrap token is all that the machine was given, and the
        caller needs no other. The token works once, for this workspace, while the workspace is
        `provisioning`, until its provision timeout. A repeat, and any token that does not work, fails with
        UNAUTHENTICATED, whatever the cause. Fails with FAILED_PRECONDITION if the workspace cannot be
        started as it is, and leaves the token unused. Tokens that the workspace had before are revoked.
        """
        ...

    async def GetQuota(
        self,
        request: workspace_service_pb2.GetQuotaRequest,
        call: Call,
    ) -> workspace_service_pb2.GetQuotaResponse:
        """GetQuota tells how much an organisation, and a workspace of it, uses of what it may use: what is
        kept, over all workers, and what is in use at once in the worker that answers. A caller sees its
        own organisation, a workspace's token its own workspace; anything else fails with
        ORGANIZATION_NOT_FOUND or WORKSPACE_NOT_FOUND.
        """
        ...

    async def ListSecrets(
        self,
        request: workspace_service_pb2.ListSecretsRequest,
        call: Call,
    ) -> workspace_service_pb2.ListSecretsResponse:
        """ListSecrets lists the names of the secrets that a workspace is started with: its own, and those
        that it inherits from its organisation and from the installation. Values are never listed.
        """
        ...

    async def GetSecretValues(
        self,
        request: workspace_service_pb2.GetSecretValuesRequest,
        call: Call,
    ) -> struct_pb2.Struct:
        """GetSecretValues returns what a workspace is started with, by name, all or nothing: fails with
        SECRET_UNREADABLE (500) and `failed_keys` if no known encryption key opens one of them.
        """
        ...

    async def SetSecret(
        self,
        request: workspace_service_pb2.SetSecretRequest,
        call: Call,
    ) -> workspace_service_pb2.SetSecretResponse:
        """SetSecret sets a secret of a workspace; the last write wins. Fails with QUOTA_EXCEEDED beyond 200
        secrets or 256 KiB of them, and with SECRETS_KEY_MISSING on an installation without an encryption key.
        """
        ...

    async def DeleteSecret(
        self,
        request: workspace_service_pb2.DeleteSecretRequest,
        call: Call,
    ) -> workspace_service_pb2.DeleteSecretResponse:
        """DeleteSecret deletes a workspace's own secret; an inherited one shows through again. Fails with
        SECRET_NOT_FOUND if the workspace has none of that name.
        """
        ...

    async def ListSharedSecrets(
        self,
        request: workspace_service_pb2.ListSharedSecretsRequest,
        call: Call,
    ) -> workspace_service_pb2.ListSharedSecretsResponse:
        """ListSharedSecrets lists the names of secrets that all workspaces inherit: of an organisation for
        its token and for an operator who names it, of the installation for any other operator's call.
        """
        ...

    async def SetSharedSecret(
        self,
        request: workspace_service_pb2.SetSharedSecretRequest,
        call: Call,
    ) -> workspace_service_pb2.SetSharedSecretResponse:
        """SetSharedSecret sets a secret that all workspaces of an organisation, or of the installation,
        inherit; the last write wins. Fails as SetSecret does.
        """
        ...

    async def DeleteSharedSecret(
        self,
        request: workspace_service_pb2.DeleteSharedSecretRequest,
        call: Call,
    ) -> workspace_service_pb2.DeleteSharedSecretResponse:
        """DeleteSharedSecret deletes such a secret. Fails with SECRET_NOT_FOUND if there is none."""
        ...

    async def GetConfig(
        self,
        request: configuration_pb2.GetConfigRequest,
        call: Call,
    ) -> configuration_pb2.GetConfigResponse:
        """GetConfig returns what the canvas and its users keep about a workspace. The platform does not read
        it.
        """
        ...

    async def PatchConfig(
        self,
        request: configuration_pb2.PatchConfigRequest,
        call: Call,
    ) -> configuration_pb2.PatchConfigResponse:
        """PatchConfig sets the given keys, each to its whole new value, and leaves the others. Repeating a
        call is harmless. Fails with BODY_TOO_LARGE (413) beyond 256 KiB in one call or 512 KiB in all.
        """
        ...

    async def GetModel(
        self,
        request: configuration_pb2.GetModelRequest,
        call: Call,
    ) -> configuration_pb2.GetModelResponse:
        """GetModel tells which model a workspace's agent is started with."""
        ...

    async def SetModel(
        self,
        request: configuration_pb2.SetModelRequest,
        call: Call,
    ) -> configuration_pb2.SetModelResponse:
        """SetModel chooses the model of a workspace, as its secret MODEL_PROVIDER; a running agent is
        restarted, as by SetSecret. The last write wins. Fails as SetSecret does.
        """
        ...

    async def GetBudget(
        self,
        request: configuration_pb2.GetBudgetRequest,
        call: Call,
    ) -> configuration_pb2.Budget:
        """GetBudget tells what a workspace may spend in a month, and what it has spent."""
        ...

    async def SetBudget(
        self,
        request: configuration_pb2.SetBudgetRequest,
        call: Call,
    ) -> configuration_pb2.Budget:
        """SetBudget limits what a workspace may spend in a month. While the spend that its agent reports is
        not below the limit, messages to the agent fail with BUDGET_EXCEEDED (402); what was accepted before
        waits. Repeating a call is harmless. Not for the workspace's own token.
        """
        ...

    async def GetUsage(
        self,
        request: configuration_pb2.GetUsageRequest,
        call: Call,
    ) -> configuration_pb2.GetUsageResponse:
        """GetUsage sums up the tokens of a workspace in the present day of UTC, as its agent's answers to
        messages tell them.
        """
        ...

    async def GetAgent(
        self,
        request: configuration_pb2.GetAgentRequest,
        call: Call,
    ) -> configuration_pb2.AssignedAgent:
        """GetAgent returns the agent that is assigned to a workspace. Fails with AGENT_NOT_FOUND if none is."""
        ...

    async def AssignAgent(
        self,
        request: configuration_pb2.AssignAgentRequest,
        call: Call,
    ) -> configuration_pb2.AssignedAgent:
        """AssignAgent says with which model a workspace's agent works from its next start on. Fails with
        AGENT_ASSIGNED (409) if an agent is assigned, so that a retry never assigns a second one.
        """
        ...

    async def ReplaceAgent(
        self,
        request: configuration_pb2.ReplaceAgentRequest,
        call: Call,
    ) -> configuration_pb2.AssignedAgent:
        """ReplaceAgent ends the assignment of an agent and makes another. A repeat with the model that is
        assigned already changes nothing. Fails with AGENT_NOT_FOUND if no agent is assigned.
        """
        ...

    async def RemoveAgent(
        self,
        request: configuration_pb2.RemoveAgentRequest,
        call: Call,
    ) -> configuration_pb2.RemoveAgentResponse:
        """RemoveAgent ends the assignment of an agent. Fails with AGENT_NOT_FOUND if none is assigned."""
        ...

    async def MoveAgent(
        self,
        request: configuration_pb2.MoveAgentRequest,
        call: Call,
    ) -> configuration_pb2.AssignedAgent:
        """MoveAgent assigns an agent to another workspace of the same organisation. Fails with
        AGENT_NOT_FOUND if none is assigned, with WORKSPACE_NOT_FOUND for an unknown target, and with
        AGENT_ASSIGNED (409) if the target has an agent. Not for the workspace's own token.
        """
        ...

    async def ExportBundle(
        self,
        request: bundle_pb2.ExportBundleRequest,
        call: Call,
    ) -> bundle_pb2.Bundle:
        """ExportBundle returns a workspace and everything live below it as one document: the files that its
        agent has now, where the platform can read them, else those that it is first started with. Secrets are no
        part of it, and a text that holds the value of one is left out. Fails with BUNDLE_TOO_LARGE (413)
        beyond 200 workspaces, 16 levels or 3 MiB.
        """
        ...

    async def ImportBundle(
        self,
        request: bundle_pb2.ImportBundleRequest,
        call: Call,
    ) -> bundle_pb2.ImportBundleResponse:
        """ImportBundle adds the workspaces of a bundle under new ids, and starts them. What is wrong with the
        bundle is refused before anything is added; a workspace that cannot be added or started later is told
        of in the response, and those beside it go on. Fails with WORKSPACE_NAME_TAKEN if a live root has the
        name of the bundle's, so that a repeat adds nothing, and with QUOTA_EXCEEDED.
        """
        ...

    async def ReencryptSecrets(
        self,
        request: workspace_service_pb2.ReencryptSecretsRequest,
        call: Call,
    ) -> workspace_service_pb2.ReencryptSecretsResponse:
        """ReencryptSecrets seals all secrets of the installation with the current encryption key, so that
        previous keys can be forgotten. Repeating a call is harmless. For the operator only.
        """
        ...

    async def ListSchedules(
        self,
        request: schedule_pb2.ListSchedulesRequest,
        call: Call,
    ) -> schedule_pb2.ListSchedulesResponse:
        """ListSchedules lists the schedules of a workspace, by name. If there are more, the response header
        `x-next-page-token` carries the token of the next page.
        """
        ...

    async def CreateSchedule(
        self,
        request: schedule_pb2.CreateScheduleRequest,
        call: Call,
    ) -> schedule_pb2.CreateScheduleResponse:
        """CreateSchedule adds a schedule. Fails with ALREADY_EXISTS / SCHEDULE_NAME_TAKEN if the workspace
        has one of this name, so a retry never creates a second one; with QUOTA_EXCEEDED if the workspace
        or its organisation has as many as it may; and with INVALID_ARGUMENT for a cron expression or a
        time zone that is none, or that never comes.
        """
        ...

    async def UpdateSchedule(
        self,
        request: schedule_pb2.UpdateScheduleRequest,
        call: Call,
    ) -> schedule_pb2.UpdateScheduleResponse:
        """UpdateSchedule changes the present fields, all or none. Repeating a call is harmless. A change of
        cron expression, time zone or `enabled` counts from now: nothing that was missed is made up for.
        Fails with SCHEDULE_NOT_FOUND if the workspace has no such schedule, and as CreateSchedule does.
        """
        ...

    async def DeleteSchedule(
        self,
        request: schedule_pb2.DeleteScheduleRequest,
        call: Call,
    ) -> schedule_pb2.DeleteScheduleResponse:
        """DeleteSchedule deletes a schedule with its history. What it has handed over goes on. Fails with
        SCHEDULE_NOT_FOUND if the workspace has no such schedule, also for a repeat.
        """
        ...

    async def RunSchedule(
        self,
        request: schedule_pb2.RunScheduleRequest,
        call: Call,
    ) -> schedule_pb2.RunScheduleResponse:
        """RunSchedule returns the prompt of a schedule, and with `deliver` also hands it over now, whatever
        the agent does and whether or not the schedule is enabled. Every call with `deliver` is another
        fire; the regular ones stay as they are. Fails with SCHEDULE_NOT_FOUND, and with INBOX_FULL or
        QUOTA_EXCEEDED if the ledger takes no more.
        """
        ...

    async def ListScheduleRuns(
        self,
        request: schedule_pb2.ListScheduleRunsRequest,
        call: Call,
    ) -> schedule_pb2.ListScheduleRunsResponse:
        """ListScheduleRuns lists what became of a schedule's fires, newest first: the last 200, no older than
        30 days (MOLECULE_SCHEDULE_RUN_RETENTION_DAYS). Fails with SCHEDULE_NOT_FOUND. If there are more,
        the response header `x-next-page-token` carries the token of the next page.
        """
        ...

    async def GetScheduleHealth(
        self,
        request: schedule_pb2.GetScheduleHealthRequest,
        call: Call,
    ) -> schedule_pb2.GetScheduleHealthResponse:
        """GetScheduleHealth tells a related workspace whether the schedules of another one fire, without
        their prompts and cron expressions. `caller_id` or the `X-Workspace-ID` header names the caller:
        required of REST calls, whatever their token. Fails with NOT_RELATED (403) for an unrelated
        workspace. If there are more, the response header `x-next-page-token` carries the token of the
        next page.
        """
        ...

    async def ListScheduleHealth(
        self,
        request: schedule_pb2.ListScheduleHealthRequest,
        call: Call,
    ) -> schedule_pb2.ListScheduleHealthResponse:
        """ListScheduleHealth tells of all schedules of the caller's organisation whether they fire; the
        operator sees every organisation. Removed workspaces are left out. If there are more, the response
        header `x-next-page-token` carries the token of the next page.
        """
        ...

    async def CreateApproval(
        self,
        request: approval_pb2.CreateApprovalRequest,
        call: Call,
    ) -> approval_pb2.CreateApprovalResponse:
        """CreateApproval asks people for a decision. Every call is another request. The agent learns of the
        decision from its inbox, from the event APPROVAL_DECIDED and from ListApprovals. Fails with
        QUOTA_EXCEEDED if the workspace has as many pending requests as it may.
        """
        ...

    async def ListApprovals(
        self,
        request: approval_pb2.ListApprovalsRequest,
        call: Call,
    ) -> approval_pb2.ListApprovalsResponse:
        """ListApprovals lists what a workspace has asked for, newest first: its last 1,000 requests, no older
        than 90 days (MOLECULE_APPROVAL_RETENTION_DAYS). If there are more, the response header
        `x-next-page-token` carries the token of the next page.
        """
        ...

    async def ListPendingApprovals(
        self,
        request: approval_pb2.ListPendingApprovalsRequest,
        call: Call,
    ) -> approval_pb2.ListPendingApprovalsResponse:
        """ListPendingApprovals lists what waits for a decision in the caller's organisation, newest first; the
        operator sees every organisation. If there are more, the response header `x-next-page-token` carries
        the token of the next page.
        """
        ...

    async def DecideApproval(
        self,
        request: approval_pb2.DecideApprovalRequest,
        call: Call,
    ) -> approval_pb2.DecideApprovalResponse:
        """DecideApproval decides a pending request, once; the same decision again is accepted. A workspace
        cannot decide. Fails with APPROVAL_NOT_FOUND, and with APPROVAL_NOT_PENDING (404) if the other
        decision was made, or nobody decided in time.
        """
        ...

    async def GetViewport(
        self,
        request: viewport_pb2.GetViewportRequest,
        call: Call,
    ) -> viewport_pb2.Viewport:
        """GetViewport returns what part of the canvas people of an organisation looked at last."""
        ...

    async def SetViewport(
        self,
        request: viewport_pb2.SetViewportRequest,
        call: Call,
    ) -> viewport_pb2.SetViewportResponse:
        """SetViewport notes what part of the canvas people of an organisation look at; the last write wins."""
        ...
