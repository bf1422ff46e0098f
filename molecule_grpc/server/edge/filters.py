"""The configuration of single filters of the edge, as data."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from molecule_grpc.server import headers
from molecule_grpc.server.edge.surface import Rpc

Json = dict[str, Any]

_TYPE = "type.googleapis.com/envoy.extensions.filters.http."
_CORS_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"


def transcoder(
    rpcs: Iterable[Rpc], descriptor_set: Path, *, max_request: int, max_response: int, **form: bool
) -> Json:
    """The JSON transcoder. `form` adds print options, such as how a stream is delimited.

    A configuration on a route replaces the listener's, so each is complete.
    """
    return {
        "@type": _TYPE + "grpc_json_transcoder.v3.GrpcJsonTranscoder",
        "proto_descriptor": str(descriptor_set),
        "services": sorted({rpc.service for rpc in rpcs}),
        "print_options": {
            "preserve_proto_field_names": True,
            "always_print_primitive_fields": True,
            **form,
        },
        # One stray parameter must not make a call unintelligible.
        "ignore_unknown_query_parameters": True,
        "request_validation_options": {
            "reject_unknown_method": True,
            "reject_binding_body_field_collisions": True,
        },
        "max_request_body_size": max_request,
        "max_response_body_size": max_response,
    }


def is_status(status: int) -> Json:
    """Matches local replies, which Envoy makes itself, of this status."""
    value = {"default_value": status, "runtime_key": f"edge.local_reply_{status}"}
    return {"status_code_filter": {"comparison": {"op": "EQ", "value": value}}}


def has_details(details: str) -> Json:
    """Matches local replies whose reason Envoy calls `details`."""
    return {
        "extension_filter": {
            "name": "envoy.access_loggers.extension_filters.cel",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3"
                ".ExpressionFilter",
                "expression": f"response.code_details == '{details}'",
            },
        }
    }


def retry_after(per_minute: int) -> int:
    """Seconds until a client that ran into the limit may call once more."""
    return math.ceil(60 / per_minute) if per_minute else 60


def rate_limit(per_minute: int) -> Json:
    """A token bucket for each client address, refilled once a minute; 0 calls mean no limit."""
    share = {"default_value": {"numerator": 100 if per_minute else 0, "denominator": "HUNDRED"}}
    tokens = max(1, per_minute)
    bucket = {"max_tokens": tokens, "tokens_per_fill": tokens, "fill_interval": "60s"}
    retry = {"key": "retry-after", "value": str(retry_after(per_minute))}
    return {
        "@type": _TYPE + "local_ratelimit.v3.LocalRateLimit",
        "stat_prefix": "rate_limit",
        "filter_enabled": share,
        "filter_enforced": share,
        # Drawn on by calls without a descriptor: there are none, as each has a client address.
        "token_bucket": bucket,
        "always_consume_default_token_bucket": False,
        "rate_limits": [{"actions": [{"remote_address": {}}]}],
        "descriptors": [{"entries": [{"key": "remote_address"}], "token_bucket": bucket}],
        "max_dynamic_descriptors": 10_000,
        "response_headers_to_add": [{"header": retry}],
        "rate_limited_as_resource_exhausted": True,
    }


def cors(origins: Iterable[str]) -> Json:
    """Which web pages may read our answers; `*` admits all, without cookies."""
    allowed = list(origins)
    everyone = "*" in allowed
    exact = [{"exact": origin} for origin in allowed]
    return {
        "@type": _TYPE + "cors.v3.CorsPolicy",
        "allow_origin_string_match": [{"safe_regex": {"regex": ".*"}}] if everyone else exact,
        # With `*` allowed, cookies would go to sites that no operator has named.
        "allow_credentials": not everyone,
        "allow_methods": _CORS_METHODS,
        "allow_headers": ", ".join(headers.REQUEST),
        "expose_headers": ", ".join(headers.RESPONSE),
        "max_age": "600",
    }
