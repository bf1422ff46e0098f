"""Who may call what: one row for every RPC. An RPC without a row cannot be served."""

from __future__ import annotations

from dataclasses import dataclass, replace

from molecule_grpc.auth.principal import Role


@dataclass(frozen=True, slots=True)
class Policy:
    """Who may call an RPC.

    Args:
        roles: parties that may call it at all.
        workspace: request field that names the workspace the call acts as. A workspace's token
            must be that workspace's; an organisation's token must own it. A dotted path reaches
            into the first frame of a stream.
        missing: what a caller without a token reads.
        wrong: what a caller with an unsuitable token reads.
        asks: whether the token is looked up; False makes every caller ANONYMOUS.
        reads: whether the RPC changes nothing, so that a read-only token may call it.
        stores: whether the RPC stores what it was sent, so that a nearly full disk refuses it. What
            works down or ends things, and what only notes a time, is served.
        audited: whether every call is an entry of the audit log, whoever makes it.
        mints: whether a call is such an entry, whoever makes it, if its answer brings a token.
        files: whether the body of a REST call is the bytes of files, of any content type.
        lasts: whether a call may go on for long: a stream, a wait, an upload or a download. Its
            handler runs it under `StreamGuards`, so that the call ends with its token.
        caller: request field, or else the header X-Workspace-ID, by which a REST call must say
            which workspace asks. Who does not say so is told that, with whatever token.
    """

    roles: frozenset[Role]
    workspace: str = ""
    missing: str = "missing workspace auth token"
    wrong: str = "invalid workspace auth token"
    asks: bool = True
    reads: bool = False
    stores: bool = False
    audited: bool = False
    mints: bool = False
    files: bool = False
    lasts: bool = False
    caller: str = ""


_EVERYBODY = frozenset(Role)
_KNOWN = frozenset({Role.WORKSPACE, Role.ORGANIZATION, Role.OPERATOR})
_ADMINS = frozenset({Role.ORGANIZATION, Role.OPERATOR})

PUBLIC = Policy(_EVERYBODY, asks=False)
ADMIN = Policy(_ADMINS, missing="admin auth required", wrong="invalid admin auth token")
OPERATOR = Policy(
    frozenset({Role.OPERATOR}), missing="admin auth required", wrong="invalid admin auth token"
)
CALLER = Policy(_KNOWN)


def acts_as(field: str) -> Policy:
    """A call on behalf of the workspace that `field` names."""
    return Policy(_KNOWN, workspace=field)


def may_be_unknown(field: str) -> Policy:
    """Like `acts_as`, also for callers without a token: the handler decides about those."""
    return Policy(_EVERYBODY, workspace=field)


def reads(policy: Policy) -> Policy:
    """The same for an RPC that changes nothing."""
    return replace(policy, reads=True)


def lasts(policy: Policy) -> Policy:
    """The same for an RPC that may go on for long."""
    return replace(policy, lasts=True)


def stores(policy: Policy) -> Policy:
    """The policy of an RPC that adds rows or files: DISK_LOW while the disk is nearly full."""
    return replace(policy, stores=True)


_WORKSPACE = "/moleculeai.workspace.v1.WorkspaceService/"
_DELEGATION = "/moleculeai.delegation.v1.DelegationService/"
_UPLOAD = "/moleculeai.upload.v1.UploadService/"
_MEMORY = "/moleculeai.memory.v1.MemoryService/"
_ADMIN = "/moleculeai.admin.v1.AdminService/"

OWN = acts_as("workspace_id")
TAKING = replace(OWN, files=True, lasts=True)
CREDENTIALS = replace(OWN, audited=True)
LIFECYCLE = replace(OWN, audited=True)
# About a workspace, and not for its own token.
OWNERS = replace(ADMIN, workspace="workspace_id", audited=True)

POLICIES: dict[str, Policy] = {
    _WORKSPACE + "CreateWorkspace": stores(ADMIN),
    _WORKSPACE + "ListWorkspaces": reads(ADMIN),
    # The stripped view may be public (MOLECULE_PUBLIC_WORKSPACE_VIEW): the handler decides.
    _WORKSPACE + "GetWorkspace": reads(Policy(_EVERYBODY)),
    # A removed workspace's agent holds a revoked token: the handler tells it to stop.
    _WORKSPACE + "GetWorkspaceState": reads(Policy(_EVERYBODY)),
    _WORKSPACE + "UpdateWorkspace": stores(OWN),
    _WORKSPACE + "DeleteWorkspace": ADMIN,
    _WORKSPACE + "RestartWorkspace": LIFECYCLE,
    _WORKSPACE + "PauseWorkspace": LIFECYCLE,
    _WORKSPACE + "ResumeWorkspace": LIFECYCLE,
    _WORKSPACE + "HibernateWorkspace": LIFECYCLE,
    _WORKSPACE + "WakeWorkspace": LIFECYCLE,
    _WORKSPACE + "CollapseWorkspace": LIFECYCLE,
    # Open registration (MOLECULE_OPEN_REGISTRATION) lets an agent without a token in.
    _WORKSPACE + "Register": replace(stores(may_be_unknown("id")), mints=True),
    _WORKSPACE + "Heartbeat": OWN,
    _WORKSPACE + "UpdateCard": stores(OWN),
    _WORKSPACE + "Discover": replace(reads(CALLER), caller="caller_id"),
    _WORKSPACE + "ListPeers": reads(OWN),
    # The handler answers within the caller's organisation.
    _WORKSPACE + "CheckAccess": reads(CALLER),
    _WORKSPACE + "ListOperations": reads(OWN),
    _WORKSPACE + "ListWorkspaceFiles": reads(OWN),
    _WORKSPACE + "ReadWorkspaceFile": lasts(reads(OWN)),
    _WORKSPACE + "WriteWorkspaceFile": stores(TAKING),
    _WORKSPACE + "DeleteWorkspaceFile": OWN,
    _WORKSPACE + "WatchWorkspaceLogs": lasts(reads(OWN)),
    _WORKSPACE + "ExecWorkspace": replace(lasts(acts_as("start.workspace_id")), audited=True),
    _WORKSPACE + "GetWorkspaceConsole": replace(reads(ADMIN), workspace="workspace_id"),
    _WORKSPACE + "GetWorkspaceStats": reads(OWN),
    # The handler narrows it to the caller's organisation.
    _WORKSPACE + "ListWorkspaceStats": reads(ADMIN),
    # The bootstrap token in the request is what lets a machine in.
    _WORKSPACE + "ExchangeBootstrapToken": replace(PUBLIC, mints=True),
    _WORKSPACE + "GetEgress": reads(OWN),
    # The handler answers within the caller's organisation, a workspace about itself.
    _WORKSPACE + "GetQuota": reads(CALLER),
    _WORKSPACE + "ListTokens": reads(OWN),
    _WORKSPACE + "CreateToken": stores(CREDENTIALS),
    _WORKSPACE + "RevokeToken": CREDENTIALS,
    _WORKSPACE + "GetExternalConnection": reads(OWN),
    _WORKSPACE + "RotateExternalCredentials": CREDENTIALS,
    _WORKSPACE + "ListSecrets": reads(OWN),
    # Shows values: nothing for a read-only token.
    _WORKSPACE + "GetSecretValues": CREDENTIALS,
    _WORKSPACE + "SetSecret": stores(CREDENTIALS),
    _WORKSPACE + "DeleteSecret": CREDENTIALS,
    # The handler narrows them to the caller's organisation.
    _WORKSPACE + "ListSharedSecrets": reads(ADMIN),
    _WORKSPACE + "SetSharedSecret": replace(stores(ADMIN), audited=True),
    _WORKSPACE + "DeleteSharedSecret": replace(ADMIN, audited=True),
    _WORKSPACE + "ReencryptSecrets": OPERATOR,
    _WORKSPACE + "ExportBundle": reads(replace(ADMIN, workspace="workspace_id")),
    # The handler narrows it to the caller's organisation.
    _WORKSPACE + "ImportBundle": replace(stores(ADMIN), audited=True),
    _WORKSPACE + "GetConfig": reads(OWN),
    _WORKSPACE + "PatchConfig": stores(OWN),
    _WORKSPACE + "GetModel": reads(OWN),
    _WORKSPACE + "SetModel": stores(LIFECYCLE),
    _WORKSPACE + "GetBudget": reads(OWN),
    # With its own token an agent could lift its own limit.
    _WORKSPACE + "SetBudget": stores(OWNERS),
    _WORKSPACE + "GetUsage": reads(OWN),
    _WORKSPACE + "GetAgent": reads(OWN),
    _WORKSPACE + "AssignAgent": stores(LIFECYCLE),
    _WORKSPACE + "ReplaceAgent": stores(LIFECYCLE),
    _WORKSPACE + "RemoveAgent": LIFECYCLE,
    _WORKSPACE + "MoveAgent": OWNERS,
    _WORKSPACE + "CreateApproval": stores(OWN),
    _WORKSPACE + "ListApprovals": reads(OWN),
    _WORKSPACE + "ListPendingApprovals": reads(ADMIN),
    # Who asks does not decide. The handler narrows it to the caller's organisation.
    _WORKSPACE + "DecideApproval": replace(ADMIN, audited=True),
    # The handler narrows them to the caller's organisation.
    _WORKSPACE + "GetViewport": reads(CALLER),
    _WORKSPACE + "SetViewport": ADMIN,
    _WORKSPACE + "ListSchedules": reads(OWN),
    _WORKSPACE + "CreateSchedule": stores(OWN),
    _WORKSPACE + "UpdateSchedule": stores(OWN),
    _WORKSPACE + "DeleteSchedule": OWN,
    _WORKSPACE + "RunSchedule": stores(OWN),
    _WORKSPACE + "ListScheduleRuns": reads(OWN),
    # `workspace_id` is whom it is about: the handler compares the caller with the token.
    _WORKSPACE + "GetScheduleHealth": replace(reads(CALLER), caller="caller_id"),
    _WORKSPACE + "ListScheduleHealth": reads(ADMIN),
    _DELEGATION + "Delegate": stores(lasts(OWN)),
    _DELEGATION + "RecordDelegation": stores(OWN),
    _DELEGATION + "UpdateDelegation": stores(OWN),
    _DELEGATION + "HeartbeatDelegation": OWN,
    _DELEGATION + "CancelDelegation": OWN,
    _DELEGATION + "WatchDelegation": lasts(reads(OWN)),
    _DELEGATION + "GetDelegation": reads(OWN),
    _DELEGATION + "ListDelegations": reads(OWN),
    # `workspace_id` is the target here: the handler derives the source from the token.
    _DELEGATION + "SendMessage": stores(lasts(CALLER)),
    # For the target and the sender: the handler compares them with the caller.
    _DELEGATION + "GetQueuedMessage": reads(CALLER),
    _DELEGATION + "ListActivity": reads(OWN),
    _DELEGATION + "GetActivity": reads(OWN),
    _DELEGATION + "ReportActivity": stores(OWN),
    _DELEGATION + "Notify": stores(OWN),
    _DELEGATION + "SubscribeInbox": lasts(acts_as("hello.workspace_id")),
    _DELEGATION + "StreamInbox": lasts(OWN),
    # The handler narrows it to what the caller may see.
    _DELEGATION + "SubscribeEvents": lasts(reads(CALLER)),
    _DELEGATION + "StreamEvents": lasts(reads(CALLER)),
    _DELEGATION + "SearchSession": reads(OWN),
    # Takes no lease, unlike the streams, and marks nothing.
    _DELEGATION + "PullInbox": lasts(reads(OWN)),
    _DELEGATION + "AckInbox": OWN,
    _DELEGATION + "NackInbox": OWN,
    _DELEGATION + "CallMcp": lasts(OWN),
    _DELEGATION + "StreamMcp": lasts(OWN),
    _UPLOAD + "PostUploads": stores(TAKING),
    _UPLOAD + "StageUploads": stores(lasts(acts_as("begin.workspace_id"))),
    _UPLOAD + "StartUpload": stores(OWN),
    _UPLOAD + "WriteUpload": stores(TAKING),
    _UPLOAD + "CommitUpload": stores(lasts(OWN)),
    _UPLOAD + "GetUpload": reads(OWN),
    _UPLOAD + "ListPendingUploads": reads(OWN),
    _UPLOAD + "GetUploadContent": lasts(reads(OWN)),
    _UPLOAD + "AckUpload": OWN,
    _UPLOAD + "GetUploadLimits": reads(CALLER),
    _UPLOAD + "DownloadFile": lasts(reads(OWN)),
    _MEMORY + "CommitMemory": stores(OWN),
    _MEMORY + "BatchCommitMemories": stores(OWN),
    _MEMORY + "CommitSummary": stores(OWN),
    # Notes when a memory was last found, as a sign of use.
    _MEMORY + "SearchMemories": reads(OWN),
    _MEMORY + "ExplainMemory": reads(OWN),
    _MEMORY + "GetMemory": reads(OWN),
    _MEMORY + "GetMemoryHistory": reads(OWN),
    _MEMORY + "UpdateMemory": stores(OWN),
    _MEMORY + "SupersedeMemory": stores(OWN),
    _MEMORY + "ForgetMemory": OWN,
    _MEMORY + "ConsolidateMemories": stores(OWN),
    _MEMORY + "UndoConsolidation": OWN,
    _MEMORY + "ListNamespaces": reads(OWN),
    _MEMORY + "SetNamespaceLanguage": stores(OWN),
    _MEMORY + "GetMemoryHygiene": reads(OWN),
    _MEMORY + "CommitScopedMemory": stores(OWN),
    _MEMORY + "ListScopedMemories": reads(OWN),
    _MEMORY + "UpdateScopedMemory": stores(OWN),
    _MEMORY + "DeleteScopedMemory": OWN,
    _MEMORY + "ListValues": reads(OWN),
    _MEMORY + "GetValue": reads(OWN),
    _MEMORY + "SetValue": stores(OWN),
    _MEMORY + "DeleteValue": OWN,
    _ADMIN + "GetHealth": PUBLIC,
    _ADMIN + "GetLiveness": reads(OPERATOR),
    _ADMIN + "CreateOrganization": stores(OPERATOR),
    _ADMIN + "ListOrganizations": reads(OPERATOR),
    _ADMIN + "CreateOrgToken": stores(ADMIN),
    _ADMIN + "ListOrgTokens": reads(ADMIN),
    _ADMIN + "RevokeOrgToken": ADMIN,
    _ADMIN + "IssueTestToken": stores(OPERATOR),
    _ADMIN + "ListDelegations": reads(ADMIN),
    _ADMIN + "GetDelegationStats": reads(ADMIN),
    _ADMIN + "RetryDelegation": stores(ADMIN),
    _ADMIN + "ListDeadLetters": reads(ADMIN),
    _ADMIN + "ReplayDeadLetter": stores(ADMIN),
    _ADMIN + "DropDeadLetter": ADMIN,
    _ADMIN + "DropStaleQueue": ADMIN,
    _ADMIN + "ListAuditLog": reads(ADMIN),
    _ADMIN + "ListEvents": reads(ADMIN),
    _ADMIN + "ExportMemories": lasts(reads(ADMIN)),
    _ADMIN + "ImportMemories": replace(stores(lasts(ADMIN)), files=True),
    _ADMIN + "SetMemoryGrant": stores(ADMIN),
    _ADMIN + "ListMemoryGrants": reads(ADMIN),
    _ADMIN + "DeleteMemoryGrant": ADMIN,
    _ADMIN + "MoveMemoryNamespace": ADMIN,
    _ADMIN + "DeleteMemoryNamespace": ADMIN,
    _ADMIN + "GetMemoryStats": reads(ADMIN),
    _ADMIN + "SetAuthorQuarantine": stores(ADMIN),
    _ADMIN + "ListAuthorQuarantines": reads(ADMIN),
    _ADMIN + "DeleteAuthorQuarantine": ADMIN,
    _ADMIN + "ListImages": reads(OPERATOR),
    _ADMIN + "PinImage": stores(OPERATOR),
    _ADMIN + "UnpinImage": OPERATOR,
    _ADMIN + "PromoteImage": stores(OPERATOR),
    _ADMIN + "RollbackImage": OPERATOR,
    _ADMIN + "RefreshImages": OPERATOR,
    _ADMIN + "ListOrgTemplates": reads(ADMIN),
    _ADMIN + "ListTemplates": reads(ADMIN),
    _ADMIN + "ImportOrg": replace(stores(ADMIN), audited=True),
}
