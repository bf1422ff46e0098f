"""A request of every RPC that succeeds when its rightful caller sends it."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import uuid
from collections.abc import Awaitable, Callable

from google.api import httpbody_pb2
from google.protobuf import struct_pb2
from google.protobuf.message import Message
from moleculeai.admin.v1 import admin_service_pb2 as admin
from moleculeai.admin.v1 import template_pb2
from moleculeai.delegation.v1 import delegation_pb2, event_pb2
from moleculeai.delegation.v1 import delegation_service_pb2 as delegation
from moleculeai.memory.v1 import memory_pb2
from moleculeai.memory.v1 import memory_service_pb2 as memory
from moleculeai.upload.v1 import upload_service_pb2 as upload
from moleculeai.workspace.v1 import approval_pb2 as approval
from moleculeai.workspace.v1 import bootstrap_pb2
from moleculeai.workspace.v1 import bundle_pb2 as bundle
from moleculeai.workspace.v1 import configuration_pb2 as configuration
from moleculeai.workspace.v1 import schedule_pb2 as schedule
from moleculeai.workspace.v1 import viewport_pb2 as viewport
from moleculeai.workspace.v1 import workspace_service_pb2 as workspace

from tests.e2e.families import Family
from tests.e2e.parties import Agent, Organization, Refused
from tools.descriptors import Rpc

Made = Message | list[Message]
Factory = Callable[[Family], Made | Awaitable[Made]]


async def an_item(family: Family, agent: Agent) -> delegation.PullInboxResponse:
    """The inbox of an agent that got a message just now."""
    await family.operator.rpc(a_message(agent))
    pulled: delegation.PullInboxResponse = await agent.rpc(
        delegation.PullInboxRequest(workspace_id=agent.id)
    )
    return pulled


async def a_delegation(source: Agent, target: Agent) -> str:
    """The id of a delegation that was handed over just now."""
    request = delegation.DelegateRequest(workspace_id=source.id, target_id=target.id, task="work")
    return str((await source.rpc(request)).delegation_id)


async def a_token(agent: Agent) -> str:
    """The id of another token of an agent."""
    return str((await agent.rpc(workspace.CreateTokenRequest(workspace_id=agent.id))).id)


async def an_org_token(org: Organization) -> str:
    """The id of another token of an organisation."""
    return str((await org.rpc(admin.CreateOrgTokenRequest(name="spare"))).id)


def a_message(target: Agent, source_id: str = "") -> delegation.SendMessageRequest:
    """A message of the human, or of another workspace."""
    message = {"role": "user", "parts": [{"kind": "text", "text": "hello"}]}
    body = {"jsonrpc": "2.0", "method": "message/send", "params": {"message": message}}
    return delegation.SendMessageRequest(
        workspace_id=target.id,
        body=httpbody_pb2.HttpBody(content_type="application/json", data=json.dumps(body).encode()),
        source_id=source_id,
    )


def _org_template() -> struct_pb2.Struct:
    template = struct_pb2.Struct()
    template.update({"name": "one", "workspaces": [{"name": "imported", "external": True}]})
    return template


def _card() -> struct_pb2.Value:
    card = struct_pb2.Struct()
    card.update({"name": "agent"})
    return struct_pb2.Value(struct_value=card)


def _slug() -> str:
    return f"o-{uuid.uuid4().hex[:12]}"


async def _without_agent(family: Family) -> None:
    with contextlib.suppress(Refused):
        await family.org.rpc(configuration.RemoveAgentRequest(workspace_id=family.own.id))


async def _with_agent(family: Family) -> None:
    await _without_agent(family)
    await family.org.rpc(
        configuration.AssignAgentRequest(workspace_id=family.own.id, model="sonnet")
    )


async def _get_agent(family: Family) -> Message:
    await _with_agent(family)
    return configuration.GetAgentRequest(workspace_id=family.own.id)


async def _assign_agent(family: Family) -> Message:
    await _without_agent(family)
    return configuration.AssignAgentRequest(workspace_id=family.own.id, model="sonnet")


async def _replace_agent(family: Family) -> Message:
    await _with_agent(family)
    return configuration.ReplaceAgentRequest(workspace_id=family.own.id, model="opus")


async def _remove_agent(family: Family) -> Message:
    await _with_agent(family)
    return configuration.RemoveAgentRequest(workspace_id=family.own.id)


async def _move_agent(family: Family) -> Message:
    await _with_agent(family)
    spare = await family.org.hire()
    return configuration.MoveAgentRequest(workspace_id=family.own.id, target_workspace_id=spare.id)


async def _delete_secret(family: Family) -> Message:
    request = workspace.SetSecretRequest(workspace_id=family.own.id, key="OLD", value="x")
    await family.own.rpc(request)
    return workspace.DeleteSecretRequest(workspace_id=family.own.id, key="OLD")


async def _delete_shared_secret(family: Family) -> Message:
    """Of whoever calls: each of the three has it."""
    for party in (family.org, family.other_org, family.operator):
        await party.rpc(workspace.SetSharedSecretRequest(key="OLD", value="x"))
    return workspace.DeleteSharedSecretRequest(key="OLD")


async def an_approval(agent: Agent) -> str:
    """The id of a request for an approval that nobody has decided yet."""
    request = approval.CreateApprovalRequest(workspace_id=agent.id, action="publish")
    return str((await agent.rpc(request)).approval_id)


async def _decide_approval(family: Family) -> Message:
    return approval.DecideApprovalRequest(
        workspace_id=family.own.id,
        approval_id=await an_approval(family.own),
        decision=approval.Approval.approved,
    )


async def a_schedule(agent: Agent) -> str:
    """The id of a schedule of an agent whose time does not come during a test."""
    made = await agent.rpc(
        schedule.CreateScheduleRequest(
            workspace_id=agent.id, name=uuid.uuid4().hex, cron_expr="0 0 1 1 *", prompt="p"
        )
    )
    created: str = made.id
    return created


async def _update_schedule(family: Family) -> Message:
    return schedule.UpdateScheduleRequest(
        workspace_id=family.own.id, schedule_id=await a_schedule(family.own), prompt="other"
    )


async def _delete_schedule(family: Family) -> Message:
    return schedule.DeleteScheduleRequest(
        workspace_id=family.own.id, schedule_id=await a_schedule(family.own)
    )


async def _run_schedule(family: Family) -> Message:
    return schedule.RunScheduleRequest(
        workspace_id=family.own.id, schedule_id=await a_schedule(family.own), deliver=True
    )


async def _list_schedule_runs(family: Family) -> Message:
    return schedule.ListScheduleRunsRequest(
        workspace_id=family.own.id, schedule_id=await a_schedule(family.own)
    )


async def _delete_workspace(family: Family) -> Message:
    spare = await family.org.hire()
    return workspace.DeleteWorkspaceRequest(workspace_id=spare.id)


async def _pause_workspace(family: Family) -> Message:
    """Of a workspace that is not paused by an earlier call."""
    await family.database.execute(
        "UPDATE workspaces SET status = 'online' WHERE id = $1 AND status = 'paused'", family.own.id
    )
    return workspace.PauseWorkspaceRequest(workspace_id=family.own.id)


async def _resume_workspace(family: Family) -> Message:
    """Of a workspace that is paused."""
    await family.database.execute(
        "UPDATE workspaces SET status = 'paused' WHERE id = $1 AND status <> 'removed'",
        family.own.id,
    )
    return workspace.ResumeWorkspaceRequest(workspace_id=family.own.id)


async def _revoke_token(family: Family) -> Message:
    token_id = await a_token(family.own)
    return workspace.RevokeTokenRequest(workspace_id=family.own.id, token_id=token_id)


async def _update_delegation(family: Family) -> Message:
    return delegation.UpdateDelegationRequest(
        workspace_id=family.own.id,
        delegation_id=await a_delegation(family.related, family.own),
        status=delegation_pb2.Delegation.completed,
        response_preview="done",
    )


async def _heartbeat_delegation(family: Family) -> Message:
    return delegation.HeartbeatDelegationRequest(
        workspace_id=family.own.id, delegation_id=await a_delegation(family.related, family.own)
    )


async def _cancel_delegation(family: Family) -> Message:
    return delegation.CancelDelegationRequest(
        workspace_id=family.own.id, delegation_id=await a_delegation(family.own, family.related)
    )


async def _watch_delegation(family: Family) -> Message:
    return delegation.WatchDelegationRequest(
        workspace_id=family.own.id, delegation_id=await a_delegation(family.own, family.related)
    )


async def _get_delegation(family: Family) -> Message:
    return delegation.GetDelegationRequest(
        workspace_id=family.own.id, delegation_id=await a_delegation(family.own, family.related)
    )


async def _get_activity(family: Family) -> Message:
    item = (await an_item(family, family.own)).items[0]
    return delegation.GetActivityRequest(workspace_id=family.own.id, activity_id=item.activity_id)


async def _ack_inbox(family: Family) -> Message:
    item = (await an_item(family, family.own)).items[0]
    return delegation.AckInboxRequest(
        workspace_id=family.own.id, activity_ids=[item.activity_id], seqs=[item.seq]
    )


async def _nack_inbox(family: Family) -> Message:
    item = (await an_item(family, family.own)).items[0]
    return delegation.NackInboxRequest(workspace_id=family.own.id, seq=item.seq)


async def a_dead_letter(family: Family, agent: Agent) -> int:
    """The number of an item that an agent gave back too often."""
    item = (await an_item(family, agent)).items[0]
    for _ in range(5):
        await agent.rpc(delegation.NackInboxRequest(workspace_id=agent.id, seq=item.seq))
    return int(item.seq)


async def a_queued_message(family: Family, target: Agent) -> str:
    """The id of a human's message that waits for an agent."""
    queued: uuid.UUID = await family.database.fetchval(
        "INSERT INTO a2a_queue (id, workspace_id, body, method, next_attempt_at)"
        " VALUES (gen_random_uuid(), $1, '{}', 'message/send', now() + interval '1 hour')"
        " RETURNING id",
        target.id,
    )
    return str(queued)


_CONTENT = b"hello"


async def an_upload(agent: Agent) -> str:
    """The id of an upload that has begun."""
    request = upload.StartUploadRequest(workspace_id=agent.id, name="a.txt", size=len(_CONTENT))
    return str((await agent.rpc(request)).upload_id)


async def a_written_upload(agent: Agent) -> str:
    """The id of an upload whose bytes are all there."""
    upload_id = await an_upload(agent)
    path = f"/workspaces/{agent.id}/uploads/{upload_id}"
    await agent.wire.http.put(path, content=_CONTENT, headers=agent.headers)
    return upload_id


async def a_file(agent: Agent) -> str:
    """The id of a file that waits for an agent."""
    upload_id = await a_written_upload(agent)
    request = upload.CommitUploadRequest(
        workspace_id=agent.id, upload_id=upload_id, sha256=hashlib.sha256(_CONTENT).hexdigest()
    )
    return str((await agent.rpc(request)).upload_id)


async def _revoke_org_token(family: Family) -> Message:
    return admin.RevokeOrgTokenRequest(token_id=await an_org_token(family.org))


def _a_digest() -> str:
    return f"sha256:{hashlib.sha256(uuid.uuid4().bytes).hexdigest()}"


async def _unpin_image(family: Family) -> Message:
    await family.operator.rpc(admin.PinImageRequest(runtime="crewai", digest=_a_digest()))
    return admin.UnpinImageRequest(runtime="crewai")


async def _rollback_image(family: Family) -> Message:
    for _ in range(2):
        await family.operator.rpc(admin.PinImageRequest(runtime="hermes", digest=_a_digest()))
    return admin.RollbackImageRequest(runtime="hermes")


async def _retry_delegation(family: Family) -> Message:
    failed = await a_delegation(family.own, family.related)
    await family.own.rpc(
        delegation.CancelDelegationRequest(workspace_id=family.own.id, delegation_id=failed)
    )
    return admin.RetryDelegationRequest(delegation_id=failed)


async def _replay_dead_letter(family: Family) -> Message:
    seq = await a_dead_letter(family, family.own)
    return admin.ReplayDeadLetterRequest(workspace_id=family.own.id, seq=seq)


async def _drop_dead_letter(family: Family) -> Message:
    seq = await a_dead_letter(family, family.own)
    return admin.DropDeadLetterRequest(workspace_id=family.own.id, seq=seq)


async def _get_queued_message(family: Family) -> Message:
    queue_id = await a_queued_message(family, family.own)
    return delegation.GetQueuedMessageRequest(workspace_id=family.own.id, queue_id=queue_id)


def _post_uploads(family: Family) -> Message:
    part = b'content-disposition: form-data; name="files"; filename="a.txt"\r\n\r\n' + _CONTENT
    return upload.PostUploadsRequest(
        workspace_id=family.own.id,
        body=httpbody_pb2.HttpBody(
            content_type="multipart/form-data; boundary=x",
            data=b"--x\r\n" + part + b"\r\n--x--\r\n",
        ),
    )


def _stage_uploads(family: Family) -> list[Message]:
    frame = upload.StageUploadsRequest
    return [
        frame(begin=frame.Begin(workspace_id=family.own.id)),
        frame(file=frame.File(name="a.txt")),
        frame(chunk=_CONTENT),
    ]


async def _write_upload(family: Family) -> Message:
    return upload.WriteUploadRequest(
        workspace_id=family.own.id,
        upload_id=await an_upload(family.own),
        body=httpbody_pb2.HttpBody(data=_CONTENT),
    )


async def _commit_upload(family: Family) -> Message:
    return upload.CommitUploadRequest(
        workspace_id=family.own.id,
        upload_id=await a_written_upload(family.own),
        sha256=hashlib.sha256(_CONTENT).hexdigest(),
    )


async def _get_upload(family: Family) -> Message:
    upload_id = await an_upload(family.own)
    return upload.GetUploadRequest(workspace_id=family.own.id, upload_id=upload_id)


async def _get_upload_content(family: Family) -> Message:
    file_id = await a_file(family.own)
    return upload.GetUploadContentRequest(workspace_id=family.own.id, file_id=file_id)


async def _ack_upload(family: Family) -> Message:
    file_id = await a_file(family.own)
    return upload.AckUploadRequest(workspace_id=family.own.id, file_id=file_id)


def a_draft() -> memory_pb2.MemoryDraft:
    """A memory that nobody has committed yet."""
    return memory_pb2.MemoryDraft(content=f"note {uuid.uuid4().hex}")


async def a_memory(agent: Agent) -> str:
    """The id of a memory that an agent committed just now."""
    request = memory.CommitMemoryRequest(workspace_id=agent.id, memory=a_draft())
    return str((await agent.rpc(request)).id)


async def _explain_memory(family: Family) -> Message:
    return memory.ExplainMemoryRequest(
        workspace_id=family.own.id, memory_id=await a_memory(family.own)
    )


async def _get_memory(family: Family) -> Message:
    return memory.GetMemoryRequest(workspace_id=family.own.id, memory_id=await a_memory(family.own))


async def _get_memory_history(family: Family) -> Message:
    return memory.GetMemoryHistoryRequest(
        workspace_id=family.own.id, memory_id=await a_memory(family.own)
    )


async def _update_memory(family: Family) -> Message:
    return memory.UpdateMemoryRequest(
        workspace_id=family.own.id,
        memory_id=await a_memory(family.own),
        content=f"changed {uuid.uuid4().hex}",
    )


async def _supersede_memory(family: Family) -> Message:
    return memory.SupersedeMemoryRequest(
        workspace_id=family.own.id, memory_id=await a_memory(family.own), memory=a_draft()
    )


async def _forget_memory(family: Family) -> Message:
    return memory.ForgetMemoryRequest(
        workspace_id=family.own.id, memory_id=await a_memory(family.own)
    )


async def _consolidate_memories(family: Family) -> memory.ConsolidateMemoriesRequest:
    return memory.ConsolidateMemoriesRequest(
        workspace_id=family.own.id,
        memory_ids=[await a_memory(family.own), await a_memory(family.own)],
        memory=a_draft(),
    )


async def _undo_consolidation(family: Family) -> Message:
    done = await family.own.rpc(await _consolidate_memories(family))
    return memory.UndoConsolidationRequest(workspace_id=family.own.id, memory_id=done.result.id)


async def _update_scoped_memory(family: Family) -> Message:
    return memory.UpdateScopedMemoryRequest(
        workspace_id=family.own.id,
        memory_id=await a_memory(family.own),
        content=f"changed {uuid.uuid4().hex}",
    )


async def _delete_scoped_memory(family: Family) -> Message:
    return memory.DeleteScopedMemoryRequest(
        workspace_id=family.own.id, memory_id=await a_memory(family.own)
    )


def _set_value(family: Family, key: str = "") -> memory.SetValueRequest:
    return memory.SetValueRequest(
        workspace_id=family.own.id,
        key=key or uuid.uuid4().hex,
        value=struct_pb2.Value(number_value=1),
    )


async def _get_value(family: Family) -> Message:
    await family.own.rpc(_set_value(family, "known"))
    return memory.GetValueRequest(workspace_id=family.own.id, key="known")


async def _move_memory_namespace(family: Family) -> Message:
    await a_memory(family.own)
    return admin.MoveMemoryNamespaceRequest(
        organization_id=family.org.id,
        source=f"workspace:{family.own.id}",
        target=f"custom:{uuid.uuid4().hex}",
    )


async def _delete_memory_namespace(family: Family) -> Message:
    await a_memory(family.own)
    return admin.DeleteMemoryNamespaceRequest(
        organization_id=family.org.id, namespace=f"workspace:{family.own.id}"
    )


_FACTORIES: dict[str, dict[str, Factory]] = {
    "WorkspaceService": {
        "ListSecrets": lambda f: workspace.ListSecretsRequest(workspace_id=f.own.id),
        "GetSecretValues": lambda f: workspace.GetSecretValuesRequest(workspace_id=f.own.id),
        "SetSecret": lambda f: workspace.SetSecretRequest(
            workspace_id=f.own.id, key="K", value=uuid.uuid4().hex
        ),
        "DeleteSecret": _delete_secret,
        "ListSharedSecrets": lambda f: workspace.ListSharedSecretsRequest(),
        "SetSharedSecret": lambda f: workspace.SetSharedSecretRequest(
            key="K", value=uuid.uuid4().hex
        ),
        "DeleteSharedSecret": _delete_shared_secret,
        "ReencryptSecrets": lambda f: workspace.ReencryptSecretsRequest(),
        "ExportBundle": lambda f: bundle.ExportBundleRequest(workspace_id=f.own.id),
        "ImportBundle": lambda f: bundle.ImportBundleRequest(
            bundle=bundle.Bundle(
                name=f"bundled {uuid.uuid4().hex}", prompts={"config.yaml": "runtime: external"}
            ),
            organization_id=f.org.id,
        ),
        "GetConfig": lambda f: configuration.GetConfigRequest(workspace_id=f.own.id),
        "PatchConfig": lambda f: configuration.PatchConfigRequest(
            workspace_id=f.own.id, data=_card()
        ),
        "GetModel": lambda f: configuration.GetModelRequest(workspace_id=f.own.id),
        "SetModel": lambda f: configuration.SetModelRequest(
            workspace_id=f.own.id, model=uuid.uuid4().hex
        ),
        "GetBudget": lambda f: configuration.GetBudgetRequest(workspace_id=f.own.id),
        "SetBudget": lambda f: configuration.SetBudgetRequest(
            workspace_id=f.own.id, budget_limit=struct_pb2.Value(number_value=1e9)
        ),
        "GetUsage": lambda f: configuration.GetUsageRequest(workspace_id=f.own.id),
        "GetAgent": _get_agent,
        "AssignAgent": _assign_agent,
        "ReplaceAgent": _replace_agent,
        "RemoveAgent": _remove_agent,
        "MoveAgent": _move_agent,
        "CreateApproval": lambda f: approval.CreateApprovalRequest(
            workspace_id=f.own.id, action=uuid.uuid4().hex
        ),
        "ListApprovals": lambda f: approval.ListApprovalsRequest(workspace_id=f.own.id),
        "ListPendingApprovals": lambda f: approval.ListPendingApprovalsRequest(),
        "DecideApproval": _decide_approval,
        "GetViewport": lambda f: viewport.GetViewportRequest(),
        "SetViewport": lambda f: viewport.SetViewportRequest(x=1, y=2),
        "ListSchedules": lambda f: schedule.ListSchedulesRequest(workspace_id=f.own.id),
        "CreateSchedule": lambda f: schedule.CreateScheduleRequest(
            workspace_id=f.own.id, name=uuid.uuid4().hex, cron_expr="0 0 1 1 *", prompt="p"
        ),
        "UpdateSchedule": _update_schedule,
        "DeleteSchedule": _delete_schedule,
        "RunSchedule": _run_schedule,
        "ListScheduleRuns": _list_schedule_runs,
        "GetScheduleHealth": lambda f: schedule.GetScheduleHealthRequest(
            workspace_id=f.related.id, caller_id=f.own.id
        ),
        "ListScheduleHealth": lambda f: schedule.ListScheduleHealthRequest(),
        "CreateWorkspace": lambda f: workspace.CreateWorkspaceRequest(
            name=f"agent {uuid.uuid4().hex}", external=True, organization_id=f.org.id
        ),
        "ListWorkspaces": lambda f: workspace.ListWorkspacesRequest(),
        "GetWorkspace": lambda f: workspace.GetWorkspaceRequest(workspace_id=f.own.id),
        "GetWorkspaceState": lambda f: workspace.GetWorkspaceStateRequest(workspace_id=f.own.id),
        "UpdateWorkspace": lambda f: workspace.UpdateWorkspaceRequest(
            workspace_id=f.own.id, role=uuid.uuid4().hex
        ),
        "Register": lambda f: workspace.RegisterRequest(id=f.own.id, agent_card=_card()),
        "Heartbeat": lambda f: workspace.HeartbeatRequest(workspace_id=f.own.id, active_tasks=1),
        "UpdateCard": lambda f: workspace.UpdateCardRequest(
            workspace_id=f.own.id, agent_card=_card()
        ),
        "Discover": lambda f: workspace.DiscoverRequest(target_id=f.related.id, caller_id=f.own.id),
        "ListPeers": lambda f: workspace.ListPeersRequest(workspace_id=f.own.id),
        "CheckAccess": lambda f: workspace.CheckAccessRequest(
            caller_id=f.own.id, target_id=f.related.id
        ),
        "GetQuota": lambda f: workspace.GetQuotaRequest(),
        "ExchangeBootstrapToken": lambda f: bootstrap_pb2.ExchangeBootstrapTokenRequest(
            workspace_id=f.own.id, bootstrap_token=uuid.uuid4().hex
        ),
        "ListOperations": lambda f: workspace.ListOperationsRequest(workspace_id=f.own.id),
        "ListWorkspaceFiles": lambda f: workspace.ListWorkspaceFilesRequest(workspace_id=f.own.id),
        "ReadWorkspaceFile": lambda f: workspace.ReadWorkspaceFileRequest(
            workspace_id=f.own.id, path="config.yaml"
        ),
        "WriteWorkspaceFile": lambda f: workspace.WriteWorkspaceFileRequest(
            workspace_id=f.own.id,
            path="notes/a.txt",
            body=httpbody_pb2.HttpBody(content_type="text/plain", data=_CONTENT),
        ),
        "DeleteWorkspaceFile": lambda f: workspace.DeleteWorkspaceFileRequest(
            workspace_id=f.own.id, path="notes/a.txt"
        ),
        "WatchWorkspaceLogs": lambda f: workspace.WatchWorkspaceLogsRequest(workspace_id=f.own.id),
        "ExecWorkspace": lambda f: workspace.ExecWorkspaceRequest(
            start=workspace.ExecWorkspaceRequest.Start(workspace_id=f.own.id, argv=["true"])
        ),
        "GetWorkspaceConsole": lambda f: workspace.GetWorkspaceConsoleRequest(
            workspace_id=f.own.id
        ),
        "GetWorkspaceStats": lambda f: workspace.GetWorkspaceStatsRequest(workspace_id=f.own.id),
        "ListWorkspaceStats": lambda f: workspace.ListWorkspaceStatsRequest(),
        "GetEgress": lambda f: workspace.GetEgressRequest(workspace_id=f.own.id),
        "ListTokens": lambda f: workspace.ListTokensRequest(workspace_id=f.own.id),
        "CreateToken": lambda f: workspace.CreateTokenRequest(workspace_id=f.own.id),
        "GetExternalConnection": lambda f: workspace.GetExternalConnectionRequest(
            workspace_id=f.own.id
        ),
        "RotateExternalCredentials": lambda f: workspace.RotateExternalCredentialsRequest(
            workspace_id=f.own.id
        ),
        "DeleteWorkspace": _delete_workspace,
        "RestartWorkspace": lambda f: workspace.RestartWorkspaceRequest(workspace_id=f.own.id),
        "PauseWorkspace": _pause_workspace,
        "ResumeWorkspace": _resume_workspace,
        "HibernateWorkspace": lambda f: workspace.HibernateWorkspaceRequest(workspace_id=f.own.id),
        "WakeWorkspace": lambda f: workspace.WakeWorkspaceRequest(workspace_id=f.own.id),
        "CollapseWorkspace": lambda f: workspace.CollapseWorkspaceRequest(workspace_id=f.own.id),
        "RevokeToken": _revoke_token,
    },
    "DelegationService": {
        "Delegate": lambda f: delegation.DelegateRequest(
            workspace_id=f.own.id, target_id=f.related.id, task="work"
        ),
        "RecordDelegation": lambda f: delegation.RecordDelegationRequest(
            workspace_id=f.own.id,
            target_id=f.related.id,
            task="work",
            delegation_id=uuid.uuid4().hex,
        ),
        "ListDelegations": lambda f: delegation.ListDelegationsRequest(workspace_id=f.own.id),
        "SendMessage": lambda f: a_message(f.related, source_id=f.own.id),
        "ListActivity": lambda f: delegation.ListActivityRequest(workspace_id=f.own.id),
        "ReportActivity": lambda f: delegation.ReportActivityRequest(
            workspace_id=f.own.id, activity_type="agent_log", target_id=f.related.id
        ),
        "Notify": lambda f: delegation.NotifyRequest(workspace_id=f.own.id, message="hello"),
        "SubscribeInbox": lambda f: delegation.SubscribeInboxRequest(
            hello=delegation.SubscribeInboxRequest.Hello(
                workspace_id=f.own.id, consumer_id="me", takeover=True
            )
        ),
        "StreamInbox": lambda f: delegation.StreamInboxRequest(workspace_id=f.own.id),
        "SubscribeEvents": lambda f: event_pb2.SubscribeEventsRequest(workspace_id=f.own.id),
        "StreamEvents": lambda f: event_pb2.SubscribeEventsRequest(workspace_id=f.own.id),
        "SearchSession": lambda f: delegation.SearchSessionRequest(workspace_id=f.own.id),
        "GetQueuedMessage": _get_queued_message,
        "PullInbox": lambda f: delegation.PullInboxRequest(workspace_id=f.own.id),
        "CallMcp": lambda f: delegation.CallMcpRequest(
            workspace_id=f.own.id,
            body=httpbody_pb2.HttpBody(data=b'{"jsonrpc":"2.0","id":1,"method":"ping"}'),
        ),
        "StreamMcp": lambda f: delegation.StreamMcpRequest(workspace_id=f.own.id),
        "UpdateDelegation": _update_delegation,
        "HeartbeatDelegation": _heartbeat_delegation,
        "CancelDelegation": _cancel_delegation,
        "WatchDelegation": _watch_delegation,
        "GetDelegation": _get_delegation,
        "GetActivity": _get_activity,
        "AckInbox": _ack_inbox,
        "NackInbox": _nack_inbox,
    },
    "AdminService": {
        "GetHealth": lambda f: admin.GetHealthRequest(),
        "GetLiveness": lambda f: admin.GetLivenessRequest(),
        "CreateOrganization": lambda f: admin.CreateOrganizationRequest(slug=_slug()),
        "ListOrganizations": lambda f: admin.ListOrganizationsRequest(),
        "CreateOrgToken": lambda f: admin.CreateOrgTokenRequest(organization_id=f.org.id),
        "ListOrgTokens": lambda f: admin.ListOrgTokensRequest(),
        "IssueTestToken": lambda f: admin.IssueTestTokenRequest(workspace_id=f.own.id),
        "ListDelegations": lambda f: admin.ListDelegationsRequest(),
        "GetDelegationStats": lambda f: admin.GetDelegationStatsRequest(),
        "RevokeOrgToken": _revoke_org_token,
        "RetryDelegation": _retry_delegation,
        "ListDeadLetters": lambda f: admin.ListDeadLettersRequest(),
        "ReplayDeadLetter": _replay_dead_letter,
        "DropDeadLetter": _drop_dead_letter,
        "DropStaleQueue": lambda f: admin.DropStaleQueueRequest(),
        "ListAuditLog": lambda f: admin.ListAuditLogRequest(),
        "ListEvents": lambda f: admin.ListEventsRequest(),
        "ExportMemories": lambda f: admin.ExportMemoriesRequest(organization_id=f.org.id),
        "ImportMemories": lambda f: [
            admin.ImportMemoriesRequest(
                organization_id=f.org.id, body=httpbody_pb2.HttpBody(data=b"[]")
            )
        ],
        "SetMemoryGrant": lambda f: admin.SetMemoryGrantRequest(
            workspace_id=f.own.id, namespace="custom:shared", can_write=True
        ),
        "ListMemoryGrants": lambda f: admin.ListMemoryGrantsRequest(),
        "DeleteMemoryGrant": lambda f: admin.DeleteMemoryGrantRequest(
            workspace_id=f.own.id, namespace="custom:shared"
        ),
        "MoveMemoryNamespace": _move_memory_namespace,
        "DeleteMemoryNamespace": _delete_memory_namespace,
        "GetMemoryStats": lambda f: admin.GetMemoryStatsRequest(organization_id=f.org.id),
        "SetAuthorQuarantine": lambda f: admin.SetAuthorQuarantineRequest(
            workspace_id=f.own.id, reason="test"
        ),
        "ListAuthorQuarantines": lambda f: admin.ListAuthorQuarantinesRequest(),
        "DeleteAuthorQuarantine": lambda f: admin.DeleteAuthorQuarantineRequest(
            workspace_id=f.own.id
        ),
        "ListImages": lambda f: admin.ListImagesRequest(),
        "PinImage": lambda f: admin.PinImageRequest(runtime="autogen", digest=_a_digest()),
        "UnpinImage": _unpin_image,
        "PromoteImage": lambda f: admin.PromoteImageRequest(runtime="autogen"),
        "RollbackImage": _rollback_image,
        "RefreshImages": lambda f: admin.RefreshImagesRequest(runtime="autogen"),
        "ListOrgTemplates": lambda f: template_pb2.ListOrgTemplatesRequest(),
        "ListTemplates": lambda f: template_pb2.ListTemplatesRequest(),
        "ImportOrg": lambda f: template_pb2.ImportOrgRequest(
            organization_id=f.org.id, template=_org_template()
        ),
    },
    "MemoryService": {
        "CommitMemory": lambda f: memory.CommitMemoryRequest(
            workspace_id=f.own.id, memory=a_draft()
        ),
        "BatchCommitMemories": lambda f: memory.BatchCommitMemoriesRequest(
            workspace_id=f.own.id, memories=[a_draft()]
        ),
        "CommitSummary": lambda f: memory.CommitSummaryRequest(
            workspace_id=f.own.id, memory=a_draft()
        ),
        "SearchMemories": lambda f: memory.SearchMemoriesRequest(workspace_id=f.own.id, q="note"),
        "ExplainMemory": _explain_memory,
        "GetMemory": _get_memory,
        "GetMemoryHistory": _get_memory_history,
        "UpdateMemory": _update_memory,
        "SupersedeMemory": _supersede_memory,
        "ForgetMemory": _forget_memory,
        "ConsolidateMemories": _consolidate_memories,
        "UndoConsolidation": _undo_consolidation,
        "ListNamespaces": lambda f: memory.ListNamespacesRequest(workspace_id=f.own.id),
        "SetNamespaceLanguage": lambda f: memory.SetNamespaceLanguageRequest(
            workspace_id=f.own.id, language="german"
        ),
        "GetMemoryHygiene": lambda f: memory.GetMemoryHygieneRequest(workspace_id=f.own.id),
        "CommitScopedMemory": lambda f: memory.CommitScopedMemoryRequest(
            workspace_id=f.own.id, content=uuid.uuid4().hex, scope="LOCAL"
        ),
        "ListScopedMemories": lambda f: memory.ListScopedMemoriesRequest(workspace_id=f.own.id),
        "UpdateScopedMemory": _update_scoped_memory,
        "DeleteScopedMemory": _delete_scoped_memory,
        "ListValues": lambda f: memory.ListValuesRequest(workspace_id=f.own.id),
        "GetValue": _get_value,
        "SetValue": _set_value,
        "DeleteValue": lambda f: memory.DeleteValueRequest(workspace_id=f.own.id, key="k"),
    },
    "UploadService": {
        "PostUploads": _post_uploads,
        "StageUploads": _stage_uploads,
        "StartUpload": lambda f: upload.StartUploadRequest(
            workspace_id=f.own.id, name="a.txt", size=1
        ),
        "WriteUpload": _write_upload,
        "CommitUpload": _commit_upload,
        "GetUpload": _get_upload,
        "ListPendingUploads": lambda f: upload.ListPendingUploadsRequest(workspace_id=f.own.id),
        "GetUploadContent": _get_upload_content,
        "AckUpload": _ack_upload,
        "GetUploadLimits": lambda f: upload.GetUploadLimitsRequest(),
        "DownloadFile": lambda f: upload.DownloadFileRequest(
            workspace_id=f.own.id, path="/workspace/a.txt"
        ),
    },
}


def known_rpcs() -> set[str]:
    """Names of the RPCs that have a factory, with their service."""
    return {f"{service}.{name}" for service, made in _FACTORIES.items() for name in made}


async def valid_frames(rpc: Rpc, family: Family) -> list[Message]:
    """A request that acts as `family.own` on what the caller may see, with fresh ids each time.

    Several of them where the RPC takes a stream.

    Raises:
        KeyError: nobody has said yet how a request of this RPC looks.
    """
    made = _FACTORIES[rpc.service.rpartition(".")[2]][rpc.name](family)
    if inspect.isawaitable(made):
        made = await made
    return made if isinstance(made, list) else [made]
