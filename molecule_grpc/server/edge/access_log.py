"""The log of calls: one line of JSON on standard output for each call that is drawn."""

from __future__ import annotations

from molecule_grpc.server.edge.filters import Json

_TYPE = "type.googleapis.com/envoy.extensions.access_loggers."
_MILLION = 1_000_000
_IS_GRPC = "request.headers['content-type'].startsWith('application/grpc')"
# What a client chooses is cut to 16, 256, 128, 255 and 128 bytes. `NQ` leaves the query out; a host
# behind a user and a password is left out, too.
_LINE = {
    "timestamp": "%START_TIME(%Y-%m-%dT%H:%M:%E6SZ)%",
    "level": "info",
    "event": "call",
    "verb": "%REQ(X-ENVOY-ORIGINAL-METHOD?:METHOD):16%",
    "path": "%PATH(NQ:ORIG_OR_PATH):256%",
    # The transcoder has put the RPC's path in the place of a REST call's.
    "rpc": f"%CEL({_IS_GRPC} && size(request.url_path) <= 128 ? request.url_path : '')%",
    "status": "%RESPONSE_CODE%",
    "bytes_in": "%BYTES_RECEIVED%",
    "bytes_out": "%BYTES_SENT%",
    "ms": "%DURATION%",
    "host": "%CEL(request.host.contains('@') || size(request.host) > 255 ? '' : request.host)%",
    "address": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "request_id": "%REQ(X-REQUEST-ID):64%",
    "client_id": "%REQ(X-CLIENT-TRACE-ID):128%",
}
# Where face.lua leaves the code of a REST call that failed, as it takes the header away.
_FACE, _CODE = "moleculeai.face", "code"


def access_log(share: float, process: str) -> list[Json]:
    """The access loggers of a listener, of which one writes each call that is drawn.

    Args:
        share: of all calls that is written; 0 for none, 1 for all.
        process: who answers, as the line says it.
    """
    if not share:
        return []
    return [
        _logger(share, {"process": process, "code": code}, failed_rest=failed_rest)
        for code, failed_rest in (
            (f"%DYNAMIC_METADATA({_FACE}:{_CODE})%", True),
            ("%GRPC_STATUS(SNAKE_STRING)%", False),
        )
    ]


def _logger(share: float, more: Json, *, failed_rest: bool) -> Json:
    drawn = {
        "runtime_key": "edge.access_log",
        "percent_sampled": {"numerator": round(share * _MILLION), "denominator": "MILLION"},
        # Else the request's id would decide.
        "use_independent_randomness": True,
    }
    # No code is null: only calls without a code match that.
    value: Json = {"present_match": True} if failed_rest else {"null_match": {}}
    matcher = {"filter": _FACE, "path": [{"key": _CODE}], "value": value}
    of_its_kind = {"matcher": matcher, "match_if_key_not_found": not failed_rest}
    filters = [{"metadata_filter": of_its_kind}, {"runtime_filter": drawn}]
    return {
        "name": "envoy.access_loggers.stdout",
        "filter": {"and_filter": {"filters": filters}},
        "typed_config": {
            "@type": _TYPE + "stream.v3.StdoutAccessLog",
            "log_format": {"json_format": _LINE | more},
        },
    }
