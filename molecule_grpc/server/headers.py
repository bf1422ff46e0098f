"""Names of the HTTP headers that the server reads and sets: what CORS lets web pages use.

A contract test compares both lists with the names that the code mentions.
"""

from __future__ import annotations

# Read from requests, by the workers or by the edge. Scripts may send these.
REQUEST = (
    "authorization",
    "content-type",
    "grpc-timeout",
    "idempotency-key",
    "if-match",
    "if-none-match",
    "if-range",
    "last-event-id",
    "mcp-method",
    "mcp-name",
    "mcp-protocol-version",
    "origin",
    "range",
    "traceparent",
    "tracestate",
    "x-grpc-web",
    "x-request-id",
    "x-source-workspace-id",
    "x-timeout",
    "x-user-agent",
    "x-workspace-id",
)

# Set on responses. Scripts may read these, beside the few that browsers always show.
RESPONSE = (
    "accept-ranges",
    "allow",
    "content-disposition",
    "content-length",
    "content-range",
    "etag",
    "grpc-message",
    "grpc-status",
    "grpc-status-details-bin",
    "retry-after",
    "x-next-page-token",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "x-request-id",
)
