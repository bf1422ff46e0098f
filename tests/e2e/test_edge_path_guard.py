"""No query parameter makes the server see another value than the path says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import LONG
from tests.e2e.scripted_edge import ScriptedEdge, scripted_edge
from tools.descriptors import Binding, Contract, Rpc

PATH = "/workspaces/mine"
BINDINGS = [
    (rpc, binding, field)
    for rpc in Contract.load().rpcs()
    for binding in rpc.bindings
    for field in rpc.request.fields_by_name
    if f"{{{field}}}" in binding.path
]
# A variable of several segments, such as `{path=**}`.
_SEGMENTS = "=**}"


@pytest.fixture(scope="module")
async def edge() -> AsyncIterator[ScriptedEdge]:
    async with scripted_edge() as running:
        yield running


def values(rpc: Rpc, binding: Binding) -> dict[str, str]:
    """A value for each variable of the path."""
    fields = rpc.request.fields_by_name
    return {
        name: "7" if field.cpp_type == field.CPPTYPE_UINT32 else f"my-{name}"
        for name, field in fields.items()
        if f"{{{name}}}" in binding.path.replace(_SEGMENTS, "}")
    }


@pytest.mark.parametrize(
    ("rpc", "binding", "field"),
    BINDINGS,
    ids=[f"{binding.verb} {binding.path} {field}" for _, binding, field in BINDINGS],
)
async def test_every_bound_field_of_every_path_is_guarded(
    edge: ScriptedEdge, rpc: Rpc, binding: Binding, field: str
) -> None:
    mine = values(rpc, binding)
    path = binding.path.replace(_SEGMENTS, "}").format(**mine)
    for name in (field, rpc.request.fields_by_name[field].json_name):
        edge.script()
        other = await edge.http.request(binding.verb, f"{path}?{name}=8")
        assert (other.status_code, list(other.json())) == (400, ["error"])
        assert not edge.worker.calls
        same = await edge.http.request(binding.verb, f"{path}?{name}={mine[field]}")
        assert same.status_code == 200
        assert str(getattr(edge.worker.call.request, field)) == mine[field]


@pytest.mark.parametrize("path", ["/nowhere", "/workspaces/mine/nowhere", "/a/b?c=d"])
@pytest.mark.parametrize("value", ["mine", "other", ""])
async def test_a_path_that_is_unknown_is_404_whatever_the_query(
    edge: ScriptedEdge, path: str, value: str
) -> None:
    edge.script()
    joint = "&" if "?" in path else "?"
    for verb in ("GET", "POST"):
        answer = await edge.http.request(verb, f"{path}{joint}workspace_id={value}")
        assert (answer.status_code, answer.json()) == (404, {"error": "not found"})
    assert not edge.worker.calls


@pytest.mark.parametrize(
    "query",
    [
        "workspace_id=other",
        "workspaceId=other",
        "%77orkspace_id=other",
        "workspace%5fid=other",
        "work%73paceI%64=other",
        "workspace_id=min%66",
        "workspace_id=mine+",
        "workspace_id=Mine",
        "workspace_id=",
        "workspace_id=mine=",
        "workspace_id=mine&workspace_id=other",
        "workspace_id=other&workspace_id=mine",
        "include_removed=true&workspace_id=other",
        "&&workspace_id=other",
    ],
)
async def test_a_contradiction_is_refused_however_it_is_spelled(
    edge: ScriptedEdge, query: str
) -> None:
    edge.script()
    response = await edge.http.get(f"{PATH}?{query}")
    assert response.status_code == 400
    assert "workspace" in response.json()["error"].lower()
    assert not edge.worker.calls


@pytest.mark.parametrize(
    "query",
    [
        "workspace_id=mine",
        "workspaceId=m%69ne",
        "%77orkspace_id=mine&workspace_id=mine",
        "workspace_id=mine&include_removed=true",
        "%2577orkspace_id=other",
        "x=workspace_id=other",
        "x?workspace_id=other",
        "workspace+id=other",
    ],
)
async def test_a_repetition_and_what_is_no_such_parameter_pass(
    edge: ScriptedEdge, query: str
) -> None:
    edge.script()
    assert (await edge.http.get(f"{PATH}?{query}")).status_code == 200
    assert edge.worker.call.request.workspace_id == "mine"  # type: ignore[attr-defined]


async def test_an_encoded_segment_may_be_repeated_in_any_encoding(edge: ScriptedEdge) -> None:
    edge.script()
    response = await edge.http.get("/workspaces/a%20b?workspace_id=a%20%62")
    assert response.status_code == 200
    assert edge.worker.call.request.workspace_id == "a b"  # type: ignore[attr-defined]


async def test_a_field_is_free_on_paths_that_do_not_bind_it(edge: ScriptedEdge) -> None:
    edge.script()
    assert (await edge.http.get("/admin/delegations?workspace_id=w&limit=3")).status_code == 200
    assert edge.worker.call.request.limit == 3  # type: ignore[attr-defined]


async def test_another_content_type_does_not_open_the_guard(edge: ScriptedEdge) -> None:
    edge.script()
    for kind in ("application/grpcx", "application/grpc-webx", "application/grpc;a=b", "", "x"):
        headers = {"content-type": kind}
        response = await edge.http.get(f"{PATH}?workspace_id=other", headers=headers)
        assert response.status_code != 200
    assert not edge.worker.calls


def spelled(name: str) -> st.SearchStrategy[str]:
    """A name with any of its characters percent-encoded, once or twice, or in the other case."""
    ways = [
        st.sampled_from([char, char.swapcase(), f"%{ord(char):02x}", f"%25{ord(char):02x}"])
        for char in name
    ]
    return st.tuples(*ways).map("".join)


NAMES = st.sampled_from(["workspace_id", "workspaceId", "include_removed", "x"]).flatmap(spelled)
VALUES = st.one_of(spelled("mine"), st.text(max_size=8).map(quote))
SEPARATORS = st.sampled_from(["&", "&&", ";", "?", "%26"])


@settings(
    max_examples=200 if LONG else 60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(pairs=st.lists(st.tuples(NAMES, st.sampled_from("=+ "), VALUES, SEPARATORS), max_size=3))
async def test_whatever_the_query_the_server_sees_the_path(
    edge: ScriptedEdge, pairs: list[tuple[str, str, str, str]]
) -> None:
    edge.script()
    query = "".join("".join(pair) for pair in pairs).replace(" ", "")
    response = await edge.http.get(f"{PATH}?{query}")
    assert response.status_code in (200, 400), (query, response.text)
    assert [call.request.workspace_id for call in edge.worker.calls] in ([], ["mine"])  # type: ignore[attr-defined]
