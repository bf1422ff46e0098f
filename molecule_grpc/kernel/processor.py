"""The event loop's time as a budget: how much of it each organisation's calls use, and may use."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Hashable

from molecule_grpc.kernel.budget import Budget, Turns, Use
from molecule_grpc.kernel.errors import Exhausted
from molecule_grpc.kernel.payer import ORGANIZATION, Payer

# Rates are averages over about 1 s, looked at every 0.25 s.
_AVERAGE_SECONDS = 1.0
_LOOK_SECONDS = 0.25
# While all others together take less of the loop than this, nobody is limited.
_QUIET = 0.005
# More organisations than three that use their shares have this much of the loop together.
_TOGETHER = 0.75
# An organisation that was below its share may go beyond it by what 2 s of its share are.
_SAVED_SECONDS = 2.0
# One that went beyond its share waits for 4 s at most.
_OWED_SECONDS = 4.0
# What a call is taken to cost, in seconds of the loop, before any has ended.
_FIRST_ESTIMATE = 0.001
_LEAST_ESTIMATE = 0.00001
_FORGOTTEN = 0.0001
_SOONEST_SECONDS = 0.001


class Account:
    """What the calls of one organisation use of the event loop.

    Attributes:
        used: seconds of the loop, ever growing. Whoever runs a step of a call adds its time.
        rate: the share of the loop that was used lately.
        price: seconds until the next call for each second used; 0 while there is no limit.
        due: when the next call may begin.
        estimate: seconds that a call, or a message of a stream, took lately.
        turns: calls and messages that began since the last look.
        waiting: calls and messages that wait for their turn.
    """

    __slots__ = (
        "_settled",
        "due",
        "estimate",
        "looked",
        "prepaid",
        "price",
        "rate",
        "turns",
        "used",
        "waiting",
    )

    def __init__(self) -> None:
        self.used = self.looked = self._settled = 0.0
        self.rate = self.price = self.prepaid = 0.0
        self.due = -math.inf
        self.turns = self.waiting = 0
        self.estimate = _FIRST_ESTIMATE

    def behind(self, now: float) -> bool:
        """Whether the next call must wait."""
        self.settle(now)
        return self.due > now

    def settle(self, now: float) -> None:
        """Charge what was used since the last time, less what calls have paid when they began."""
        used, self._settled = self.used - self._settled, self.used
        covered = min(used, self.prepaid)
        self.prepaid -= covered
        due = max(self.due, now - _SAVED_SECONDS) + (used - covered) * self.price
        self.due = min(due, now + _OWED_SECONDS)

    def prepay(self) -> None:
        """A call begins: charge the average, so that those behind it do not begin at once, too."""
        self.prepaid += self.estimate
        self.due += self.estimate * self.price

    @property
    def active(self) -> bool:
        """Whether the organisation has called lately, or may be limited still."""
        return self.used != self.looked or self.rate > _FORGOTTEN or self.price > 0

    def lift(self, now: float) -> None:
        """There is no limit from now on."""
        self.price = 0.0
        self.due = min(self.due, now)

    def look(self, keep: float, elapsed: float, real: float) -> None:
        """Bring rate and estimate up to date, with the weight `keep` for what they were before.

        Args:
            real: the part of the measured time that was processor time.
        """
        used, self.looked = self.used - self.looked, self.used
        self.rate = self.rate * keep + used * real / elapsed * (1 - keep)
        if self.turns:
            self.estimate = max(_LEAST_ESTIMATE, (self.estimate + used / self.turns) / 2)
            self.turns = 0


class Meter:
    """Who pays for one call, and the account to which the time of its steps goes."""

    __slots__ = ("account", "who")

    def __init__(self, account: Account, who: Payer) -> None:
        self.account = account
        self.who = who


class ProcessorTime(Budget):
    """Counts the time that calls take on the event loop, in milliseconds of each second.

    Args:
        limit: milliseconds of each second that one organisation may use while others call; 1000
            for no limit.
        clock: by which steps of calls are measured, in seconds.
        processor_clock: seconds for which the loop's thread has run.
    """

    def __init__(
        self,
        limit: int,
        *,
        clock: Callable[[], float] = time.perf_counter,
        processor_clock: Callable[[], float] = time.thread_time,
    ) -> None:
        super().__init__("processor milliseconds a second", {ORGANIZATION: limit})
        self.clock = clock
        self._share = limit / 1000
        self._accounts: dict[Hashable, Account] = {}
        self._active: list[Account] = []
        self._looked_at = clock()
        self._processor_clock = processor_clock
        self._processor_at = processor_clock()
        self.look_at = self._looked_at + _LOOK_SECONDS

    def account(self, organization: Hashable) -> Account:
        """The account of an organisation."""
        account = self._accounts.get(organization)
        if account is None:
            account = self._accounts[organization] = Account()
        return account

    @property
    def used(self) -> int:
        """Milliseconds of each second that calls of everybody took lately."""
        return round(1000 * sum(account.rate for account in self._active))

    def uses(self, **keys: Hashable) -> list[Use]:
        """How much of the loop an organisation used lately."""
        if ORGANIZATION not in keys:
            return []
        account = self._accounts.get(keys[ORGANIZATION])
        used = round(1000 * account.rate) if account else 0
        return [Use(ORGANIZATION, used, self._limits[ORGANIZATION])]

    def full(self, **keys: Hashable) -> str:
        """`organization` when its next call must wait; empty otherwise."""
        return ORGANIZATION if self.account(keys[ORGANIZATION]).behind(self.clock()) else ""

    def count(self, amount: int, **keys: Hashable) -> None:
        """Calls of an organisation begin. Whoever leaves in this moment has paid all the same."""
        if amount > 0:
            self.account(keys[ORGANIZATION]).prepay()

    def refusal(self, dimension: str, **keys: Hashable) -> Exhausted:
        """What a caller reads whose call waited too long, or found too many waiting."""
        self.refused[dimension] += 1
        limit = self._limits[dimension]
        return Exhausted(
            "the organization uses too much processor time, try again later",
            metadata={"budget": self.name, "limit": str(limit), "of": dimension},
            retry_after=1,
            quota=(
                f"{dimension}:{keys[dimension]}",
                f"{self.name}: {limit} ms of each second for each {dimension} while others call",
            ),
        )

    def look(self, now: float) -> None:
        """Bring all rates up to date, and with them who is limited, and how much."""
        elapsed = now - self._looked_at
        self._looked_at, self.look_at = now, now + _LOOK_SECONDS
        keep = math.exp(-elapsed / _AVERAGE_SECONDS)
        self._active = [each for each in self._accounts.values() if each.active]
        real = self._real()
        for account in self._active:
            account.settle(now)
            account.look(keep, elapsed, real)
        total = sum(account.rate for account in self._active)
        price = real / self._allowed()
        for account in self._active:
            if self._share < 1 and total - account.rate >= _QUIET:
                account.price = price
            else:
                account.lift(now)

    def _real(self) -> float:
        """The part of the measured time in which this thread ran: other programs had the rest."""
        before, self._processor_at = self._processor_at, self._processor_clock()
        measured = sum(account.used - account.looked for account in self._active)
        return min(1.0, (self._processor_at - before) / measured) if measured else 1.0

    def next_due(self) -> float:
        """When the first of those that wait may begin."""
        return min((each.due for each in self._active if each.waiting), default=-math.inf)

    def _allowed(self) -> float:
        """The share of each organisation: less when more than three use theirs."""
        crowd = sum(account.rate > self._share / 2 for account in self._active)
        return min(self._share, max(self._share, _TOGETHER) / max(1, crowd))


class ProcessorTurns:
    """Lets calls of an organisation that has used its share wait, behind their own kind.

    Args:
        most_waiting: calls of one organisation that may wait.
        patience: seconds after which a call that waits is refused. Messages of streams wait on.

    Attributes:
        waits: how often a call or a message of a stream had to wait.
    """

    def __init__(self, budget: ProcessorTime, *, most_waiting: int, patience: float) -> None:
        self.budget = budget
        self.waits = 0
        self._calls = Turns(budget, most_waiting=most_waiting, patience=patience)
        self._streams = Turns(budget, most_waiting=None, patience=None)
        self._timer: asyncio.TimerHandle | None = None

    def meter(self, who: Payer) -> Meter:
        """A meter for a call of this payer."""
        return Meter(self.budget.account(who.organization), who)

    def charge(self, meter: Meter, who: Payer) -> None:
        """From now on this payer pays for the meter's call."""
        meter.who = who
        meter.account = self.budget.account(who.organization)

    def begins(self, meter: Meter) -> bool:
        """Whether a call, or a message of a stream, may begin at once; if so, it has begun.

        Else `await turn` or `message_turn`.
        """
        account = meter.account
        account.turns += 1
        now = self.budget.clock()
        if now >= self.budget.look_at:
            self.budget.look(now)
        if not account.price:
            return True
        if account.waiting or account.behind(now):
            return False
        account.prepay()
        return True

    async def turn(self, meter: Meter) -> None:
        """Wait until a call may begin.

        Raises:
            Exhausted: RESOURCE_EXHAUSTED: too many wait already, or the turn did not come in time.
        """
        await self._wait(self._calls, meter)

    async def message_turn(self, meter: Meter) -> None:
        """Wait until a stream may send or take its next message."""
        await self._wait(self._streams, meter)

    async def _wait(self, turns: Turns, meter: Meter) -> None:
        self.waits += 1
        if self._timer is None:
            self._arm()
        meter.account.waiting += 1
        try:
            await turns.take(**meter.who.keys)
        finally:
            meter.account.waiting -= 1

    def _arm(self) -> None:
        delay = self.budget.next_due() - self.budget.clock()
        delay = min(max(delay, _SOONEST_SECONDS), _LOOK_SECONDS)
        self._timer = asyncio.get_running_loop().call_later(delay, self._serve)

    def _serve(self) -> None:
        self._timer = None
        now = self.budget.clock()
        if now >= self.budget.look_at:
            self.budget.look(now)
        # Each turn charges its organisation in advance: the loop ends.
        while self._calls.serve() | self._streams.serve():
            pass
        if self._calls.any_waiting or self._streams.any_waiting:
            self._arm()
