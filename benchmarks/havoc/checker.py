"""What was promised, compared with what the agents saw and what stands in the database."""

from __future__ import annotations

import collections
import itertools
from dataclasses import dataclass, field

import asyncpg

from benchmarks.havoc.history import History
from molecule_grpc.db.pool import connect

# Tables that must hold nothing of a purged workspace.
_TABLES = {
    "workspaces": "id",
    "workspace_auth_tokens": "workspace_id",
    "inbox_heads": "workspace_id",
    "inbox_items": "workspace_id",
    "activity_logs": "workspace_id",
    "a2a_queue": "workspace_id",
}


@dataclass(slots=True)
class Verdict:
    """What broke, by kind; each entry counts the broken things under their name."""

    lost: collections.Counter[str] = field(default_factory=collections.Counter)
    doubled: collections.Counter[str] = field(default_factory=collections.Counter)
    stuck: collections.Counter[str] = field(default_factory=collections.Counter)
    wrong: collections.Counter[str] = field(default_factory=collections.Counter)

    @property
    def broken(self) -> list[str]:
        """One line for each broken promise; empty when all were kept."""
        return [
            f"{kind}: {count} {name}"
            for kind, counted in self.kinds().items()
            for name, count in counted.items()
            if count
        ]

    def kinds(self) -> dict[str, collections.Counter[str]]:
        """The four kinds by their names."""
        return {
            "lost": self.lost,
            "doubled": self.doubled,
            "stuck": self.stuck,
            "wrong": self.wrong,
        }


async def check(dsn: str, history: History) -> Verdict:
    """Compare the history with the ledger, the inboxes and everything else that was promised."""
    verdict = Verdict()
    connection = await connect(dsn)
    try:
        await _check_ledger(connection, history, verdict)
        await _check_inboxes(connection, verdict)
        await _check_purges(connection, history, verdict)
    finally:
        await connection.close()
    _check_results(history, verdict)
    _check_files(history, verdict)
    _check_messages(history, verdict)
    verdict.wrong["revoked tokens that still opened something"] = len(history.alive)
    return verdict


async def _check_ledger(
    connection: asyncpg.Connection[asyncpg.Record], history: History, verdict: Verdict
) -> None:
    rows = await connection.fetch("SELECT delegation_id, status, result FROM delegations")
    ledger = {row["delegation_id"]: row for row in rows}
    verdict.lost["accepted delegations"] = len(set(history.accepted) - set(ledger))
    verdict.doubled["delegations more than tasks"] = max(
        0, len(ledger) - len(set(history.accepted.values()))
    )
    verdict.stuck["delegations without an end"] = sum(
        row["status"] not in ("completed", "failed") for row in rows
    )
    verdict.wrong["delegations that did not complete with their text"] = sum(
        (ledger[name]["status"], ledger[name]["result"]) != ("completed", f"done: {task}")
        for name, task in history.accepted.items()
        if name in ledger and name not in history.abandoned
    )


async def _check_inboxes(connection: asyncpg.Connection[asyncpg.Record], verdict: Verdict) -> None:
    verdict.doubled["ends in their caller's inbox"] = await connection.fetchval(
        """SELECT count(*) FROM (
               SELECT FROM inbox_items WHERE method = 'delegate_result'
               GROUP BY workspace_id, delegation_id HAVING count(*) > 1) d"""
    )
    verdict.lost["inboxes with holes"] = await connection.fetchval(
        """SELECT count(*) FROM (
               SELECT h.workspace_id FROM inbox_heads h LEFT JOIN inbox_items x USING (workspace_id)
               GROUP BY h.workspace_id, h.last_seq, h.oldest_seq
               HAVING count(x.seq) <> h.last_seq - h.oldest_seq + 1) d"""
    )


async def _check_purges(
    connection: asyncpg.Connection[asyncpg.Record], history: History, verdict: Verdict
) -> None:
    for table, column in _TABLES.items():
        verdict.wrong[f"rows of purged workspaces in {table}"] = await connection.fetchval(
            f"SELECT count(*) FROM {table} WHERE {column} = ANY($1)", history.purged
        )


def _check_results(history: History, verdict: Verdict) -> None:
    verdict.lost["ends that their caller never heard of"] = len(
        set(history.accepted) - set(history.results)
    )
    verdict.doubled["results that came again without a mark"] = history.unmarked


def _check_files(history: History, verdict: Verdict) -> None:
    received = collections.Counter(name for name, _ in history.received_files)
    verdict.lost["files"] = len(set(history.sent_files) - set(received))
    verdict.doubled["files"] = sum(count > 1 for count in received.values())
    verdict.wrong["files with other bytes"] = sum(
        history.sent_files.get(name) != digest for name, digest in history.received_files
    )


def _check_messages(history: History, verdict: Verdict) -> None:
    """A reader that resumes from the last number it saw must see each number once, in order."""
    numbers = [seq for seq, _ in history.followed]
    texts = collections.Counter(text for _, text in history.followed)
    verdict.lost["messages to a following reader"] = len(set(history.sent_messages) - set(texts))
    verdict.doubled["messages to a following reader"] = sum(count > 1 for count in texts.values())
    verdict.wrong["places at which a following reader's numbers jump"] = sum(
        following != number + 1 for number, following in itertools.pairwise(numbers)
    )
