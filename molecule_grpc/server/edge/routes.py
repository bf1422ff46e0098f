"""What the edge derives from the protos: the route table, and the tables of its Lua face."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from molecule_grpc.server.edge.filters import Json
from molecule_grpc.server.edge.surface import RestPath, Rpc

# A client that accepts this media type reads a stream as one JSON object a line.
LINES = "application/x-ndjson"

_TYPE = "type.googleapis.com/"
ADMIN_SERVICE = "moleculeai.admin.v1.AdminService"
HEALTH_RPC = f"/{ADMIN_SERVICE}/GetHealth"
# Native gRPC only; their streams stay open.
_INFRASTRUCTURE = (
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
)
_TRANSCODER = "envoy.filters.http.grpc_json_transcoder"
_RATE_LIMIT = "envoy.filters.http.local_ratelimit"
_BUFFER = "envoy.filters.http.buffer"
_OFF = {"@type": _TYPE + "envoy.config.route.v3.FilterConfig", "disabled": True}
# Workers refuse a message of a gRPC call by its announced length, before they read the message.
_GRPC = {_BUFFER: _OFF}
# No RPC.
_PAGE = {_TRANSCODER: _OFF, _BUFFER: _OFF, _RATE_LIMIT: _OFF}
_NOT_FOUND = {"status": 404, "body": {"inline_string": "not found"}}
_NOT_GRPC = {
    "name": "content-type",
    "string_match": {"prefix": "application/grpc"},
    "invert_match": True,
    "treat_missing_header_as_empty": True,
}
_UNAUTHORIZED = {"status": 401, "body": {"inline_string": "missing or wrong metrics token"}}
_NEVER = "0s"
# A call that lasts may stand still for so long: an upload waits for its store.
_LASTING_IDLE = "300s"
# A REST body must have arrived by then.
_BODY_TIME_LIMIT = {"max_stream_duration": "120s"}
_UNARY_TIMEOUT = "60s"
_RETRY_READS = {
    # A stopping worker ends unfinished calls with CANCELLED or UNAVAILABLE.
    "retry_on": "connect-failure,refused-stream,reset,cancelled,unavailable",
    "num_retries": 2,
    "retry_host_predicate": [
        {
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": {
                "@type": _TYPE
                + "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
            },
        }
    ],
    "host_selection_retry_max_attempts": 30,
}


def routes(
    rpcs: list[Rpc],
    *,
    sse: Json,
    lines: Json,
    taking: Json,
    admin: bool,
    metrics: bool,
    metrics_token: str = "",
    hosted: bool = False,
    call_seconds: float = 60.0,
    stalled_seconds: float = 70.0,
    open_limit: Json | None = None,
) -> list[Json]:
    """The route table.

    Args:
        sse: transcoder for streams of server-sent events.
        lines: transcoder for streams of one JSON object a line.
        taking: transcoder for bodies of any length. The larger of its two limits is also what of
            a body Envoy keeps for a worker in its own process that does not read on.
        admin: whether AdminService is served, and not only its health.
        metrics: whether /metrics is served.
        metrics_token: what a caller of /metrics must show; empty for nothing.
        hosted: whether the worker in Envoy's own process answers, also for what is served nowhere.
        call_seconds: a call that may not last ends after so many seconds.
        stalled_seconds: a stream with a beat ends when nothing was passed on for so many seconds.
        open_limit: the rate limit of what asks for no token; None for none.
    """
    open_rate = {_RATE_LIMIT: open_limit or _OFF}
    table: list[Json] = []
    if hosted:
        table += [_to("workers", {"path": path}, _PAGE) for path in ("/healthz", "/metrics")]
    elif metrics:
        table += _metrics_routes(metrics_token)
    for rpc in rpcs:
        if rpc.sse:
            for form in rpc.rest:
                table += _stream_routes(form, sse, lines)
    for rpc in rpcs:
        if rpc.taking:
            table += [_taking_route(form, taking) for form in rpc.rest]
    # A probe must not run into the rate limit.
    table.append(_rest({"path": "/health"}, {_RATE_LIMIT: _OFF}))
    limits = f"{call_seconds}s", f"{stalled_seconds}s"
    table += _rpc_routes(rpcs, {HEALTH_RPC: open_rate}, *limits, admin=admin)
    for service in _INFRASTRUCTURE:
        table.append(
            _to(
                "workers",
                {"prefix": f"/{service}/"},
                {**open_rate, **_GRPC},
                timeout=_NEVER,
                idle_timeout=_NEVER,
            )
        )
    table.append(_rest({"prefix": "/"}))
    table.append({"match": {"prefix": "/"}, "direct_response": _NOT_FOUND})
    return table


def _metrics_routes(token: str) -> Iterator[Json]:
    match: Json = {"path": "/metrics"}
    if not token:
        yield _to("metrics", match, _PAGE)
        return
    shown = {"name": "authorization", "string_match": {"exact": f"Bearer {token}"}}
    yield _to("metrics", {**match, "headers": [shown]}, _PAGE)
    yield {
        "match": match,
        "direct_response": _UNAUTHORIZED,
        # Without a limit a stranger could try tokens at any rate.
        "typed_per_filter_config": {_TRANSCODER: _OFF, _BUFFER: _OFF},
    }


def _stream_routes(form: RestPath, sse: Json, lines: Json) -> Iterator[Json]:
    path: Json = {"safe_regex": {"regex": form.regex}}
    yield _rest(path, {_TRANSCODER: lines}, {"name": "accept", "string_match": {"contains": LINES}})
    yield _rest(path, {_TRANSCODER: sse})


def _taking_route(form: RestPath, transcoder: Json) -> Json:
    """An upload may have any length: the worker reads it as a stream, within its own limits."""
    verb = {"name": ":method", "string_match": {"exact": form.verb}}
    return _rest({"safe_regex": {"regex": form.regex}}, {**_GRPC, _TRANSCODER: transcoder}, verb)


def _rpc_routes(
    rpcs: Iterable[Rpc], filters: Mapping[str, Json], timeout: str, stalled: str, *, admin: bool
) -> Iterator[Json]:
    """Routes of native calls; `filters` are those of single RPCs, by path."""
    open_services: dict[str, None] = {}
    for rpc in rpcs:
        if rpc.service == ADMIN_SERVICE and not admin and rpc.path != HEALTH_RPC:
            continue
        open_services[rpc.service] = None
        options: Json = {"retry_policy": _RETRY_READS} if rpc.reading else {}
        if rpc.lasting:
            options["timeout"] = _NEVER
            options["idle_timeout"] = _LASTING_IDLE
        if rpc.silent:
            options["idle_timeout"] = stalled if rpc.beating else _NEVER
        if rpc.taking:
            # To retry, Envoy would have to hold the body in memory: most of an upload.
            options["retry_policy"] = {}
        more = filters.get(rpc.path, {})
        if options or more:
            options = {"timeout": timeout, **options}
            yield _to("workers", {"path": rpc.path}, {**_GRPC, **more}, **options)
    for service in open_services:
        if service != ADMIN_SERVICE or admin:
            yield _to("workers", {"prefix": f"/{service}/"}, _GRPC, timeout=timeout)


def _rest(match: Json, filters: Json | None = None, *headers: Json) -> Json:
    """What the filters do with a REST call.

    No call is forwarded by this route: the transcoder makes an RPC of it, which is matched anew, or
    answers 404. It must name a cluster all the same, or the CORS filter does nothing. Its limit of
    time holds while the body arrives.
    """
    matching = {**match, "headers": [_NOT_GRPC, *headers]}
    return _to("workers", matching, filters, max_stream_duration=_BODY_TIME_LIMIT)


def _to(cluster: str, match: Json, filters: Json | None = None, **options: Any) -> Json:
    route = {"cluster": cluster, "timeout": _UNARY_TIMEOUT, **options}
    table = {"typed_per_filter_config": filters} if filters else {}
    return {"match": match, "route": route, **table}


def face_tables(rpcs: Iterable[Rpc]) -> dict[str, str]:
    """For face.lua, as Lua: the REST paths with the fields that they bind, and all those fields.

    The paths with the fewest variables come first: `/events/stream` before `/events/{id}`.
    """
    paths: dict[str, list[Json]] = {}
    bound: dict[str, bool] = {}
    for taking, form in ((rpc.taking, form) for rpc in rpcs for form in rpc.rest):
        fields = [_canonical(field) for field in form.fields]
        bound |= dict.fromkeys(fields, True)
        entry = {
            "pattern": f"^{form.lua_pattern}$",
            "fields": fields,
            "marking": form.marking,
            "taking": taking,
        }
        paths.setdefault(form.verb, []).append(entry)
    for entries in paths.values():
        entries.sort(key=lambda entry: len(entry["fields"]))
    return {"paths": lua(paths), "bound": lua(bound)}


def _canonical(field: str) -> str:
    return field.replace("_", "").lower()


def lua(value: Any) -> str:
    """A Lua literal of JSON-like data whose texts are plain ASCII."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"[{json.dumps(k)}] = {lua(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "{" + ", ".join(map(lua, value)) + "}"
    return json.dumps(value)
