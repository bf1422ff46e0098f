"""The budgets of one worker: what all organisations share, and how much of it each may use."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from prometheus_client import Counter as Metric
from prometheus_client import Gauge

from molecule_grpc.kernel import open_files
from molecule_grpc.kernel.budget import WORKER, Budget, Turns
from molecule_grpc.kernel.payer import ORGANIZATION, TARGET, TOKEN, WORKSPACE
from molecule_grpc.kernel.processor import ProcessorTime, ProcessorTurns
from molecule_grpc.settings.budgets import BudgetSettings

_USED = Gauge(
    "molecule_grpc_budget_used",
    "What is in use at once, of each budget.",
    ["budget"],
    multiprocess_mode="livesum",
)
REFUSED = Metric(
    "molecule_grpc_budget_refused_total",
    "Calls that met the limit of a budget or a quota, by whose limit it was.",
    ["budget", "of"],
)
_PROCESSOR_WAITS = Metric(
    "molecule_grpc_processor_waits_total",
    "Calls, and messages of streams, that waited for their organisation's turn on the event loop.",
)
# Callers of one organisation that wait for the event loop, a statement, a search or an upload, in
# one worker.
_MOST_WAITING = 2_000
_UPLOAD_PATIENCE_SECONDS = 30.0
_WAITS = ("processor", "waits")


@dataclass(frozen=True, slots=True)
class Budgets:
    """What is in use at once in this worker.

    Args:
        processor: time of the event loop.
        statements: connections of the pool.
        searches: searches of records, which are costly statements.
        streams: everything that lasts: streams, long polls, waits, uploads under way.
        stream_bytes: bytes of messages that streams have not taken yet.
        uploads: requests that bring files to be kept: each holds a few MiB.
        lookups: questions to name servers, for URLs of agents.
        calls: calls to agents at their URLs, with and without a caller that waits.
        call_bytes: bytes of the messages of these calls.
        access: calls that reach into workloads: files, logs and terminals.
    """

    processor: ProcessorTurns
    statements: Turns
    searches: Turns
    streams: Budget
    stream_bytes: Budget
    uploads: Turns
    lookups: Budget
    calls: Budget
    call_bytes: Budget
    access: Budget
    _published: Counter[tuple[str, str]] = field(default_factory=Counter)

    @classmethod
    def of(cls, settings: BudgetSettings) -> Budgets:
        """The budgets that the settings ask for, nothing of them in use."""
        return cls(
            processor=_processor(settings),
            statements=_statements(settings),
            searches=_searches(settings),
            streams=Budget(
                "streams",
                {
                    WORKSPACE: settings.streams_workspace,
                    TOKEN: settings.streams_token,
                    ORGANIZATION: settings.streams_organization,
                    WORKER: settings.streams_worker,
                },
            ),
            stream_bytes=Budget(
                "bytes to streams", {ORGANIZATION: settings.stream_bytes_organization}
            ),
            uploads=_uploads(settings),
            lookups=Budget(
                "name lookups",
                {
                    ORGANIZATION: settings.lookups_organization,
                    WORKER: settings.lookups_worker,
                },
            ),
            calls=Budget(
                "calls to agents",
                {
                    TARGET: settings.calls_target,
                    ORGANIZATION: settings.calls_organization,
                    # Half of the files: a call that gets no socket would count against its agent.
                    WORKER: min(settings.calls_worker, open_files.limit() // 2),
                },
            ),
            call_bytes=Budget(
                "bytes to agents",
                {
                    ORGANIZATION: settings.call_bytes_organization,
                    WORKER: settings.call_bytes_worker,
                },
            ),
            access=Budget(
                "calls into workspaces",
                {
                    WORKSPACE: settings.access_workspace,
                    ORGANIZATION: settings.access_organization,
                    WORKER: settings.access_worker,
                },
            ),
        )

    @property
    def all(self) -> tuple[Budget, ...]:
        """Every budget of this worker."""
        return (
            self.processor.budget,
            self.statements.budget,
            self.searches.budget,
            self.streams,
            self.stream_bytes,
            self.uploads.budget,
            self.lookups,
            self.calls,
            self.call_bytes,
            self.access,
        )

    async def publish(self) -> None:
        """Set the metrics. Once a second: a metric set at each use would cost more than the use."""
        for budget in self.all:
            _USED.labels(budget.name).set(budget.used)
            for dimension, count in budget.refused.items():
                key = (budget.name, dimension)
                REFUSED.labels(*key).inc(count - self._published[key])
                self._published[key] = count
        waits = self.processor.waits
        _PROCESSOR_WAITS.inc(waits - self._published[_WAITS])
        self._published[_WAITS] = waits


def _processor(settings: BudgetSettings) -> ProcessorTurns:
    return ProcessorTurns(
        ProcessorTime(settings.processor_ms_organization),
        most_waiting=_MOST_WAITING,
        patience=settings.processor_patience,
    )


def _statements(settings: BudgetSettings) -> Turns:
    limits = {
        ORGANIZATION: settings.statements_organization,
        TOKEN: settings.statements_token,
    }
    return _turns("statements", limits, settings.statement_patience)


def _searches(settings: BudgetSettings) -> Turns:
    limits = {WORKER: settings.searches_worker, ORGANIZATION: settings.searches_organization}
    return _turns("searches", limits, settings.statement_patience)


def _uploads(settings: BudgetSettings) -> Turns:
    limits = {WORKER: settings.uploads_worker, ORGANIZATION: settings.uploads_organization}
    return _turns("uploads", limits, _UPLOAD_PATIENCE_SECONDS)


def _turns(name: str, limits: dict[str, int], patience: float) -> Turns:
    return Turns(Budget(name, limits), most_waiting=_MOST_WAITING, patience=patience)
