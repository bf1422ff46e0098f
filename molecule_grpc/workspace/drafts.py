"""From requests to what they ask to be stored, checked as far as that needs no database."""

from __future__ import annotations

from uuid import UUID

from google.protobuf import struct_pb2
from moleculeai.workspace.v1 import workspace_pb2
from moleculeai.workspace.v1 import workspace_service_pb2 as pb

from molecule_grpc.kernel.errors import Invalid
from molecule_grpc.kernel.ids import new_id, parse_id
from molecule_grpc.workspace import rules
from molecule_grpc.workspace.status import Status
from molecule_grpc.workspace.store.workspaces import Change, Place, WorkspaceDraft

_CHANGEABLE = ("name", "role", "tier", "runtime", "parent_id", "workspace_dir")


def draft(
    request: pb.CreateWorkspaceRequest, organization_id: UUID, default_tier: int
) -> WorkspaceDraft:
    """The workspace that a request asks for. Its URL is not resolved yet.

    Raises:
        Invalid: a field breaks its rule.
    """
    external = request.external or request.runtime == rules.EXTERNAL
    url, mode = _reach(request, external=external)
    return WorkspaceDraft(
        id=new_id(),
        organization_id=organization_id,
        parent_id=parse_id(request.parent_id, "parent_id") if request.parent_id else None,
        name=rules.check_name(request.name),
        role=rules.check_role(request.role),
        tier=request.tier or default_tier,
        status=_first_status(url, external=external),
        runtime=_runtime(request, external=external),
        url=url,
        delivery_mode=mode,
        max_concurrent_tasks=request.max_concurrent_tasks or 1,
        budget_limit=round(request.budget_limit) if request.HasField("budget_limit") else None,
        last_sample_error=None if external else rules.NO_BACKEND,
    )


def change(request: pb.UpdateWorkspaceRequest) -> Change:
    """What a request asks to change of the row.

    Raises:
        Invalid: a field breaks its rule.
    """
    given = {name for name in _CHANGEABLE if request.HasField(name)}  # type: ignore[arg-type]
    parent = _text_or_null(request.parent_id, "parent_id")
    directory = _text_or_null(request.workspace_dir, "workspace_dir")
    return Change(
        name=rules.check_name(request.name) if "name" in given else None,
        role=rules.check_role(request.role),
        tier=request.tier if "tier" in given else None,
        runtime=rules.check_runtime(request.runtime) if "runtime" in given else None,
        parent_id=parse_id(parent, "parent_id") if parent else None,
        workspace_dir=rules.check_directory(directory) if directory else None,
        given=frozenset(given),
    )


def first_place(request: pb.CreateWorkspaceRequest) -> Place:
    """Where on the canvas a new workspace goes.

    Raises:
        Invalid: nowhere.
    """
    rules.check_place(request.canvas.x, request.canvas.y)
    return Place(request.canvas.x, request.canvas.y)


def place(request: pb.UpdateWorkspaceRequest) -> Place:
    """What a request asks to change of the place on the canvas.

    Raises:
        Invalid: only one coordinate is given.
    """
    if request.HasField("x") != request.HasField("y"):
        raise Invalid("x and y go together", field="y" if request.HasField("x") else "x")
    return Place(
        request.x if request.HasField("x") else None,
        request.y if request.HasField("y") else None,
        request.collapsed if request.HasField("collapsed") else None,
    )


def stated_mode(mode: workspace_pb2.Workspace.DeliveryMode.ValueType) -> str:
    """The mode as stored; empty when none is stated."""
    return workspace_pb2.Workspace.DeliveryMode.Name(mode) if mode else ""


def _runtime(request: pb.CreateWorkspaceRequest, *, external: bool) -> str:
    if external:
        return rules.EXTERNAL
    return rules.check_runtime(request.runtime or rules.DEFAULT_RUNTIME)


def _reach(request: pb.CreateWorkspaceRequest, *, external: bool) -> tuple[str, str]:
    """URL and mode. Only an external agent in push mode is called at a URL that others chose."""
    stated = stated_mode(request.delivery_mode)
    if not external:
        return "", stated or rules.PUSH
    url = "" if rules.is_remote(request.url) else request.url.strip()
    mode = stated or (rules.PUSH if url else rules.POLL)
    return (url if mode == rules.PUSH else ""), mode


def _first_status(url: str, *, external: bool) -> Status:
    """There is no compute backend: what is not external cannot start."""
    if not external:
        return Status.FAILED
    return Status.ONLINE if url else Status.AWAITING_AGENT


def _text_or_null(given: struct_pb2.Value, field: str) -> str:
    if given.WhichOneof("kind") not in (None, "null_value", "string_value"):
        raise Invalid(f"{field} must be a string or null", field=field)
    return given.string_value
