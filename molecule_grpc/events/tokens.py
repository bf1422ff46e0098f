"""Resume tokens: a place in the feed, as the opaque text that clients hand back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from molecule_grpc.events.values import Position
from molecule_grpc.kernel.errors import Invalid, OutOfRange

_FIELD = "resume_after"


@dataclass(frozen=True, slots=True)
class ResumeTokens:
    """Makes and reads the tokens of one installation.

    Args:
        generation: of the installation; empty until it is restored from a backup. A token of
            another generation names a place in a future that was lost.
        kept_days: days for which kept events can be read.
    """

    generation: str
    kept_days: int

    def make(self, place: Position, moment: datetime) -> str:
        """A token for the place. Its moment tells when events behind the place were pruned."""
        token = f"{place.xact}.{place.position}.{int(moment.timestamp())}"
        return f"{token}.{self.generation}" if self.generation else token

    def read(self, token: str) -> Position:
        """The place that the token was made for.

        Raises:
            Invalid: the token is not one of ours.
            OutOfRange: CURSOR_UNKNOWN, the installation was restored since. CURSOR_PRUNED, events
                behind the place were pruned, so a reader would miss them.
        """
        try:
            numbers, generation = token.split(".")[:3], token.split(".")[3:]
            xact, position, moment = (int(number) for number in numbers)
            if not (0 <= xact < 2**63 and 0 <= position < 2**63 and len(generation) <= 1):
                raise ValueError("out of range")
            age = datetime.now(UTC) - datetime.fromtimestamp(moment, UTC)
        except (ValueError, OverflowError, OSError):
            raise Invalid("resume_after is not one of ours", field=_FIELD) from None
        if "".join(generation) != self.generation:
            raise OutOfRange(
                "the installation was restored from a backup after this token was made; start "
                "without it",
                reason="CURSOR_UNKNOWN",
            )
        if age > timedelta(days=self.kept_days):
            raise OutOfRange(
                "the events after this token were pruned; start without it", reason="CURSOR_PRUNED"
            )
        return Position(xact, position)
