"""Every RPC has exactly one row in the policy table, and the row fits its request."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from moleculeai.admin.v1 import admin_service_pb2

from molecule_grpc.auth import policy
from molecule_grpc.auth.policy import POLICIES, Policy
from molecule_grpc.auth.principal import Role
from molecule_grpc.server import methods
from molecule_grpc.server.edge.surface import read_surface
from tools.descriptors import DEFAULT_PATH, Contract, Rpc

# What anybody may call. Whoever adds to this list opens a door.
OPEN = {"GetHealth", "GetWorkspace", "GetWorkspaceState", "Register", "ExchangeBootstrapToken"}
# `workspace_id` names whom the call is about, not whom it is made for.
NOT_THE_CALLER = {
    "SendMessage", "GetQueuedMessage", "GetWorkspace", "GetWorkspaceState", "SubscribeEvents",
    "StreamEvents", "GetQuota", "ExchangeBootstrapToken",
    "GetScheduleHealth",
}  # fmt: skip
# Neither reads nor stores: works down or ends what is kept, or notes a time. A nearly full disk
# serves them; whoever adds to this list lets the disk fill up.
SERVED_ON_A_LOW_DISK = {
    "RestartWorkspace", "PauseWorkspace", "ResumeWorkspace", "HibernateWorkspace", "WakeWorkspace",
    "CollapseWorkspace", "ExchangeBootstrapToken",
    "GetHealth", "Heartbeat", "HeartbeatDelegation", "CancelDelegation", "SubscribeInbox",
    "StreamInbox", "AckInbox", "NackInbox", "AckUpload", "DeleteWorkspace",
    "RevokeToken", "RevokeOrgToken", "RotateExternalCredentials", "DropDeadLetter",
    "DropStaleQueue", "StreamMcp", "CallMcp", "ForgetMemory", "UndoConsolidation",
    "DeleteScopedMemory", "DeleteValue", "DeleteMemoryGrant", "MoveMemoryNamespace",
    "DeleteMemoryNamespace", "DeleteAuthorQuarantine",
    "GetSecretValues", "DeleteSecret", "DeleteSharedSecret", "ReencryptSecrets",
    "DeleteWorkspaceFile", "ExecWorkspace",
    "RemoveAgent", "MoveAgent",
    "DeleteSchedule",
    "UnpinImage", "RollbackImage", "RefreshImages",
    "DecideApproval", "SetViewport",
}  # fmt: skip


@pytest.fixture(scope="module")
def rpcs(contract: Contract) -> dict[str, Rpc]:
    return {f"/{rpc.service}/{rpc.name}": rpc for rpc in contract.rpcs()}


def test_every_rpc_has_a_policy_and_nothing_else_has(rpcs: dict[str, Rpc]) -> None:
    """A new RPC cannot be served before somebody decided who may call it."""
    assert set(POLICIES) == set(rpcs)


def test_only_the_known_rpcs_let_strangers_in() -> None:
    """Default deny: a row that admits callers without a token is on this page too."""
    opened = {path.rpartition("/")[2] for path, row in POLICIES.items() if _admits_strangers(row)}
    assert opened == OPEN


def test_every_rpc_reads_or_stores_or_is_known_to_store_next_to_nothing() -> None:
    """A nearly full disk refuses what stores, and nothing that only reads. CallMcp asks by tool."""
    served = set()
    for path, row in POLICIES.items():
        assert not (row.reads and row.stores), path
        if not row.reads and not row.stores:
            served.add(path.rpartition("/")[2])
    assert served == SERVED_ON_A_LOW_DISK


def test_what_only_gets_only_reads() -> None:
    """A read-only token may call each RPC whose REST verb is GET, but for five."""
    unread = {
        rpc.path.rpartition("/")[2]
        for rpc in read_surface(DEFAULT_PATH)
        if rpc.rest and all(form.verb == "GET" for form in rpc.rest)
        if not POLICIES[rpc.path].reads
    }
    # Asked without a token; mints; takes the lease of the inbox; a session of MCP, which may write;
    # shows secrets.
    kept = {"GetHealth", "IssueTestToken", "StreamInbox", "StreamMcp", "GetSecretValues"}
    assert unread == kept


def test_the_operator_may_call_everything() -> None:
    assert all(Role.OPERATOR in row.roles for row in POLICIES.values())


def test_every_policy_names_a_field_that_the_request_has(rpcs: dict[str, Rpc]) -> None:
    """And one that must be a UUID, since the pipeline reads it as such."""
    fields = {
        path: _field(rpcs[path].request, row.workspace)
        for path, row in POLICIES.items()
        if row.workspace
    }
    loose = {path for path, field in fields.items() if not _must_be_uuid(field)}
    # Through REST only the first frame of a body carries the path; the pipeline parses that one,
    # and later frames have none.
    assert {path for path in loose if not rpcs[path].method.client_streaming} == set()
    assert all("uuid" in _rules(fields[path]) for path in loose)


def test_a_request_that_names_the_caller_is_checked_against_the_token(
    rpcs: dict[str, Rpc],
) -> None:
    """A row without `workspace` on such a request would let one workspace act as another."""
    unchecked = {
        rpc.name
        for path, rpc in rpcs.items()
        if "workspace_id" in rpc.request.fields_by_name
        and Role.WORKSPACE in POLICIES[path].roles
        and not POLICIES[path].workspace
    }
    assert unchecked == NOT_THE_CALLER


def test_every_rpc_that_may_last_says_so(rpcs: dict[str, Rpc]) -> None:
    """A revocation in its middle ends each of them, and the edge sets them no time."""
    lasting = {path.rpartition("/")[2] for path, row in POLICIES.items() if row.lasts}
    # A commit copies up to 100 MiB.
    assert lasting == {rpc.name for rpc in rpcs.values() if _lasts(rpc)} | {"CommitUpload"}


def _lasts(rpc: Rpc) -> bool:
    """Whether an RPC streams, waits or carries the bytes of others."""
    raw = "google.api.HttpBody"
    fields = rpc.request.fields
    return (
        rpc.method.client_streaming
        or rpc.method.server_streaming
        or raw in (rpc.request.full_name, rpc.response.full_name)
        or any(field.message_type and field.message_type.full_name == raw for field in fields)
        or "wait_seconds" in rpc.request.fields_by_name
    )


def test_no_rpc_has_two_rows() -> None:
    """In a dict the second would silently win over the first."""
    tree = ast.parse(Path(policy.__file__).read_text())
    table = next(
        node.value
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "POLICIES"
    )
    assert isinstance(table, ast.Dict)
    keys = Counter(ast.unparse(key) for key in table.keys if key is not None)
    assert [key for key, count in keys.items() if count > 1] == []


def test_an_rpc_without_a_row_is_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    service = admin_service_pb2.DESCRIPTOR.services_by_name["AdminService"]
    monkeypatch.delitem(POLICIES, f"/{service.full_name}/GetHealth")
    with pytest.raises(LookupError, match="GetHealth has no row"):
        methods.bind([(service, _Handlers())])


def test_an_rpc_without_a_handler_is_not_served() -> None:
    service = admin_service_pb2.DESCRIPTOR.services_by_name["AdminService"]
    with pytest.raises(LookupError, match="GetHealth has no handler"):
        methods.bind([(service, object())])


class _Handlers:
    def __getattr__(self, name: str) -> object:
        return lambda request, call: None


def _admits_strangers(row: Policy) -> bool:
    return Role.ANONYMOUS in row.roles


def _field(message: Descriptor, path: str) -> FieldDescriptor:
    *outer, last = path.split(".")
    for name in outer:
        inner = message.fields_by_name[name].message_type
        assert inner is not None, f"{path}: {name} is no message"
        message = inner
    return message.fields_by_name[last]


def _must_be_uuid(field: FieldDescriptor) -> bool:
    return "uuid" in _rules(field) and "ignore" not in _rules(field)


def _rules(field: FieldDescriptor) -> set[str]:
    return set(_names(field.GetOptions()))


def _names(message: object) -> Iterator[str]:
    for field, value in message.ListFields():  # type: ignore[attr-defined]
        yield field.name
        if hasattr(value, "ListFields"):
            yield from _names(value)
