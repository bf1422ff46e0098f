"""What the running server must hold to, as far as a client can know: delegations and inboxes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from moleculeai.delegation.v1 import delegation_pb2, inbox_pb2
from moleculeai.delegation.v1 import delegation_service_pb2 as pb

from tests.e2e.parties import Agent, Party, Refused
from tests.waiting import PATIENCE

Delegation = delegation_pb2.Delegation
RANK = {"queued": 0, "dispatched": 1, "in_progress": 2, "completed": 3, "failed": 3, "stuck": 3}
FINAL = ("completed", "failed", "stuck")
# How a call ends whose server is away or dies.
AWAY = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED")


async def insist(party: Party, request: Any) -> Any:
    """The answer, however often the server must be asked: every call here may be repeated."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await party.rpc(request)
            except Refused as refused:
                if refused.code not in AWAY:
                    raise
                await asyncio.sleep(0.05)


@dataclass
class Deal:
    """A delegation that was accepted.

    Args:
        handed: whether the platform hands it over, and not the caller itself.
        results: texts that somebody has reported, or may report.
        ends: how it may end, beside completed: a reason of failure, or `stuck`.
        failures: failures that were reported or answered, repeats not counted.
    """

    name: str
    caller: Agent
    callee: Agent
    task: str
    attempts: int = 1
    handed: bool = True
    results: set[str] = field(default_factory=set)
    ends: set[str] = field(default_factory=set)
    failures: int = 0
    seen: Delegation | None = None
    # The end that a call was told it had caused.
    told: tuple[str, str] | None = None
    # Whether somebody was told of a completion after the ledger had given up.
    late: bool = False

    @property
    def status(self) -> str:
        """As it was seen last."""
        return "queued" if self.seen is None else Delegation.Status.Name(self.seen.status)

    @property
    def given_up(self) -> bool:
        """Whether a completion would come late."""
        return self.status == "stuck" or (
            self.seen is not None and self.seen.failure_reason == delegation_pb2.deadline
        )

    async def look(self) -> None:
        """Read the delegation and check the transition from the state read before."""
        get = pb.GetDelegationRequest(workspace_id=self.caller.id, delegation_id=self.name)
        now = await insist(self.caller, get)
        before, self.seen = self.seen, now
        if before is not None:
            assert RANK[Delegation.Status.Name(before.status)] <= RANK[self.status]
            if Delegation.Status.Name(before.status) in FINAL:
                assert now == before, "what has ended changed"
        assert now.retry_count < self.attempts
        assert now.retry_count <= self.failures, "a repeat used up an attempt"
        if self.status in FINAL:
            self._check_end(now)

    def _check_end(self, now: Delegation) -> None:
        reason = delegation_pb2.FailureReason.Name(now.failure_reason)
        if self.status == "completed":
            assert now.result in self.results
        else:
            assert (reason if self.status == "failed" else "stuck") in self.ends
            assert not now.HasField("result")
            assert now.error
        if self.told is not None:
            what, text = self.told
            assert self.status == what
            assert text in (now.result, reason)

    def check_items(self, box: Box) -> None:
        """The caller hears of the end once, whole, and of work that came late once more."""
        ends = [
            item
            for item in box.items.values()
            if item.method == "delegate_result" and item.delegation_id == self.name
        ]
        first = [item for item in ends if not item.late]
        assert len(first) == (self.status in FINAL)
        for item in first:
            assert item.status == ("ok" if self.status == "completed" else "error")
            if self.status == "completed":
                assert self.seen is not None
                assert box.texts[item.seq] == self.seen.result
        late = len(ends) - len(first)
        assert late <= 1
        assert late or not self.late, "finished work was thrown away"


@dataclass
class Box:
    """An inbox: every item that was ever shown, and which of them are done."""

    owner: Agent
    items: dict[int, inbox_pb2.InboxItem] = field(default_factory=dict)
    texts: dict[int, str] = field(default_factory=dict, repr=False)
    done: set[int] = field(default_factory=set)
    head: int = 0

    async def look(self) -> None:
        """See what is undone now."""
        pull = pb.PullInboxRequest(workspace_id=self.owner.id, limit=100)
        page = await insist(self.owner, pull)
        assert page.head_seq >= self.head
        self.head = page.head_seq
        for item in page.items:
            assert item.seq not in self.done, "what is done came again"
            if item.seq not in self.items:
                self.items[item.seq] = item
                self.texts[item.seq] = await self._text(item)
            assert self.items[item.seq].message_id == item.message_id
        undone = [item.seq for item in page.items]
        assert undone == sorted(set(undone))
        assert page.acked_seq == self.reached, "the mark is not where the done ones end"

    async def _text(self, item: inbox_pb2.InboxItem) -> str:
        """The whole text, wherever it is."""
        if not item.body_ref:
            return item.text
        get = pb.GetActivityRequest(workspace_id=self.owner.id, activity_id=item.body_ref)
        row = await insist(self.owner, get)
        return str(row.response_body.struct_value["text"])

    @property
    def reached(self) -> int:
        """All up to here are done."""
        place = 0
        while place + 1 in self.done:
            place += 1
        return place

    @property
    def undone(self) -> list[int]:
        """Numbers of items that were shown and are not done."""
        return sorted(self.items.keys() - self.done)

    @property
    def missing(self) -> set[int]:
        """Numbers that were taken by items which have not been shown."""
        return set(range(1, self.head + 1)) - self.items.keys()
