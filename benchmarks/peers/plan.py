"""The rows of the table, in groups, and the targets."""

from __future__ import annotations

import re

from benchmarks.peers.delegations import ALONE, IN_FLIGHT, Delegations
from benchmarks.peers.heartbeats import CALLS, GO_CALLS, GO_GIN, GO_GRPC, GRPC, REST, STREAM, Beats
from benchmarks.peers.messages import FLAT_OUT, STEADY, Messages
from benchmarks.peers.rounds import Groups, Row, cpu, p50, p99, rate
from benchmarks.peers.sides import Side
from benchmarks.peers.targets import Target, difference

# Sides, by name.
GO_ONE, GO_GROUP = "Go, one statement", "Go, group commit"
FASTAPI, NATS = "FastAPI + asyncpg", "NATS JetStream"
DIRECT, BEHIND, INSIDE = "ours, grpc.aio direct", "ours, behind Envoy", "ours, inside Envoy"
ACROSS, FLOOR, EARLIER = "ours, inside Envoy, across", "floor inside Envoy", "earlier, direct"

Sides = dict[str, Side | str]


def groups_of(sides: Sides, beats: Beats, messages: Messages, delegations: Delegations) -> Groups:
    """All rows; a row is skipped if its side is the reason why that side cannot run."""
    return [
        *_heartbeats(sides, beats),
        *_messages(sides, messages),
        *(
            [
                delegations.row(name, sides[name], kind, f"{EARLIER}, {kind}")
                for name in (EARLIER, DIRECT, INSIDE)
            ]
            for kind in (IN_FLIGHT, ALONE)
        ),
    ]


def _heartbeats(sides: Sides, beats: Beats) -> Groups:
    go, grouped = sides[GO_ONE], sides[GO_GROUP]
    ours = {name: sides[name] for name in (DIRECT, BEHIND, INSIDE)}
    return [
        [
            beats.row("Go, grpc-go, one statement", go, GRPC),
            beats.row("Go, grpc-go, group commit", grouped, GRPC, GO_GRPC),
            *(beats.row(name, side, GRPC, GO_GRPC) for name, side in ours.items()),
            beats.row(FLOOR, sides[FLOOR], GRPC, GO_GRPC),
        ],
        [
            beats.row("Go, gin, one statement", go, REST),
            beats.row("Go, gin, group commit", grouped, REST, GO_GIN),
            beats.row(FASTAPI, sides[FASTAPI], REST, GO_GIN),
            *(beats.row(name, ours[name], REST, GO_GIN) for name in (BEHIND, INSIDE)),
            beats.row(FLOOR, sides[FLOOR], REST, GO_GIN),
        ],
        [
            beats.row("Go, grpc-go, one statement", go, CALLS),
            *(beats.row(name, side, STREAM, GO_CALLS) for name, side in ours.items()),
        ],
    ]


def _messages(sides: Sides, messages: Messages) -> Groups:
    return [
        [
            messages.row(NATS, sides[NATS], kind),
            *(
                messages.row(name, sides[name], kind, base)
                for name in (DIRECT, BEHIND, INSIDE, ACROSS)
            ),
        ]
        for kind, base in ((STEADY, ""), (FLAT_OUT, f"{NATS}, {FLAT_OUT}"))
    ]


def targets_of(ours: str) -> list[Target]:
    """The targets of the installation that is judged."""
    grpc, rest, stream = (f"{ours}, {kind}" for kind in (GRPC, REST, STREAM))
    group, floor = f"Go, grpc-go, group commit, {GRPC}", f"{FLOOR}, {GRPC}"
    return [
        Target("gRPC through the edge to Go, one statement", grpc, GO_GRPC, rate, 1.3),
        Target("gRPC through the edge to Go, group commit", grpc, group, rate, 0.7),
        Target("REST through the edge to gin, one statement", rest, GO_GIN, rate, 1.0),
        Target("CPU of REST to CPU of gRPC", rest, grpc, cpu, 1.35, at_least=False),
        Target("CPU above the floor, µs", grpc, floor, cpu, 30, difference, at_least=False),
        Target("heartbeats on the stream to Go, one statement", stream, GO_CALLS, rate, 2.0),
        Target("append to client, p99 ms", f"{ours}, {STEADY}", "", p99, 3, at_least=False),
        Target(
            "the same across two processes, p99 ms",
            f"{ACROSS}, {STEADY}",
            "",
            p99,
            6,
            at_least=False,
        ),
        Target("messages delivered a second", f"{ours}, {FLAT_OUT}", "", rate, 20_000),
        Target(
            "delegations in flight to the earlier version",
            f"{ours}, {IN_FLIGHT}",
            f"{EARLIER}, {IN_FLIGHT}",
            rate,
            2.0,
        ),
        Target("one delegation, p50 ms", f"{ours}, {ALONE}", "", p50, 3, at_least=False),
    ]


def leave_out(groups: Groups, only: str) -> None:
    """Skip the rows whose names the regular expression does not match."""
    rows: list[Row] = [row for group in groups for row in group]
    for row in rows:
        if not re.search(only, row.name):
            row.run, row.skipped = None, row.skipped or "not asked for"
