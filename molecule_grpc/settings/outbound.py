"""Calls to agents' URLs, and the queue of messages that could not be delivered."""

from __future__ import annotations

from dataclasses import dataclass

from molecule_grpc.settings.values import COUNT, SECONDS, setting, whole

# One message of gRPC carries an agent's answer: 16 MiB, less what stands around it.
_LARGEST_ANSWER_BYTES = 15 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundSettings:
    """Messages to agents. Times are in seconds.

    Args:
        max_body_bytes: largest A2A message that is taken.
        max_response_bytes: largest answer of an agent that is read.
        idle_timeout: silence of an agent after which a call is given up.
        header_timeout: the longest wait for the first line of an answer.
        ceiling: the longest that a call for an agent or the queue may take.
        canvas_wait: how long a human's call is held before its message goes on without it.
        drain_interval: pause between two looks at everything that waits.
        wake_interval: pause between two looks for hibernated agents for whom something waits.
        phantom_interval: pause between two looks for agents that say they are busy and do nothing.
        lease: how long a message in a worker's hands is believed to be sent.
        settle: how long an agent may take to get ready.
        retry: pause before a delegation's second try to reach its agent.
        backoff: first pause after a failure.
    """

    max_body_bytes: int = setting("MOLECULE_A2A_MAX_BODY_BYTES", COUNT, 1_048_576)
    max_response_bytes: int = setting(
        "MOLECULE_A2A_MAX_RESPONSE_BYTES", whole(1, _LARGEST_ANSWER_BYTES), 10_485_760
    )
    idle_timeout: float = setting("A2A_IDLE_TIMEOUT_SECONDS", SECONDS, 300.0)
    header_timeout: float = setting("A2A_PROXY_RESPONSE_HEADER_TIMEOUT", SECONDS, 1800.0)
    ceiling: float = setting("MOLECULE_A2A_CEILING_SECONDS", SECONDS, 1800.0)
    canvas_wait: float = setting("MOLECULE_A2A_CANVAS_WAIT_SECONDS", SECONDS, 90.0)
    drain_interval: float = setting("MOLECULE_A2A_DRAIN_INTERVAL_S", SECONDS, 10.0)
    wake_interval: float = setting("MOLECULE_A2A_WAKE_INTERVAL_S", SECONDS, 5.0)
    phantom_interval: float = setting("MOLECULE_PHANTOM_BUSY_INTERVAL_SECONDS", SECONDS, 300.0)
    lease: float = setting("MOLECULE_A2A_LEASE_SECONDS", SECONDS, 60.0)
    settle: float = setting("MOLECULE_A2A_SETTLE_SECONDS", SECONDS, 180.0)
    retry: float = setting("MOLECULE_A2A_RETRY_SECONDS", SECONDS, 8.0)
    backoff: float = setting("MOLECULE_A2A_BACKOFF_SECONDS", SECONDS, 5.0)
