"""A request of every RPC that succeeds when its rightful caller sends it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Awaitable, Callable

from google.api import httpbody_pb2
from google.protobuf import struct_pb2
from google.protobuf.message import Message
from moleculeai.admin.v1 import admin_service_pb2 as admin
from moleculeai.delegation.v1 import delegation_pb2
from moleculeai.delegation.v1 import delegation_service_pb2 as delegation
from moleculeai.workspace.v1 import workspace_service_pb2 as workspace

from tests.e2e.families import Family
from tests.e2e.parties import Agent, Organization
from tools.descriptors import Rpc

Factory = Callable[[Family], Message | Awaitable[Message]]


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


def _card() -> struct_pb2.Value:
    card = struct_pb2.Struct()
    card.update({"name": "agent"})
    return struct_pb2.Value(struct_value=card)


def _slug() -> str:
    return f"o-{uuid.uuid4().hex[:12]}"


async def _delete_workspace(family: Family) -> Message:
    spare = await family.org.hire()
    return workspace.DeleteWorkspaceRequest(workspace_id=spare.id)


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


async def _revoke_org_token(family: Family) -> Message:
    return admin.RevokeOrgTokenRequest(token_id=await an_org_token(family.org))


_FACTORIES: dict[str, dict[str, Factory]] = {
    "WorkspaceService": {
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
        "ListTokens": lambda f: workspace.ListTokensRequest(workspace_id=f.own.id),
        "CreateToken": lambda f: workspace.CreateTokenRequest(workspace_id=f.own.id),
        "GetExternalConnection": lambda f: workspace.GetExternalConnectionRequest(
            workspace_id=f.own.id
        ),
        "RotateExternalCredentials": lambda f: workspace.RotateExternalCredentialsRequest(
            workspace_id=f.own.id
        ),
        "DeleteWorkspace": _delete_workspace,
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
    },
}


def known_rpcs() -> set[str]:
    """Names of the RPCs that have a factory, with their service."""
    return {f"{service}.{name}" for service, made in _FACTORIES.items() for name in made}


async def valid_request(rpc: Rpc, family: Family) -> Message:
    """A request that acts as `family.own` on what the caller may see, with fresh ids each time.

    Raises:
        KeyError: nobody has said yet how a request of this RPC looks.
    """
    made = _FACTORIES[rpc.service.rpartition(".")[2]][rpc.name](family)
    return made if isinstance(made, Message) else await made
