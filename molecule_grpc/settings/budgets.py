"""Budgets: how much of what all share one organisation, workspace or token may use at once."""

from __future__ import annotations

from dataclasses import dataclass

from molecule_grpc.settings.values import COUNT, SECONDS, setting, whole

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetSettings:
    """What may be in use at once. Each worker counts by itself.

    Args:
        processor_ms_organization: milliseconds of each second that one organisation's calls use on
            the event loop while others call; 1000 lifts the limit.
        processor_patience: seconds that a call waits for its turn on the event loop.
        statements_organization: connections of the pool that one organisation's calls hold.
        statements_token: connections of the pool that one token's calls hold.
        statement_patience: seconds that a call waits for its turn.
        searches_worker: searches of records that run.
        searches_organization: searches of one organisation that run.
        search_seconds: seconds after which a search is given up.
        streams_worker: streams, long polls, waits and uploads that are open.
        streams_organization: the same, of one organisation.
        streams_token: the same, of one token.
        streams_workspace: the same, of one workspace.
        stream_bytes_organization: bytes of messages that an organisation's streams have not taken.
        uploads_worker: requests that bring files to be kept, under way; further ones wait 30 s.
        uploads_organization: the same, of one organisation.
        lookups_worker: host names of agents that are being looked up.
        lookups_organization: the same, of one organisation.
        calls_worker: calls to agents at their URLs that are open; at most half of the files that
            the process may open.
        calls_organization: the same, of one organisation.
        calls_target: the same, of one agent that is called.
        call_bytes_worker: bytes of the messages of open calls to agents.
        call_bytes_organization: the same, of one organisation.
        access_worker: files, logs and terminals of workspaces that are open; an engine is asked by
            at most 100 connections.
        access_organization: the same, of one organisation.
        access_workspace: the same, of one workspace.
    """

    processor_ms_organization: int = setting(
        "MOLECULE_PROCESSOR_MS_PER_ORGANIZATION", whole(1, 1000), 250
    )
    processor_patience: float = setting("MOLECULE_PROCESSOR_PATIENCE_SECONDS", SECONDS, 10.0)
    statements_organization: int = setting("MOLECULE_STATEMENTS_PER_ORGANIZATION", COUNT, 6)
    statements_token: int = setting("MOLECULE_STATEMENTS_PER_TOKEN", COUNT, 4)
    statement_patience: float = setting("MOLECULE_STATEMENT_PATIENCE_SECONDS", SECONDS, 10.0)
    searches_worker: int = setting("MOLECULE_SEARCHES_PER_WORKER", COUNT, 2)
    searches_organization: int = setting("MOLECULE_SEARCHES_PER_ORGANIZATION", COUNT, 1)
    search_seconds: float = setting("MOLECULE_SEARCH_TIMEOUT_SECONDS", SECONDS, 2.0)
    streams_worker: int = setting("MOLECULE_STREAMS_PER_WORKER", COUNT, 20_000)
    streams_organization: int = setting("MOLECULE_STREAMS_PER_ORGANIZATION", COUNT, 5_000)
    streams_token: int = setting("MOLECULE_STREAMS_PER_TOKEN", COUNT, 2_500)
    streams_workspace: int = setting("MOLECULE_STREAMS_PER_WORKSPACE", COUNT, 1_500)
    stream_bytes_organization: int = setting(
        "MOLECULE_STREAM_BYTES_PER_ORGANIZATION", COUNT, 64 * _MIB
    )
    uploads_worker: int = setting("MOLECULE_UPLOADS_PER_WORKER", COUNT, 32)
    uploads_organization: int = setting("MOLECULE_UPLOADS_PER_ORGANIZATION", COUNT, 8)
    lookups_worker: int = setting("MOLECULE_LOOKUPS_PER_WORKER", COUNT, 2_000)
    lookups_organization: int = setting("MOLECULE_LOOKUPS_PER_ORGANIZATION", COUNT, 100)
    calls_worker: int = setting("MOLECULE_CALLS_PER_WORKER", COUNT, 4_000)
    calls_organization: int = setting("MOLECULE_CALLS_PER_ORGANIZATION", COUNT, 1_000)
    calls_target: int = setting("MOLECULE_CALLS_PER_AGENT", COUNT, 100)
    call_bytes_worker: int = setting("MOLECULE_CALL_BYTES_PER_WORKER", COUNT, 256 * _MIB)
    call_bytes_organization: int = setting("MOLECULE_CALL_BYTES_PER_ORGANIZATION", COUNT, 64 * _MIB)
    access_worker: int = setting("MOLECULE_ACCESS_PER_WORKER", whole(1, 90), 90)
    access_organization: int = setting("MOLECULE_ACCESS_PER_ORGANIZATION", COUNT, 30)
    access_workspace: int = setting("MOLECULE_ACCESS_PER_WORKSPACE", COUNT, 10)
