"""The configuration of single filters of the edge, as data."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from molecule_grpc.server import headers
from molecule_grpc.server.edge.surface import Rpc

Json = dict[str, Any]

_TYPE = "type.googleapis.com/envoy.extensions.filters.http."
_ADDRESS: Json = {"masked_remote_address": {"v6_prefix_mask_len": 64}}
_WITHOUT_TOKEN: Json = {
    "header_value_match": {
        "descriptor_value": "stranger",
        "expect_match": False,
        # An empty header is no token for the workers, either.
        "headers": [{"name": "authorization", "string_match": {"safe_regex": {"regex": ".+"}}}],
    }
}
_ANY = 2**32 - 1
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
        # Of a path of several segments, such as the name of a file: others always are.
        "url_unescape_spec": "ALL_CHARACTERS",
        # Forms write a blank in a query as a plus.
        "query_param_unescape_plus": True,
        # One stray parameter must not make a call unintelligible.
        "ignore_unknown_query_parameters": True,
        "request_validation_options": {
            "reject_unknown_method": True,
            "reject_binding_body_field_collisions": True,
        },
        "max_request_body_size": max_request,
        "max_response_body_size": max_response,
    }


def router() -> Json:
    """The last filter where workers are processes of their own."""
    return {
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": _TYPE + "router.v3.Router", "suppress_envoy_headers": True},
    }


def hosted_worker(module: Path, application: str) -> Json:
    """The last filter where the worker runs in Envoy's own process.

    Args:
        module: the shared library of the dynamic module.
        application: `module:attribute` of the ASGI application.
    """
    config = {"app": application, "interface": "asgi", "root_path": "", "lifespan": True}
    return {
        "name": "pyvoy",
        "typed_config": {
            "@type": _TYPE + "dynamic_modules.v3.DynamicModuleFilter",
            "dynamic_module_config": {"module": {"local": {"filename": str(module)}}},
            "filter_name": "pyvoy",
            "terminal_filter": True,
            "filter_config": {
                "@type": "type.googleapis.com/google.protobuf.StringValue",
                "value": json.dumps(config),
            },
        },
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


def retry_after(per_minute: int, strangers: int) -> int:
    """Seconds until a client that ran into a limit may call once more."""
    return max((math.ceil(60 / each) for each in (per_minute, strangers) if each), default=60)


def rate_limit(per_minute: int, strangers: int) -> Json:
    """Token buckets for each client address; 0 calls mean no limit.

    Args:
        per_minute: calls of an address, refilled once a minute.
        strangers: calls of an address without a token, refilled continuously. Networks of 64 bits
            count as one IPv6 address. Unknown tokens are counted by the workers.
    """
    limits: list[Json] = []
    descriptors: list[Json] = []
    if per_minute:
        limits.append({"actions": [{"remote_address": {}}]})
        bucket = {
            "max_tokens": per_minute,
            "tokens_per_fill": per_minute,
            "fill_interval": "60s",
        }
        descriptors.append({"entries": [{"key": "remote_address"}], "token_bucket": bucket})
    if strangers:
        limits.append({"actions": [_ADDRESS, _WITHOUT_TOKEN]})
        descriptors.append(_of_strangers("header_match", strangers))
    return _limiter(limits, descriptors, retry_after(per_minute, strangers))


def open_rate_limit(strangers: int) -> Json:
    """The limit of RPCs that ask for no token: the workers count none of the tokens they show.

    Args:
        strangers: calls of an address, with any token or none; 0 for no limit.
    """
    limits = [{"actions": [_ADDRESS, {"generic_key": {"descriptor_value": "stranger"}}]}]
    if not strangers:
        return _limiter([], [], 0)
    return _limiter(limits, [_of_strangers("generic_key", strangers)], retry_after(0, strangers))


def _of_strangers(key: str, number: int) -> Json:
    refilled = {
        "max_tokens": number,
        "tokens_per_fill": max(1, number // 60),
        "fill_interval": f"{max(1.0, 60 / number):.3f}s",
    }
    entries = [{"key": "masked_remote_address"}, {"key": key, "value": "stranger"}]
    return {"entries": entries, "token_bucket": refilled}


def _limiter(limits: list[Json], descriptors: list[Json], retry_seconds: int) -> Json:
    retry = {"key": "retry-after", "value": str(retry_seconds)}
    share = {"default_value": {"numerator": 100 if limits else 0, "denominator": "HUNDRED"}}
    return {
        "@type": _TYPE + "local_ratelimit.v3.LocalRateLimit",
        "stat_prefix": "rate_limit",
        "filter_enabled": share,
        "filter_enforced": share,
        # Drawn on by calls without a descriptor, which have no limit.
        "token_bucket": {"max_tokens": _ANY, "tokens_per_fill": _ANY, "fill_interval": "1s"},
        "always_consume_default_token_bucket": False,
        "rate_limits": limits,
        "descriptors": descriptors,
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
