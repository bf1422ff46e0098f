"""Requests to values, and values to responses."""

from __future__ import annotations

import functools
from typing import Any
from uuid import UUID

from google.protobuf import struct_pb2
from moleculeai.workspace.v1 import workspace_pb2
from moleculeai.workspace.v1 import workspace_service_pb2 as pb

from molecule_grpc.auth.store import TokenRow
from molecule_grpc.directory import Heartbeat, HeartbeatResult, InitialMemory, Peer
from molecule_grpc.host_list import OPEN, HostList
from molecule_grpc.kernel.errors import Invalid
from molecule_grpc.kernel.ids import parse_id
from molecule_grpc.kernel.json_values import value
from molecule_grpc.kernel.page import MessagePage, Page, messages_of
from molecule_grpc.kernel.protos import timestamp
from molecule_grpc.kernel.text import clean
from molecule_grpc.workspace import rules
from molecule_grpc.workspace.connecting.convert import connection
from molecule_grpc.workspace.creating import Created
from molecule_grpc.workspace.drafts import NewWorkspace
from molecule_grpc.workspace.lifecycle import Removal
from molecule_grpc.workspace.quota_report import Report
from molecule_grpc.workspace.registry.registration import Announcement
from molecule_grpc.workspace.store.rows import Change, Place, WorkspaceRow

_MOST_CHILDREN = 100
_STATUSES = dict(workspace_pb2.Workspace.Status.items())
_CHANGEABLE = (
    "name", "role", "tier", "runtime", "parent_id", "workspace_dir", "hibernation_idle_minutes",
    "egress",
)  # fmt: skip


# Requests.


def optional_id(text: str, field: str) -> UUID | None:
    """A UUID; None for empty text. Raises `Invalid` for anything else."""
    return parse_id(text, field) if text else None


def new_workspace(request: pb.CreateWorkspaceRequest) -> NewWorkspace:
    """What CreateWorkspace asks for."""
    canvas = request.canvas if request.HasField("canvas") else None
    return NewWorkspace(
        name=request.name,
        role=request.role,
        organization_id=optional_id(request.organization_id, "organization_id"),
        parent_id=optional_id(request.parent_id, "parent_id"),
        tier=request.tier,
        runtime=request.runtime,
        external=request.external,
        url=request.url,
        delivery_mode=stated_mode(request.delivery_mode),
        max_concurrent_tasks=request.max_concurrent_tasks,
        budget_limit=request.budget_limit if request.HasField("budget_limit") else None,
        place=Place(canvas.x, canvas.y) if canvas else None,
        hibernation_idle_minutes=request.hibernation_idle_minutes or None,
        initial_memories=tuple(
            InitialMemory(clean(each.content), each.scope) for each in request.initial_memories
        ),
        secrets=dict(request.secrets),
        egress=_hosts(request),
        template=request.template,
        model=request.model,
        workspace_dir=request.workspace_dir,
        workspace_access=request.workspace_access or rules.NO_ACCESS,
    )


def change(request: pb.UpdateWorkspaceRequest) -> Change:
    """What UpdateWorkspace asks to change of the row.

    Raises:
        Invalid: a parent or a directory is neither text nor null.
    """
    given = {name for name in _CHANGEABLE if request.HasField(name)}  # type: ignore[arg-type]
    parent = _text_or_null(request.parent_id, "parent_id")
    return Change(
        name=request.name if "name" in given else None,
        role=request.role,
        tier=request.tier if "tier" in given else None,
        runtime=request.runtime if "runtime" in given else None,
        parent_id=optional_id(parent, "parent_id"),
        workspace_dir=_text_or_null(request.workspace_dir, "workspace_dir") or None,
        hibernation_idle_minutes=request.hibernation_idle_minutes or None,
        egress=_hosts(request),
        given=frozenset(given),
    )


def place(request: pb.UpdateWorkspaceRequest) -> Place:
    """What UpdateWorkspace asks to change of the place on the canvas."""
    return Place(
        request.x if request.HasField("x") else None,
        request.y if request.HasField("y") else None,
        request.collapsed if request.HasField("collapsed") else None,
    )


def announcement(request: pb.RegisterRequest) -> Announcement:
    """What Register announces."""
    return Announcement(
        workspace_id=parse_id(request.id, "id"),
        card=plain(request.agent_card),
        url=request.url,
        delivery_mode=stated_mode(request.delivery_mode),
    )


def heartbeat(request: pb.HeartbeatRequest) -> Heartbeat:
    """What Heartbeat reports; what it leaves out is None."""
    given: dict[str, Any] = {field.name: value for field, value in request.ListFields()}
    get = given.get
    state = get("runtime_state", "")
    metadata = get("runtime_metadata")
    return Heartbeat(
        workspace_id=parse_id(given.get("workspace_id", ""), "workspace_id"),
        error_rate=get("error_rate"),
        sample_error=_clean(get("sample_error")),
        active_tasks=get("active_tasks"),
        uptime_seconds=get("uptime_seconds"),
        current_task=_clean(get("current_task")),
        monthly_spend=rules.reported_spend(get("monthly_spend")),
        wedged=state == "wedged",
        well=state in ("", "ok"),
        self_managed=metadata is not None and metadata.capabilities.get("status_mgmt", False),
        idle_timeout_seconds=metadata.idle_timeout_seconds
        if metadata is not None and metadata.HasField("idle_timeout_seconds")
        else None,
        active_delegations=tuple(get("active_delegations", ())),
    )


def stated_mode(mode: workspace_pb2.Workspace.DeliveryMode.ValueType) -> str:
    """The mode as stored; empty when none is stated."""
    return workspace_pb2.Workspace.DeliveryMode.Name(mode) if mode else ""


def plain(given: struct_pb2.Value) -> Any:
    """A proto value as `json.loads` would return it, with every number a float."""
    kind = given.WhichOneof("kind")
    if kind == "struct_value":
        return {key: plain(each) for key, each in given.struct_value.fields.items()}
    if kind == "list_value":
        return [plain(each) for each in given.list_value.values]
    return None if kind in (None, "null_value") else getattr(given, kind)


# Responses.


def workspace(row: WorkspaceRow, *, whole: bool) -> workspace_pb2.Workspace:
    """A workspace; without `whole`, what a stranger or a peer may see of it."""
    message = workspace_pb2.Workspace(
        id=str(row.id),
        organization_id=str(row.organization_id),
        name=row.name,
        role=row.role or "",
        tier=row.tier,
        status=status(row.status),
        agent_card=card(row.agent_card),
        url=row.url,
        parent_id=_text(row.parent_id),
        active_tasks=row.active_tasks,
        max_concurrent_tasks=row.max_concurrent_tasks,
        last_error_rate=row.last_error_rate,
        uptime_seconds=row.uptime_seconds,
        runtime=row.runtime,
        x=row.x,
        y=row.y,
        collapsed=row.collapsed,
        hibernation_idle_minutes=row.hibernation_idle_minutes or 0,
        delivery_mode=mode(row.mode_in_force),
        last_heartbeat_at=timestamp(row.last_heartbeat_at),
        last_outbound_at=timestamp(row.last_outbound_at),
        created_at=timestamp(row.created_at),
        updated_at=timestamp(row.updated_at),
    )
    if whole:
        message.current_task = row.current_task
        message.monthly_spend = row.monthly_spend
        for name in ("last_sample_error", "workspace_dir", "budget_limit"):
            if (value := getattr(row, name)) is not None:
                setattr(message, name, value)
    return message


async def workspaces(
    page: Page[WorkspaceRow],
) -> MessagePage[WorkspaceRow, workspace_pb2.Workspace]:
    """Workspaces, whole, as many as fit in 3 MiB."""
    return await messages_of(
        page, functools.partial(workspace, whole=True), workspace_pb2.Workspace.ByteSize
    )


def created(done: Created) -> pb.CreateWorkspaceResponse:
    """The answer to CreateWorkspace."""
    return pb.CreateWorkspaceResponse(
        id=str(done.id),
        status=status(done.status),
        external=done.external,
        awareness_namespace=f"workspace:{done.id}",
        workspace_access=done.workspace_access,
        connection=connection(done.connection) if done.connection else None,
        initial_memories=done.initial_memories,
        last_sample_error=done.reason,
    )


def removal(done: Removal) -> pb.DeleteWorkspaceResponse:
    """The answer to DeleteWorkspace."""
    if not done.unconfirmed:
        return pb.DeleteWorkspaceResponse(
            status="purged" if done.purged else "removed", cascade_deleted=done.descendants
        )
    return pb.DeleteWorkspaceResponse(
        status="confirmation_required",
        message="the workspace has children: repeat with confirm=true to remove them too",
        children=[
            pb.DeleteWorkspaceResponse.Child(id=str(child.id), name=child.name)
            for child in done.unconfirmed[:_MOST_CHILDREN]
        ],
        children_count=len(done.unconfirmed),
    )


def heartbeat_response(done: HeartbeatResult) -> pb.HeartbeatResponse:
    """The answer to Heartbeat."""
    return pb.HeartbeatResponse(
        status="ok",
        platform_inbound_secret=done.inbound_secret,
        workspace_status=status(done.after),
    )


def peer(neighbour: Peer) -> workspace_pb2.Peer:
    """A neighbour, as a workspace may see it."""
    return workspace_pb2.Peer(
        id=str(neighbour.id),
        name=neighbour.name,
        role=neighbour.role,
        tier=neighbour.tier,
        status=status(neighbour.status),
        url=neighbour.url,
        parent_id=_text(neighbour.parent_id),
        active_tasks=neighbour.active_tasks,
        agent_card=card(neighbour.agent_card),
    )


async def peers(page: Page[Peer]) -> MessagePage[Peer, workspace_pb2.Peer]:
    """Neighbours, as many as fit in 3 MiB."""
    return await messages_of(page, peer, workspace_pb2.Peer.ByteSize)


def token(row: TokenRow) -> workspace_pb2.Token:
    """The visible part of a token."""
    return workspace_pb2.Token(
        id=str(row.id),
        prefix=row.prefix,
        created_at=timestamp(row.created_at),
        last_used_at=timestamp(row.last_used_at),
        read_only=row.read_only,
        expires_at=timestamp(row.expires_at),
    )


def status(text: str) -> workspace_pb2.Workspace.Status.ValueType:
    """A stored status."""
    return _STATUSES[text]


def mode(text: str) -> workspace_pb2.Workspace.DeliveryMode.ValueType:
    """A stored delivery mode."""
    return workspace_pb2.Workspace.DeliveryMode.Value(text)


def card(text: str | None) -> struct_pb2.Value:
    """A stored card; JSON null when an agent announced none."""
    return value(text or "null")


def _hosts(request: pb.CreateWorkspaceRequest | pb.UpdateWorkspaceRequest) -> HostList:
    """The hosts that a request names; all where it names none."""
    return HostList.read(plain(request.egress) if request.HasField("egress") else OPEN)


def _text_or_null(given: struct_pb2.Value, field: str) -> str:
    if given.WhichOneof("kind") not in (None, "null_value", "string_value"):
        raise Invalid(f"{field} must be a string or null", field=field)
    return given.string_value


def _clean(text: str | None) -> str | None:
    return None if text is None else clean(text)


def _text(identifier: UUID | None) -> str | None:
    return None if identifier is None else str(identifier)


def quota_report(report: Report) -> pb.GetQuotaResponse:
    """What is used of the limits of an organisation and a workspace."""
    return pb.GetQuotaResponse(
        organization_id=str(report.organization_id),
        workspace_id=str(report.workspace_id or ""),
        quotas=[pb.Quota(**each._asdict()) for each in report.limits],
    )
