"""What travels on an inbox stream, as values: frames to the client, and frames from it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal, NamedTuple, TypeAlias
from uuid import UUID

from molecule_grpc.delegation.inbox.store.reads import InboxRow


class StartPosition(NamedTuple):
    """Where a stream begins. Without any field: at the first item that is not done.

    Args:
        after_seq: begin strictly after this item.
        generation: the generation of the inbox that `after_seq` belongs to; empty: not checked.
        since_seconds: begin with items of the last so many seconds.
        from_now: begin with items that come from now on.
        allow_gap: when `after_seq` was pruned, begin at the oldest item and send a Gap.
    """

    after_seq: int | None = None
    generation: str = ""
    since_seconds: int | None = None
    from_now: bool = False
    allow_gap: bool = False


class Hello(NamedTuple):
    """How a consumer asks for an inbox.

    Args:
        consumer_id: the same id takes its own lease over without `takeover`.
        max_in_flight: most items sent and not done.
        initial_credit: items that may be sent before the first Credit; None counts no credit.
        takeover: take the inbox from another consumer whose lease is alive.
        resumes_epoch: the session that this one continues, so that its items count no failure.
    """

    workspace_id: UUID
    consumer_id: str
    start: StartPosition
    max_in_flight: int
    initial_credit: int | None = None
    takeover: bool = False
    resumes_epoch: int | None = None


# Frames from the consumer.


class AckFrame(NamedTuple):
    """Items are done: all up to `up_to`, and `seqs`."""

    up_to: int
    seqs: tuple[int, ...]


class NackFrame(NamedTuple):
    """An item is given back; it is delivered again `delay` seconds from now."""

    seq: int
    delay: float
    reason: str


class CreditFrame(NamedTuple):
    """So many more items may be sent."""

    items: int


class HeartbeatFrame(NamedTuple):
    """A heartbeat of the workspace: `beat` records it and returns the answer for the client."""

    beat: Callable[[], Awaitable[object]]


class PongFrame(NamedTuple):
    """The consumer is alive."""


ClientFrame: TypeAlias = AckFrame | NackFrame | CreditFrame | HeartbeatFrame | PongFrame


# Frames to the client.


class Welcome(NamedTuple):
    """Opens every stream. `session_epoch` is 0 when the stream takes no lease.

    Args:
        starts_after: the stream delivers items after this one.
    """

    generation: str
    session_epoch: int
    head_seq: int
    acked_seq: int
    oldest_seq: int
    starts_after: int


class Gap(NamedTuple):
    """Items that this stream leaves out, from the first to the last one."""

    from_seq: int
    to_seq: int
    reason: Literal["pruned", "skipped"]


class Item(NamedTuple):
    """An item, and the number of the one sent before it."""

    row: InboxRow
    prev_seq: int


class Beat(NamedTuple):
    """The stream is alive and had nothing else to send for a while."""

    head_seq: int
    acked_seq: int
    paused: bool


class AckResult(NamedTuple):
    """An ack is committed."""

    acked_seq: int
    head_seq: int


class NackResult(NamedTuple):
    """A nack is committed."""

    seq: int
    deliveries: int
    poisoned: bool


class HeartbeatResult(NamedTuple):
    """What the workspace's heartbeat was answered."""

    answer: object


class Drain(NamedTuple):
    """The client must come back, after so many milliseconds."""

    reconnect_after_ms: int


class Fenced(NamedTuple):
    """Another consumer holds the inbox now."""

    holder: str


Frame: TypeAlias = (
    Welcome | Gap | Item | Beat | AckResult | NackResult | HeartbeatResult | Drain | Fenced
)
