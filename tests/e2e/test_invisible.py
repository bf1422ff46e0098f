"""What belongs to another organisation reads exactly like what does not exist."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from moleculeai.delegation.v1 import delegation_service_pb2
from moleculeai.workspace.v1 import workspace_service_pb2

from tests.e2e.families import Family
from tests.e2e.outcomes import Outcome, call, call_rest
from tests.e2e.parties import Party
from tests.e2e.valid_requests import (
    a_delegation,
    a_file,
    a_memory,
    a_queued_message,
    a_schedule,
    a_token,
    an_approval,
    an_item,
    an_org_token,
    an_upload,
    valid_frames,
)
from tools.descriptors import Contract, Rpc

RPCS = list(Contract.load().rpcs())
WORKSPACES = {
    "workspace_id", "target_id", "source_id", "caller_id", "id", "parent_id", "after", "peer_id",
    "author_id", "target_workspace_id",
}  # fmt: skip
OTHERS = {
    "delegation_id", "active_delegations", "activity_id", "activity_ids", "since_id", "token_id",
    "organization_id", "queue_id", "upload_id", "file_id", "memory_id", "memory_ids",
    "schedule_id", "approval_id",
}  # fmt: skip
# Ids that callers choose: taking a new one is no question about an old one.
CHOSEN = {
    "Register.id", "RecordDelegation.delegation_id", "ImportBundle.bundle.id",
    "ImportBundle.bundle.skills.id", "ImportBundle.bundle.tools.id",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Named:
    """A field by which a request names something."""

    rpc: Rpc
    path: tuple[FieldDescriptor, ...]

    def __str__(self) -> str:
        return ".".join((self.rpc.name, *(field.name for field in self.path)))

    def set(self, request: Message, value: str) -> None:
        """Let the request name this."""
        for field in self.path[:-1]:
            request = (
                getattr(request, field.name)[0]
                if field.is_repeated
                else (getattr(request, field.name))
            )
        last = self.path[-1]
        if last.is_repeated:
            getattr(request, last.name)[:] = [value]
        elif last.message_type is not None:  # a Value that holds a string
            getattr(request, last.name).string_value = value
        else:
            setattr(request, last.name, value)


def _named(rpc: Rpc) -> Iterator[Named]:
    for path in _paths(rpc.request, ()):
        if str(named := Named(rpc, path)) not in CHOSEN:
            yield named


def _paths(
    message: Descriptor, above: tuple[FieldDescriptor, ...]
) -> Iterator[tuple[FieldDescriptor, ...]]:
    for field in message.fields:
        if field.name in WORKSPACES | OTHERS:
            yield (*above, field)
        elif (
            field.message_type is not None
            and field.message_type.file.package.startswith("mol")
            # A message that contains itself is looked into once.
            and field.message_type not in [each.message_type for each in above]
        ):
            yield from _paths(field.message_type, (*above, field))


NAMED = [named for rpc in RPCS for named in _named(rpc)]


def test_every_field_that_names_something_is_tried() -> None:
    """A new kind of id comes with a foreign example of it."""
    unknown = {
        field.full_name
        for rpc in RPCS
        for field in rpc.request.fields
        if field.name.endswith(("_id", "_ids"))
        and field.name not in WORKSPACES | OTHERS | {"consumer_id", "request_id", "task_id"}
    }
    assert unknown == set()


@pytest.mark.parametrize("role", ["own token", "own organization"])
@pytest.mark.parametrize("named", NAMED, ids=str)
async def test_the_foreign_reads_like_the_missing(named: Named, role: str, family: Family) -> None:
    """Code, text and details are the same, so that nothing can be learned by guessing ids."""
    party = family.parties[role]
    foreign = await _tried(named, family, party, await _foreign(named, family))
    missing = await _tried(named, family, party, str(uuid.uuid4()))
    assert foreign == missing


@pytest.mark.parametrize("named", [n for n in NAMED if n.rpc.bindings], ids=str)
async def test_the_foreign_reads_like_the_missing_in_json(named: Named, family: Family) -> None:
    """Status and body, as an organisation's administrator meets them."""
    foreign = await _tried_rest(named, family, await _foreign(named, family))
    missing = await _tried_rest(named, family, str(uuid.uuid4()))
    assert foreign == missing


async def _foreign(named: Named, family: Family) -> str:
    """Something of the kind that the field names, of another organisation."""
    name = named.path[-1].name
    if str(named).endswith((".memory.id", ".memories.id")):
        return await a_memory(family.foreign)
    if name in WORKSPACES:
        return family.foreign.id
    if name == "organization_id":
        return family.other_org.id
    if name == "token_id":
        is_of_workspace = named.rpc.name == "RevokeToken"
        return await (
            a_token(family.foreign) if is_of_workspace else an_org_token(family.other_org)
        )
    if make := _MAKERS.get(name):
        return await make(family)
    return str((await an_item(family, family.foreign)).items[0].activity_id)


_MAKERS: dict[str, Callable[[Family], Awaitable[str]]] = {
    "delegation_id": lambda f: a_delegation(f.foreign, f.foreign_friend),
    "active_delegations": lambda f: a_delegation(f.foreign, f.foreign_friend),
    "queue_id": lambda f: a_queued_message(f, f.foreign),
    "upload_id": lambda f: an_upload(f.foreign),
    "file_id": lambda f: a_file(f.foreign),
    "memory_id": lambda f: a_memory(f.foreign),
    "memory_ids": lambda f: a_memory(f.foreign),
    "schedule_id": lambda f: a_schedule(f.foreign),
    "approval_id": lambda f: an_approval(f.foreign),
}


async def _tried(named: Named, family: Family, party: Party, value: str) -> Outcome:
    request, *more = await valid_frames(named.rpc, family)
    named.set(request, value)
    frames = [frame.SerializeToString() for frame in (request, *more)]
    outcome = await call(party, named.rpc, *frames)
    return Outcome(outcome.code, outcome.message, outcome.details.replace(value.encode(), b"ID"))


async def _tried_rest(named: Named, family: Family, value: str) -> tuple[int, str]:
    [request] = await valid_frames(named.rpc, family)
    named.set(request, value)
    answer = await call_rest(family.org, named.rpc, request)
    text = answer.text.replace(value, "ID") if answer.status_code >= 400 else ""
    return answer.status_code, text


# Of each kind: who may not act as the workspace learns nothing of how the request is validated.
BROKEN: list[Callable[[Family], Message]] = [
    lambda f: delegation_service_pb2.DelegateRequest(workspace_id=f.own.id, target_id="x"),
    lambda f: delegation_service_pb2.PullInboxRequest(workspace_id=f.own.id, limit=100_000),
    lambda f: workspace_service_pb2.ListTokensRequest(workspace_id=f.own.id, limit=-1),
    lambda f: workspace_service_pb2.RevokeTokenRequest(workspace_id=f.own.id, token_id="x"),
    lambda f: workspace_service_pb2.HeartbeatRequest(workspace_id=f.own.id, active_tasks=-1),
]


@pytest.mark.parametrize("broken", BROKEN)
async def test_who_may_not_call_is_told_that_and_not_what_is_wrong(
    broken: Callable[[Family], Message], bystanders: Family
) -> None:
    request = broken(bystanders)
    [rpc] = [rpc for rpc in RPCS if rpc.request.full_name == request.DESCRIPTOR.full_name]
    told = {
        role: (await call(party, rpc, request.SerializeToString())).code
        for role, party in bystanders.parties.items()
    }
    outside = dict.fromkeys(set(told) - {"foreign organization"}, "UNAUTHENTICATED")
    inside = dict.fromkeys(("own token", "own organization", "operator"), "INVALID_ARGUMENT")
    assert told == {**outside, "foreign organization": "NOT_FOUND", **inside}
