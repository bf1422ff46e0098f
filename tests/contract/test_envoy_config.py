"""The edge's configuration is valid, current, and routes every RPC as its kind demands."""

from __future__ import annotations

import dataclasses
import functools
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from molecule_grpc.cli.dev_ca import CA, SERVER, SERVER_KEY, make_dev_ca
from molecule_grpc.server.edge.config import EdgeConfig, render
from molecule_grpc.server.edge.process import EdgeError, validate
from molecule_grpc.server.edge.surface import RestPath, read_surface
from molecule_grpc.server.edge.tls import TlsFiles, read_tls, write_secrets
from molecule_grpc.server.process.child import SILENT_SECONDS
from tools.descriptors import DEFAULT_PATH, Contract, Rpc

Json = dict[str, Any]

ADMIN = "moleculeai.admin.v1.AdminService"
RPCS = list(Contract.load().rpcs())
# Unary calls that may take minutes: long polls, and whatever an agent answers.
PATIENT = {"CallMcp", "CommitUpload", "Delegate", "PullInbox", "SendMessage"}
# Streams that are a file: no beat comes where their source is slow.
FILES = {"DownloadFile", "ExportMemories", "GetUploadContent", "ReadWorkspaceFile"}
CONFIGS = {
    "plain": EdgeConfig(port=18080, worker_sockets=[Path("/run/w0.sock"), Path("/run/w1.sock")]),
    "everything": EdgeConfig(
        port=18080,
        worker_sockets=[Path("/run/w0.sock")],
        metrics_port=18082,
        operator_port=18081,
        cors_origins=["http://localhost:3000", 'http://with"quote'],
        rate_limit_per_minute=600,
        stranger_calls_per_minute=600,
        access_log_share=0.01,
    ),
    "tls": EdgeConfig(port=18080, worker_sockets=[], tls_directory=Path("/run/tls")),
    "mutual tls": EdgeConfig(
        port=18080,
        worker_sockets=[],
        operator_port=18081,
        tls_directory=Path("/run/tls"),
        client_certificates=True,
    ),
    "open": EdgeConfig(port=18080, worker_sockets=[], cors_origins=["*"]),
}


def path_of(rpc: Rpc) -> str:
    return f"/{rpc.service}/{rpc.name}"


@functools.cache
def routes(config: str, listener: str = "public") -> list[Json]:
    """The route table of a listener under one of `CONFIGS`."""
    document = yaml.safe_load(render(CONFIGS[config], Path("/run/admin.sock")))
    (found,) = (one for one in document["static_resources"]["listeners"] if one["name"] == listener)
    (connection_manager,) = found["filter_chains"][0]["filters"]
    (host,) = connection_manager["typed_config"]["route_config"]["virtual_hosts"]
    table: list[Json] = host["routes"]
    return table


def route_of(table: list[Json], path: str) -> Json:
    """The route that a gRPC call of this path takes, as Envoy chooses it."""
    for route in table:
        match = route["match"]
        if "headers" in match:
            continue
        if match.get("path") == path or path.startswith(match.get("prefix", "\0")):
            return route
    raise AssertionError(f"{path} is not routed")


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_envoy_accepts_the_configuration_and_nothing_in_it_is_deprecated(
    config: EdgeConfig, tmp_path: Path
) -> None:
    if config.tls_directory is not None:
        make_dev_ca(tmp_path, ())
        files = TlsFiles(tmp_path / SERVER, tmp_path / SERVER_KEY, tmp_path / CA)
        config = dataclasses.replace(config, tls_directory=tmp_path)
        write_secrets(read_tls(files), tmp_path)
    path = tmp_path / "envoy.yaml"
    path.write_text(render(config, Path("/run/admin.sock")))
    assert "eprecated" not in validate(path)


def test_validation_finds_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "envoy.yaml"
    path.write_text(render(CONFIGS["plain"], Path("/run/admin.sock")).replace("clusters:", "x:"))
    with pytest.raises(EdgeError):
        validate(path)


def test_a_worker_alone_keeps_its_calls_until_it_counts_as_frozen() -> None:
    """It answers late because it is busy, or is killed and replaced: refusing helps in neither."""
    document = yaml.safe_load(render(CONFIGS["everything"], Path("/run/admin.sock")))
    workers = next(c for c in document["static_resources"]["clusters"] if c["name"] == "workers")
    (check,) = workers["health_checks"]
    patience = float(check["timeout"].removesuffix("s")) * check["unhealthy_threshold"]
    assert patience >= SILENT_SECONDS


@pytest.mark.parametrize("rpc", RPCS, ids=path_of)
def test_every_rpc_is_routed_with_the_patience_it_needs(rpc: Rpc) -> None:
    route = route_of(routes("plain"), path_of(rpc))["route"]
    assert route["cluster"] == "workers"
    sends, receives = rpc.method.client_streaming, rpc.method.server_streaming
    lasting = sends or receives or rpc.name in PATIENT
    assert (route["timeout"] == "0s") is lasting
    idle = None
    if lasting:
        beating = receives and rpc.name not in FILES
        idle = "70.0s" if beating else "300s" if sends else "0s"
    assert route.get("idle_timeout") == idle


@pytest.mark.parametrize("rpc", RPCS, ids=path_of)
def test_only_reads_are_tried_again_after_they_reached_a_worker(rpc: Rpc) -> None:
    reads = {binding.verb for binding in rpc.bindings} == {"GET"}
    streams = rpc.method.client_streaming or rpc.method.server_streaming
    policy = route_of(routes("plain"), path_of(rpc))["route"].get("retry_policy", {})
    assert ("unavailable" in policy.get("retry_on", "")) is (reads and not streams)


@pytest.mark.parametrize("rpc", RPCS, ids=path_of)
def test_an_operator_port_takes_admin_from_the_public_one(rpc: Rpc) -> None:
    public = route_of(routes("everything"), path_of(rpc))
    operator = route_of(routes("everything", "operator"), path_of(rpc))
    closed = rpc.service == ADMIN and rpc.name != "GetHealth"
    assert ("direct_response" in public) is closed
    assert operator["route"]["cluster"] == "workers"


def test_the_edge_reads_the_same_surface_as_the_other_tools() -> None:
    assert {
        (rpc.path, form.verb, form.template, rpc.sse)
        for rpc in read_surface(DEFAULT_PATH)
        for form in rpc.rest
    } == {
        (path_of(rpc), binding.verb, binding.path, rpc.face.sse)
        for rpc in RPCS
        for binding in rpc.bindings
    }


@pytest.mark.parametrize(
    ("template", "yes", "no"),
    [
        ("/workspaces/{workspace_id}", ["/workspaces/a-b.c"], ["/workspaces/", "/workspaces/a/b"]),
        ("/a-b/{x}/c.d", ["/a-b/1/c.d"], ["/a-b/1/cxd", "/aab/1/c.d", "/a-b/1/2/c.d"]),
        ("/files/{path=**}", ["/files/a/b", "/files/"], ["/file"]),
        ("/{name=p/*}:close", ["/p/1:close"], ["/q/1:close", "/p/1/2:close", "/p/1"]),
    ],
)
def test_a_path_template_matches_what_it_names(
    template: str, yes: list[str], no: list[str]
) -> None:
    regex = RestPath("GET", template).regex
    assert [path for path in yes + no if re.fullmatch(regex, path)] == yes


def test_every_stream_of_events_has_its_transcoder() -> None:
    paths = [binding.path for rpc in RPCS if rpc.face.sse for binding in rpc.bindings]
    forms = [
        filters["envoy.filters.http.grpc_json_transcoder"]["print_options"]
        for route in routes("plain")
        if "safe_regex" in route["match"]
        and "envoy.filters.http.grpc_json_transcoder"
        in (filters := route["typed_per_filter_config"])
    ]
    streaming = [form for form in forms if any(name.startswith("stream_") for name in form)]
    assert len(streaming) == 2 * len(paths)
    in_turn = [form.get("stream_newline_delimited", False) for form in streaming]
    assert in_turn == [True, False] * len(paths)


def test_little_of_an_upload_waits_in_the_edge() -> None:
    """The larger limit of its transcoder is what Envoy keeps for a worker in its own process."""
    taken = [rpc for rpc in read_surface(DEFAULT_PATH) if rpc.taking]
    patterns = [form.regex for rpc in taken for form in rpc.rest]
    found = {
        route["match"]["safe_regex"]["regex"]: route["typed_per_filter_config"]
        for route in routes("plain")
        if "safe_regex" in route["match"]
    }
    assert patterns
    for pattern in patterns:
        transcoder = found[pattern]["envoy.filters.http.grpc_json_transcoder"]
        sizes = transcoder["max_request_body_size"], transcoder["max_response_body_size"]
        assert max(sizes) <= 1024 * 1024
