"""From what a caller asks for to what is stored, checked as far as that needs no database."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from molecule_grpc.directory import InitialMemory
from molecule_grpc.host_list import ALL_HOSTS, HostList
from molecule_grpc.kernel.errors import Invalid
from molecule_grpc.kernel.ids import new_id
from molecule_grpc.workspace import rules
from molecule_grpc.workspace.status import Status
from molecule_grpc.workspace.store.rows import Change, Place, WorkspaceDraft


@dataclass(frozen=True, slots=True, kw_only=True)
class NewWorkspace:
    """What a caller may choose of a new workspace.

    Args:
        organization_id: None for the caller's own, or the default one.
        tier: 0 for the installation's default.
        runtime: empty for the default.
        external: same as runtime `external`.
        delivery_mode: `push` or `poll`; empty for push with a URL, poll without.
        max_concurrent_tasks: 0 means 1.
        budget_limit: US cents a month.
        place: where on the canvas; None for the origin.
        hibernation_idle_minutes: without a task or message, until it hibernates; None for never.
        initial_memories: what the agent shall know from the start.
        secrets: variables that the agent is started with.
        template: where its configuration comes from; empty for none.
        model: of the agent; empty where its configuration says.
        workspace_dir: directory of the host for the agent's work; empty for a volume of its own.
        workspace_access: `none`, `read_only` or `read_write`: how `workspace_dir` is mounted.
        imported: name and role come from a template, and keep characters that the API refuses.
        egress: hosts that the agent may reach.
    """

    name: str
    role: str = ""
    organization_id: UUID | None = None
    parent_id: UUID | None = None
    tier: int = 0
    runtime: str = ""
    external: bool = False
    url: str = ""
    delivery_mode: str = ""
    max_concurrent_tasks: int = 0
    budget_limit: float | None = None
    place: Place | None = None
    hibernation_idle_minutes: int | None = None
    initial_memories: tuple[InitialMemory, ...] = ()
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    template: str = ""
    model: str = ""
    workspace_dir: str = ""
    workspace_access: str = rules.NO_ACCESS
    imported: bool = False
    egress: HostList = ALL_HOSTS


def draft(
    wanted: NewWorkspace, organization_id: UUID, default_tier: int, *, can_start: bool
) -> WorkspaceDraft:
    """The row that a caller asks for. Its URL is not resolved yet.

    Args:
        can_start: whether there is a backend for what is not external.

    Raises:
        Invalid: a field breaks its rule.
    """
    external = is_external(wanted)
    url, mode = _reach(wanted, external=external)
    return WorkspaceDraft(
        id=new_id(),
        organization_id=organization_id,
        parent_id=wanted.parent_id,
        name=wanted.name if wanted.imported else rules.check_name(wanted.name),
        role=wanted.role if wanted.imported else rules.check_role(wanted.role),
        tier=wanted.tier or default_tier,
        status=_first_status(url, external=external, can_start=can_start),
        runtime=_runtime(wanted, external=external),
        url=url,
        delivery_mode=mode,
        max_concurrent_tasks=wanted.max_concurrent_tasks or 1,
        budget_limit=None if wanted.budget_limit is None else round(wanted.budget_limit),
        last_sample_error=None if external or can_start else rules.NO_BACKEND,
        hibernation_idle_minutes=wanted.hibernation_idle_minutes,
        template=wanted.template,
        model=wanted.model,
        workspace_dir=rules.check_access(wanted.workspace_access, wanted.workspace_dir),
        workspace_access=wanted.workspace_access,
        egress=rules.check_egress(wanted.egress, external=external),
    )


def is_external(wanted: NewWorkspace) -> bool:
    """Whether the agent runs outside of the platform."""
    return wanted.external or wanted.runtime == rules.EXTERNAL


def newcomer(workspace_id: UUID, organization_id: UUID, default_tier: int) -> WorkspaceDraft:
    """The row of an agent that registers under an id that nobody has yet."""
    return WorkspaceDraft(
        id=workspace_id,
        organization_id=organization_id,
        name=str(workspace_id),
        tier=default_tier,
        status=Status.AWAITING_AGENT,
        runtime=rules.EXTERNAL,
    )


def check_change(change: Change) -> Change:
    """A change as it is stored.

    Raises:
        Invalid: a field breaks its rule.
    """
    if change.name is not None:
        rules.check_name(change.name)
    rules.check_role(change.role or "")
    if change.runtime is not None:
        rules.check_runtime(change.runtime)
    if not change.workspace_dir:
        return change
    return dataclasses.replace(change, workspace_dir=rules.check_directory(change.workspace_dir))


def check_first_place(place: Place) -> Place:
    """Where a new workspace goes, both coordinates given.

    Raises:
        Invalid: a coordinate is not a finite number.
    """
    rules.check_place(place.x or 0.0, place.y or 0.0)
    return place


def check_new_place(place: Place) -> Place:
    """A change of a place on the canvas.

    Raises:
        Invalid: only one coordinate is given.
    """
    if (place.x is None) != (place.y is None):
        raise Invalid("x and y go together", field="x" if place.x is None else "y")
    return place


def _runtime(wanted: NewWorkspace, *, external: bool) -> str:
    if external:
        return rules.EXTERNAL
    return rules.check_runtime(wanted.runtime or rules.DEFAULT_RUNTIME)


def _reach(wanted: NewWorkspace, *, external: bool) -> tuple[str, str | None]:
    """URL and stated mode. Only an external agent in push mode is called at a URL of others."""
    if not external:
        return "", wanted.delivery_mode or rules.PUSH
    url = "" if rules.is_remote(wanted.url) else wanted.url.strip()
    return (url if wanted.delivery_mode != rules.POLL else ""), wanted.delivery_mode or None


def _first_status(url: str, *, external: bool, can_start: bool) -> Status:
    """What is not external is started by a backend, or fails at once for want of one."""
    if not external:
        return Status.PROVISIONING if can_start else Status.FAILED
    return Status.ONLINE if url else Status.AWAITING_AGENT
