"""Where a reader of an inbox begins, decided from its wish and from what the inbox holds."""

from __future__ import annotations

from molecule_grpc.delegation.inbox.frames import Gap, StartPosition
from molecule_grpc.delegation.inbox.store.reads import InboxPage
from molecule_grpc.kernel.errors import OutOfRange


def require_generation(generation: str, inbox_generation: str) -> None:
    """Raise unless a cursor's generation is the inbox's, or is not given.

    Raises:
        OutOfRange: CURSOR_UNKNOWN.
    """
    if generation and generation != inbox_generation:
        raise unknown_cursor()


def unknown_cursor() -> OutOfRange:
    """How a reader learns that its numbers may name other items here."""
    return OutOfRange(
        "the number belongs to another generation of this inbox: the installation was restored "
        "from a backup; start without a cursor",
        reason="CURSOR_UNKNOWN",
    )


def after_cursor(after_seq: int, page: InboxPage, *, allow_gap: bool) -> tuple[int, Gap | None]:
    """The item to start after, and the pruned items that lie between it and the cursor.

    Raises:
        OutOfRange: CURSOR_AHEAD, beyond the newest item; CURSOR_PRUNED, unless a gap is allowed.
    """
    place = {"oldest_seq": str(page.oldest_seq), "head_seq": str(page.head_seq)}
    if after_seq > page.head_seq:
        raise OutOfRange(
            "the cursor lies beyond the newest item", reason="CURSOR_AHEAD", metadata=place
        )
    if after_seq >= page.oldest_seq - 1:
        return after_seq, None
    if not allow_gap:
        raise OutOfRange(
            "the items after this cursor were pruned; start without a cursor",
            reason="CURSOR_PRUNED",
            metadata=place,
        )
    return page.oldest_seq - 1, Gap(after_seq + 1, page.oldest_seq - 1, "pruned")


def after_mark(start: StartPosition, page: InboxPage, first_since: int | None) -> int:
    """The item to start after without a cursor: the mark, or further on as the client asks.

    Args:
        first_since: the oldest item of the last `since_seconds`; None when there is none.
    """
    if start.from_now:
        return page.head_seq
    if start.since_seconds is not None:
        return page.head_seq if first_since is None else max(first_since - 1, page.acked_seq)
    return page.acked_seq


def skipped(after: int, page: InboxPage) -> Gap | None:
    """The undone items that a start position leaves out."""
    if after <= page.acked_seq:
        return None
    return Gap(page.acked_seq + 1, after, "skipped")
