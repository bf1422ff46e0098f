"""Which object serves an RPC: exactly one."""

from __future__ import annotations

import pytest
from moleculeai.workspace.v1 import workspace_service_pb2

from molecule_grpc.server.methods import bind

SERVICE = workspace_service_pb2.DESCRIPTOR.services_by_name["WorkspaceService"]
NAMES = [method.name for method in SERVICE.methods]


def serving(*names: str) -> object:
    return type("Handlers", (), {name: object() for name in names})()


def test_a_service_may_be_served_by_several_objects() -> None:
    one, other = serving(*NAMES[:3]), serving(*NAMES[3:])
    methods = bind([(SERVICE, one), (SERVICE, other)])
    assert [method.name for method in methods] == NAMES
    assert methods[0].handler is getattr(one, NAMES[0])
    assert methods[-1].handler is getattr(other, NAMES[-1])


def test_an_rpc_without_a_handler_is_not_served() -> None:
    with pytest.raises(LookupError, match=f"{NAMES[-1]} has no handlers"):
        bind([(SERVICE, serving(*NAMES[:-1]))])


def test_an_rpc_with_two_handlers_is_not_served() -> None:
    with pytest.raises(LookupError, match=f"{NAMES[0]} has 2 handlers"):
        bind([(SERVICE, serving(*NAMES)), (SERVICE, serving(NAMES[0]))])
