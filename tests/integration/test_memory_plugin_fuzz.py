"""No input of a client makes our server of the contract fail."""

from __future__ import annotations

import functools
import json
from collections.abc import AsyncIterator
from urllib.parse import quote

import aiohttp
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from molecule_grpc.db.pool import Pool
from molecule_grpc.memory.contract.namespaces import NamespacePut
from molecule_grpc.memory.contract.postgres import PostgresStore
from molecule_grpc.memory.plugin.server import contract_application
from tests.conftest import LONG
from tests.integration.workspaces import ORGANIZATION
from tests.plugin_servers import serving

_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(
        ["custom:x", "fact", "agent", "custom", "2026-01-01T00:00:00Z", "\x00", "\ud800"]
    )
)
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
_FIELDS = st.sampled_from(
    [
        *("content", "kind", "source", "id", "expires_at", "propagation", "pin", "embedding"),
        *("created_at", "namespaces", "query", "kinds", "limit", "metadata"),
        "requested_by_namespace",
    ]
)
_BODIES = st.dictionaries(_FIELDS, _VALUES, max_size=6) | _VALUES
_RIGHT = {
    "content": "x",
    "kind": "fact",
    "source": "agent",
    "namespaces": ["custom:x"],
    "requested_by_namespace": "custom:x",
}
_NAMES = st.sampled_from(["custom:x", "custom:none", "UPPER", "x", "a" * 300]) | st.text(max_size=9)
_SEARCH = ("POST", "/v1/search")
_COMMIT = ("POST", "/v1/namespaces/{}/memories")
_DEEP: list[object] = functools.reduce(lambda inner, _: [inner], range(400), [])
_NAN = {"kind": "custom", "metadata": {"a": 1e999}}
_REQUESTS = st.sampled_from(
    [
        ("PUT", "/v1/namespaces/{}"),
        ("PATCH", "/v1/namespaces/{}"),
        ("DELETE", "/v1/namespaces/{}"),
        _COMMIT,
        ("GET", "/v1/namespaces/{}/memories?cursor={}"),
        _SEARCH,
        ("DELETE", "/v1/memories/{}"),
    ]
)


@pytest.fixture
async def url(pool: Pool) -> AsyncIterator[str]:
    store = PostgresStore(pool, ORGANIZATION)
    async with serving(contract_application(store)) as served:
        yield served


@settings(
    max_examples=100 if LONG else 40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(_REQUESTS, _NAMES, _BODIES, st.booleans())
@example(_SEARCH, "", {"namespaces": ["custom:x"], "embedding": [1e39]}, True)
@example(_SEARCH, "", {"embedding": [0.0, 0.0]}, True)
@example(_COMMIT, "custom:x", {"embedding": [1e39, 1.0]}, True)
@example(_COMMIT, "custom:x", {"embedding": [1.0] * 4096}, True)
@example(_COMMIT, "custom:x", {"created_at": "0001-01-01T00:00:00Z"}, True)
@example(_SEARCH, "", {}, True)
@example(_COMMIT, "custom:x", {"propagation": {"\x00": 1}}, True)
@example(_COMMIT, "custom:x", {"propagation": {"a": float("nan")}}, True)
@example(_COMMIT, "custom:x", {"propagation": {"a": "\ud800"}}, True)
@example(_COMMIT, "custom:x", {"propagation": {"a": _DEEP}}, True)
@example(_COMMIT, "custom:x", {"content": "word " * 19_999}, True)
@example(("GET", "/v1/namespaces/{}/memories?cursor={}"), "flat-1", None, False)
@example(("PUT", "/v1/namespaces/{}"), "custom:x", _NAN, False)
async def test_no_request_is_a_failure_of_the_server(
    pool: Pool, url: str, request_: tuple[str, str], name: str, body: object, right: bool
) -> None:
    await PostgresStore(pool, ORGANIZATION).put_namespace("custom:x", NamespacePut(kind="custom"))
    method, path = request_
    sent = {**_RIGHT, **body} if right and isinstance(body, dict) else body
    place = quote(name, safe="", errors="replace")
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url + path.replace("{}", place), data=json.dumps(sent)) as answer,
    ):
        assert answer.status < 500, await answer.text()
